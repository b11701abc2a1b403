//! Rules about the sources that people forget: who may import whom, and that no file is dead.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file below a folder, or the one of this name, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    if folder.ends_with(".rs") {
        let text = fs::read_to_string(root().join(folder)).unwrap();
        return vec![(folder.to_owned(), text)];
    }
    let mut found = Vec::new();
    let mut todo = vec![root().join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// The part of a source that is not its tests, without comments.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = body.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Files below `folder` whose code names one of `words`, but for the `allowed` ones.
fn offenders(folder: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources(folder) {
        let code = code(&text);
        let is_allowed = allowed.iter().any(|prefix| name.starts_with(prefix));
        for word in words.iter().filter(|word| !is_allowed && code.contains(*word)) {
            found.push(format!("{name} names {word}"));
        }
    }
    found
}

const SRC: &str = "coordinator/src";

/// What a pure function has no use for.
const WORLD: [&str; 13] = [
    "tokio",
    "tonic",
    "kube::",
    "tracing",
    "futures",
    "std::fs",
    "std::net",
    "std::time",
    "std::env",
    "std::process",
    "std::thread",
    "async ",
    "rehull_proto",
];

#[test]
fn the_rules_know_nothing_of_the_world() {
    let layers = [
        "sled",
        "rehull_shared::time::now",
        "time::now(",
        "crate::engine",
        "crate::effects",
        "crate::ingest",
        "crate::log",
        "crate::projection",
        "crate::clients",
    ];
    assert_eq!(
        offenders("coordinator/src/domain", &[&WORLD[..], &layers].concat(), &[]),
        Vec::<String>::new()
    );
}

#[test]
fn the_capacity_preflight_sees_objects_and_nothing_else() {
    let layers = ["rehull_shared::time", "crate::domain", "crate::effects", "crate::clients"];
    for place in ["coordinator/src/capacity", "coordinator/src/capacity.rs"] {
        assert_eq!(offenders(place, &[&WORLD[..], &layers].concat(), &[]), Vec::<String>::new());
    }
}

#[test]
fn nothing_of_sled_is_outside_the_log() {
    let allowed = ["coordinator/src/log"];
    assert_eq!(offenders(SRC, &["sled::"], &allowed), Vec::<String>::new());
}

#[test]
fn only_the_engine_writes_the_log() {
    let allowed = ["coordinator/src/log", "coordinator/src/engine.rs"];
    assert_eq!(offenders(SRC, &["Log::open(", ".log.append("], &allowed), Vec::<String>::new());
}

#[test]
fn nothing_in_ingest_or_effects_decides() {
    for folder in ["coordinator/src/ingest", "coordinator/src/effects"] {
        let found = offenders(folder, &["decide::", ".evolve(", "GatePassed"], &[]);
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn ingest_and_effects_do_not_know_each_other() {
    let found = offenders("coordinator/src/effects", &["crate::ingest"], &[]);
    assert_eq!(found, Vec::<String>::new());
    let found = offenders("coordinator/src/ingest", &["crate::clients::real"], &[]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_agent_and_the_shared_words_do_not_know_the_coordinator() {
    for folder in ["agent/src", "shared/src", "proto/src"] {
        let found = offenders(folder, &["rehull::", "kube::", "sled::"], &[]);
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn no_file_is_dead() {
    for folder in ["agent/src", "coordinator/src", "shared/src", "tests/src", "deploy/src"] {
        let all = sources(folder);
        for (name, _) in &all {
            let path = Path::new(name);
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            if ["lib", "main"].contains(&stem.as_str()) || name.contains("/generated/") {
                continue;
            }
            let declared = format!("mod {stem};");
            let parents = all.iter().filter(|(other, _)| other != name);
            let is_declared = parents.into_iter().any(|(_, text)| text.contains(&declared));
            assert!(is_declared, "{name} is compiled into nothing: no `{declared}`");
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for crate_dir in ["agent", "coordinator", "deploy", "proto", "shared", "tests"] {
        let manifest = fs::read_to_string(root().join(crate_dir).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{crate_dir}/Cargo.toml");
    }
}

#[test]
fn no_test_is_skipped_in_silence() {
    for folder in ["agent", "coordinator", "deploy", "proto", "shared", "tests/src", "tests/tests"]
    {
        let ignored = concat!("#[", "ignore");
        for (name, text) in sources(folder) {
            assert!(!text.contains(ignored), "{name} ignores a test");
        }
    }
}
