//! Every event that was ever released is read as it was meant, and replays, for ever.
//!
//! Each `log/*.jsonl` is one log from its beginning. A line is one event: as `rehull log export`
//! prints it, and in `stored` the bytes that stand for it on disk, in base64. Each `log/*.packs`
//! holds the first events of the file beside it as they lie in a plain file, in base64.
//!
//! Nothing here is ever changed or removed. To add a line for a new event, write it as JSON without
//! `stored`, behind lines that it can follow, and run this test: it prints the whole line.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rehull::{
    domain::{
        event::{CopiedPart, Event, Recorded},
        gate::{Blocker, Gate},
        plan::{Installer, Role},
        state::{Extent, Fleet, Kind, Outcome, Step, Subject},
    },
    log::{self, Log},
};
use rehull_shared::evidence::{Check, Source, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_reflection::{ContainerFormat, Registry, Samples, Tracer, TracerConfig};

/// Where a plain file keeps its packs.
const PLAIN_FILE: &str = "events.log";

/// One line.
struct Sample {
    place: String,
    /// All of the line but `stored`.
    readable: Value,
    /// What a person reads in it.
    meant: Recorded,
    stored: Option<Vec<u8>>,
}

fn files(extension: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/log");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|of| of == extension)).collect();
    files.sort();
    assert!(!files.is_empty(), "there are no {extension}");
    files
}

fn samples(file: &Path) -> Vec<Sample> {
    let name = file.file_name().unwrap().display();
    let text = fs::read_to_string(file).unwrap();
    let sample = |(index, line): (usize, &str)| {
        let place = format!("{name}:{}", index + 1);
        let mut readable: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
        let stored = readable.as_object_mut().unwrap().remove("stored");
        let stored = stored.map(|bytes| BASE64_STANDARD.decode(bytes.as_str().unwrap()).unwrap());
        let meant = serde_json::from_value(readable.clone())
            .unwrap_or_else(|error| panic!("{place} is no event: {error}"));
        Sample { place, readable, meant, stored }
    };
    text.lines().enumerate().map(sample).collect()
}

fn all() -> Vec<Sample> {
    files("jsonl").iter().flat_map(|file| samples(file)).collect()
}

/// The whole line for an event.
fn line(recorded: &Recorded) -> String {
    let mut stored = Vec::new();
    log::encode(recorded, &mut stored);
    let readable = serde_json::to_string(recorded).unwrap();
    let open = readable.strip_suffix('}').unwrap();
    format!("{open},\"stored\":\"{}\"}}", BASE64_STANDARD.encode(stored))
}

/// Whether everything in `old` is in `new`, which may have more.
fn is_kept(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            old.iter().all(|(key, old)| new.get(key).is_some_and(|new| is_kept(old, new)))
        }
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_kept(old, new))
        }
        (old, new) => old == new,
    }
}

#[test]
fn every_sample_is_read_as_it_was_meant() {
    let mut unfinished = String::new();
    for Sample { place, readable, meant, stored } in all() {
        let Some(stored) = stored else {
            writeln!(unfinished, "{place} has no bytes; the whole line is:\n{}", line(&meant))
                .unwrap();
            continue;
        };
        let read = log::decode(&stored).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(read, meant, "{place}");
        let now = serde_json::to_value(&read).unwrap();
        assert!(is_kept(&readable, &now), "{place} reads otherwise now:\n{readable}\n{now}");
        let mut again = Vec::new();
        log::encode(&read, &mut again);
        assert_eq!(log::decode(&again), Ok(read), "{place}");
    }
    assert!(unfinished.is_empty(), "{unfinished}");
}

#[test]
fn every_file_of_samples_replays() {
    for file in files("jsonl") {
        let mut fleet = Fleet::default();
        for Sample { place, meant, .. } in samples(&file) {
            fleet.evolve(&meant).unwrap_or_else(|corrupt| panic!("{place}: {corrupt}"));
        }
        assert!(!fleet.migrations.is_empty(), "{}", file.display());
    }
}

