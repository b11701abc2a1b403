//! The file that is shipped runs where it must: it asks for no glibc younger than 2.17 (CentOS 7).
//!
//! Run by name, after `tests/agent-build.sh`: `cargo test -p rehull-agent --test portable`.
//! `REHULL_AGENT_BIN` names another file.

#![expect(clippy::unwrap_used, reason = "a test stops where its ground is missing")]

use std::path::{Path, PathBuf};

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
