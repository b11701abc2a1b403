//! The generated code is the one that the `.proto` files give. `REGENERATE=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::{fs, path::Path};

use prost::Message;

const SOURCES: [&str; 2] = ["rehull/v1/agent.proto", "rehull/v1/operator.proto"];

#[test]
fn generated_code_is_that_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let descriptors = protox::compile(SOURCES.map(|file| root.join(file)), [root]).unwrap();
    let mut stripped = descriptors.clone();
    for file in &mut stripped.file {
        file.source_code_info = None; // comments are no part of reflection
    }
    let fresh = tempfile_dir();
    fs::write(fresh.join("rehull.v1.bin"), stripped.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .out_dir(&fresh)
        .type_attribute(".", "#[derive(serde::Serialize)]")
        // What an agent keeps in its journal.
        .type_attribute(".rehull.v1.Process", "#[derive(serde::Deserialize)]")
        .type_attribute(".rehull.v1.OrderDone", "#[derive(serde::Deserialize)]")
        .compile_fds(descriptors)
        .unwrap();
    for name in ["rehull.v1.rs", "rehull.v1.bin"] {
        let new = fs::read(fresh.join(name)).unwrap();
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(committed.join(name), &new).unwrap();
        }
        let old = fs::read(committed.join(name)).unwrap_or_default();
        assert!(old == new, "{name} is old: run `REGENERATE=1 cargo test -p rehull-proto`");
    }
    fs::remove_dir_all(&fresh).unwrap();
}

fn tempfile_dir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("rehull-proto-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}