#[test]
fn stored_packs_are_opened_for_ever() {
    let newest = files("jsonl").pop().unwrap();
    if !newest.with_extension("packs").exists() {
        panic!("{} has no packs beside it; they are\n{}", newest.display(), packed(&newest));
    }
    for file in files("packs") {
        let dir = tempfile::tempdir().unwrap();
        let text: String = fs::read_to_string(&file).unwrap().split_whitespace().collect();
        fs::write(dir.path().join(PLAIN_FILE), BASE64_STANDARD.decode(text).unwrap()).unwrap();
        let log = Log::attach_file(dir.path()).unwrap();
        let mut read = Vec::new();
        log.replay(|_, recorded| read.push(recorded)).unwrap();
        log.verify(|_, _| ()).unwrap();
        let meant = samples(&file.with_extension("jsonl")).into_iter().map(|sample| sample.meant);
        assert_eq!(read, meant.take(read.len()).collect::<Vec<_>>(), "{}", file.display());
        assert!(read.len() > 30, "{} has only {} events", file.display(), read.len());
    }
}

/// The content of `.packs` for a file of samples: one event alone, and the rest together.
fn packed(file: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::attach_file(dir.path()).unwrap();
    let events: Vec<_> = samples(file).into_iter().map(|sample| sample.meant).collect();
    log.append(&events[..1]).unwrap();
    log.append(&events[1..]).unwrap();
    let text = BASE64_STANDARD.encode(fs::read(dir.path().join(PLAIN_FILE)).unwrap());
    text.as_bytes().chunks(100).map(|line| format!("{}\n", line.escape_ascii())).collect()
}

#[test]
fn every_shape_of_an_event_has_a_sample() {
    let missing: Vec<String> = shapes().difference(&seen()).cloned().collect();
    assert!(
        missing.is_empty(),
        "no line of tests/tests/log has {}: add one to {} (how is said in tests/tests/samples.rs)",
        missing.join(", "),
        files("jsonl").pop().unwrap().display()
    );
}

#[test]
fn a_field_that_came_later_has_its_default_in_what_was_written_before() {
    let older = |event: &&Sample| {
        let fields = event.readable.pointer("/event/MigrationStarted");
        fields.is_some_and(|fields| fields.get("nodes").is_none())
    };
    let all = all();
    let sample = all.iter().find(older).expect("one from before the number of nodes was written");
    let stored = sample.stored.as_ref().expect("its bytes: the printed line is of today");
    match log::decode(stored).unwrap().event {
        Event::MigrationStarted { nodes, by, .. } => assert_eq!((nodes, by.as_str()), (0, "ann")),
        other => panic!("{other:?}"),
    }
    let mut today = Vec::new();
    log::encode(&sample.meant, &mut today);
    assert!(today.len() > stored.len(), "today's bytes have the field");
}

/// Every variant of every enum that events are made of, as `Enum::Variant`.
fn shapes() -> BTreeSet<String> {
    // Names and profiles are checked when they are read: this text passes for each of them.
    let config = TracerConfig::default()
        .default_string_value("centos-7.9".to_owned())
        .default_borrowed_bytes_value(&[0; 16]);
    let mut tracer = Tracer::new(config);
    fn trace<T: DeserializeOwned>(tracer: &mut Tracer) {
        tracer.trace_simple_type::<T>().unwrap();
    }
    trace::<Recorded>(&mut tracer);
    // An enum inside of another one is only walked through if it is asked for by name.
    trace::<Event>(&mut tracer);
    trace::<Blocker>(&mut tracer);
    trace::<Check>(&mut tracer);
    trace::<CopiedPart>(&mut tracer);
    trace::<Extent>(&mut tracer);
    trace::<Gate>(&mut tracer);
    trace::<Installer>(&mut tracer);
    trace::<Kind>(&mut tracer);
    trace::<Outcome>(&mut tracer);
    trace::<Role>(&mut tracer);
    trace::<Source>(&mut tracer);
    trace::<Step>(&mut tracer);
    trace::<Subject>(&mut tracer);
    trace::<Verdict>(&mut tracer);
    variants(&tracer.registry().unwrap())
}

/// The same, of the samples.
fn seen() -> BTreeSet<String> {
    let (mut tracer, mut values) = (Tracer::new(TracerConfig::default()), Samples::new());
    for sample in all() {
        tracer.trace_value(&mut values, &sample.meant).unwrap();
    }
    // Unchecked: a list may be empty in all of them.
    variants(&tracer.registry_unchecked())
}

fn variants(registry: &Registry) -> BTreeSet<String> {
    let of = |(container, format): (&String, &ContainerFormat)| match format {
        ContainerFormat::Enum(variants) => {
            variants.values().map(|variant| format!("{container}::{}", variant.name)).collect()
        }
        _ => Vec::new(),
    };
    registry.iter().flat_map(of).collect()
}
