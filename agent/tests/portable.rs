//! The file that is shipped runs where it must: it asks for no glibc younger than 2.17, and for no
//! system call younger than Linux 3.10 without having another way (CentOS 7).
//!
//! Run by name, after `tests/agent-build.sh`: `cargo test -p rehull-agent --test portable`.
//! `REHULL_AGENT_BIN` names another file.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

#[expect(dead_code, reason = "tests of the session use more of it")]
mod coordinator;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
};

use rehull_proto::v1::{Collect, ToAgent, from_agent::Message, to_agent::Order};

/// Section type of the versions that a program needs (ELF gABI, Linux extensions).
const NEEDED_VERSIONS: u32 = 0x6fff_fffe;

const SIZE_MAX: u64 = 8 << 20;

/// Libraries that are part of glibc 2.17.
const LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
];

fn program() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/.cache/rehull-agent");
    let path = std::env::var_os("REHULL_AGENT_BIN").map_or(usual, PathBuf::from);
    assert!(path.is_file(), "{}: not there; run tests/agent-build.sh first", path.display());
    path
}

/// Little-endian numbers and names of an ELF file of 64 bits.
struct Elf(Vec<u8>);

impl Elf {
    fn number(&self, at: usize, bytes: usize) -> usize {
        self.0[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    fn name(&self, at: usize) -> String {
        let name = self.0[at..].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(name.to_vec()).unwrap()
    }

    /// Offset, linked section and number of entries of the first section of a type.
    fn section(&self, wanted: u32) -> (usize, usize, usize) {
        let (table, size, count) = (self.number(40, 8), self.number(58, 2), self.number(60, 2));
        let headers = (0..count).map(|n| table + n * size);
        let found = headers.clone().find(|at| self.number(at + 4, 4) == wanted as usize);
        let at = found.expect("the program is linked to shared libraries");
        let strings = table + self.number(at + 40, 4) * size;
        (self.number(at + 24, 8), self.number(strings + 24, 8), self.number(at + 44, 4))
    }

    /// Library and version, for each version that is needed.
    fn needed(&self) -> Vec<(String, String)> {
        let (mut library, strings, count) = self.section(NEEDED_VERSIONS);
        let mut needed = Vec::new();
        for _ in 0..count {
            let file = self.name(strings + self.number(library + 4, 4));
            let mut version = library + self.number(library + 8, 4);
            for _ in 0..self.number(library + 2, 2) {
                needed.push((file.clone(), self.name(strings + self.number(version + 8, 4))));
                version += self.number(version + 12, 4);
            }
            library += self.number(library + 12, 4);
        }
        needed
    }
}

#[test]
fn the_program_needs_no_glibc_younger_than_2_17() {
    let elf = Elf(std::fs::read(program()).unwrap());
    assert_eq!(&elf.0[..6], b"\x7fELF\x02\x01", "not an ELF file of 64 bits, little-endian");
    let needed = elf.needed();
    assert!(needed.iter().any(|(_, version)| version.starts_with("GLIBC_2.")), "{needed:?}");
    for (library, version) in &needed {
        assert!(LIBRARIES.contains(&library.as_str()), "needs {library}");
        let minor = version.strip_prefix("GLIBC_2.").and_then(|rest| rest.split('.').next());
        let minor: u32 = minor.unwrap_or_else(|| panic!("{library} {version}")).parse().unwrap();
        assert!(minor <= 17, "{library} needs {version}: CentOS 7 has glibc 2.17");
    }
}

#[test]
fn the_program_is_small() {
    let size = std::fs::metadata(program()).unwrap().len();
    assert!(size < SIZE_MAX, "{size} bytes");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// Enrols, links and answers a round under a filter that takes the younger system calls away.
#[tokio::test]
async fn the_program_needs_no_kernel_younger_than_3_10() {
    let old_kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/old_kernel.py");
    let mut coordinator = coordinator::Coordinator::start("rehull-coordinator").await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (address, ca) = (coordinator.address, &coordinator.ca_sha256);
    let config = format!(
        r#"{{"coordinator":"{address}","cluster":"c","node":"n","ca_sha256":"{ca}",
            "token_file":"{}","state_dir":"{}","beat_seconds":1}}"#,
        at("token"),
        at("state")
    );
    std::fs::write(at("config"), config).unwrap();
    std::fs::write(at("token"), "secret").unwrap();
    let mut old = Command::new(old_kernel);
    let agent = old.arg(program()).args(["run", "--config", &at("config")]).spawn().unwrap();
    let agent = Running(agent);
    let mut link = coordinator.link().await;
    assert!(matches!(link.next_of_all().await, Some(Message::Hello(_))));
    assert!(matches!(link.next_of_all().await, Some(Message::Beat(_))));
    let collect = Order::Collect(Collect { nonce: "r".to_owned(), ..Collect::default() });
    link.send(ToAgent { epoch: 1, generation: 1, order: Some(collect), ..ToAgent::default() })
        .await;
    let Some(Message::Report(report)) = link.next().await else { panic!("no report") };
    assert!(report.os.is_some() && report.processes.is_some(), "{report:?}");
    let filter = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    assert!(filter.contains("Seccomp:\t2"), "the filter was in force: {filter}");
}
