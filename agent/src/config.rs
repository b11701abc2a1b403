//! The configuration: a file as typed, and settings as understood.

use std::{fs, io, path::Path, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::Timestamp,
};
use serde::Deserialize;

use crate::host::Host;

const TOKEN_FILE: &str = "/etc/rehull-agent/token";
const STATE_DIR: &str = "/var/lib/rehull-agent";
const BEAT_SECONDS: u32 = 10;
const BEAT_SECONDS_MAX: u32 = 600;
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Shortest wait before the coordinator is dialled again; the longest is 30 times as long.
const RETRY: Duration = Duration::from_secs(1);

/// Reads the time. The machine's clock, or the virtual one of a rehearsal.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Takes one line for people: the journal of the machine, or nothing in a rehearsal.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What an agent must know before it can run.
#[derive(Clone)]
pub struct Settings {
    /// `host:port` of the coordinator. May change: the certificate is for a fixed name.
    pub coordinator: String,
    /// The cluster that the host belongs to.
    pub cluster: ClusterName,
    /// The inventory's name of the host.
    pub node: NodeName,
    /// SHA-256 of the coordinator's CA: the only thing that is trusted.
    pub ca: CaHash,
    /// Holds the one-time token; emptied after use.
    pub token_file: PathBuf,
    /// Holds key, certificate and journal. Must survive a restart, not a reinstall.
    pub state_dir: PathBuf,
    /// How often a sign of life is sent, give or take a fifth; `None` for never.
    pub beat: Option<Duration>,
    /// Shortest wait before the coordinator is dialled again; the longest is 30 times as long.
    pub retry: Duration,
    /// What is observed.
    pub host: Host,
    /// What time it is.
    pub clock: Clock,
    /// What people may want to know.
    pub log: Log,
}

/// SHA-256 of a CA certificate's DER, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaHash(String);

impl FromStr for CaHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err("must be 64 hexadecimal digits"),
        }
    }
}

impl CaHash {
    /// Whether this is the hash of the certificate with this DER.
    pub fn is_of(&self, der: &[u8]) -> bool {
        rehull_shared::text::sha256_hex(der) == self.0
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is no JSON object of the known fields.
    #[error("{0}: {1}")]
    NotUnderstood(PathBuf, #[source] serde_json::Error),
    /// One field has an impossible value.
    #[error("{0}: {1}: {2}")]
    Field(PathBuf, &'static str, String),
}

/// As typed. Fields that are not known are refused: a misspelt one would be lost in silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    coordinator: String,
    cluster: String,
    node: String,
    ca_sha256: String,
    #[serde(default)]
    token_file: PathBuf,
    #[serde(default)]
    state_dir: PathBuf,
    beat_seconds: Option<u32>,
    root: Option<PathBuf>,
}

impl Settings {
    /// Reads a configuration file. An empty or missing path means the usual one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::Unreadable(path.to_owned(), error);
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(unreadable(io::Error::other("too long for a configuration")));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let file = serde_json::from_str(&text)
            .map_err(|error| Error::NotUnderstood(path.to_owned(), error))?;
        Self::understand(file).map_err(|(field, why)| Error::Field(path.to_owned(), field, why))
    }

    fn understand(file: File) -> Result<Self, (&'static str, String)> {
        let File { coordinator, cluster, node, ca_sha256, token_file, state_dir, .. } = file;
        let (host, port) = coordinator.rsplit_once(':').unwrap_or_default();
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(("coordinator", format!("{coordinator:?} is not host:port")));
        }
        let beat = file.beat_seconds.unwrap_or(BEAT_SECONDS);
        if !(1..=BEAT_SECONDS_MAX).contains(&beat) {
            return Err(("beat_seconds", format!("must be from 1 to {BEAT_SECONDS_MAX}")));
        }
        let or = |path: PathBuf, usual: &str| match path.as_os_str().is_empty() {
            true => PathBuf::from(usual),
            false => path,
        };
        Ok(Self {
            coordinator,
            cluster: cluster.parse().map_err(|e| ("cluster", format!("{e}")))?,
            node: node.parse().map_err(|e| ("node", format!("{e}")))?,
            ca: ca_sha256.parse().map_err(|e: &str| ("ca_sha256", e.to_owned()))?,
            token_file: or(token_file, TOKEN_FILE),
            state_dir: or(state_dir, STATE_DIR),
            beat: Some(Duration::from_secs(beat.into())),
            retry: RETRY,
            host: file.root.map_or_else(Host::machine, Host::at),
            clock: Arc::new(rehull_shared::time::now),
            log: Arc::new(|line| eprintln!("{line}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"coordinator":"10.0.0.1:7443","cluster":"prod","node":"n1",
        "ca_sha256":"HASH","token_file":""}"#;

    fn read(text: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text.replace("HASH", &"0a".repeat(32))).unwrap();
        Settings::read(&path)
            .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "F"))
    }

    #[test]
    fn what_is_not_given_is_usual() {
        let settings = read(GOOD).unwrap();
        assert_eq!(settings.token_file, Path::new(TOKEN_FILE));
        assert_eq!(settings.state_dir, Path::new(STATE_DIR));
        assert_eq!(settings.beat, Some(Duration::from_secs(10)));
        assert!(settings.host.is_machine());
    }

    #[test]
    fn an_error_names_the_file_and_the_field() {
        for (from, to, error) in [
            ("10.0.0.1:7443", "10.0.0.1", "F: coordinator: \"10.0.0.1\" is not host:port"),
            ("HASH", "12", "F: ca_sha256: must be 64 hexadecimal digits"),
            ("\"n1\"", "\"n*\"", "F: node: \"n*\" is not a node name"),
            ("\"token_file\":\"\"", "\"beat_seconds\":0", "F: beat_seconds: must be from 1 to 600"),
            ("token_file", "tokenfile", "F: unknown field `tokenfile`"),
            ("{", "", "F: "),
        ] {
            let seen = read(&GOOD.replacen(from, to, 1)).err().expect("refused");
            assert!(seen.starts_with(error), "{seen}");
        }
        assert!(
            Settings::read(Path::new("/nowhere"))
                .is_err_and(|e| e.to_string().contains("/nowhere"))
        );
    }
}
