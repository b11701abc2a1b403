//! The coordinator's settings: a small file beside its log, read once and checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rehull_shared::time::Span;
use serde::Deserialize;

use crate::authority;

/// Name of the file in the coordinator's directory.
const FILE: &str = "config.yaml";

/// Longest life of an agent's certificate: who is removed must not stay trusted for long.
const AGENT_DAYS_MAX: u32 = 365;

/// Everything that `serve` must know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of the log, the certificates and this file.
    pub dir: PathBuf,
    /// Where agents and operators are listened for, `host:port`.
    pub listen: String,
    /// By which address hosts reach it, `host:port`; printed and handed out with tokens.
    pub advertise: String,
    /// The socket for operators on this machine.
    pub socket: PathBuf,
    /// Life of an agent's certificate.
    pub agent_life: Span,
    /// Where traces go (OTLP over gRPC); nowhere if it is not set.
    pub otlp_endpoint: Option<String>,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    listen: String,
    advertise: Option<String>,
    socket: Option<PathBuf>,
    agent_certificate_days: Option<u32>,
    otlp_endpoint: Option<String>,
}

/// The settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}; `rehull init` makes one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no YAML of this shape.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column, and what is wrong there.
        why: String,
    },
    /// A value makes no sense.
    #[error("{field}: {why}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] authority::Error),
}

impl Config {
    /// Reads and checks the settings in `dir`.
    ///
    /// # Errors
    /// If the file is missing, malformed, or a value makes no sense.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path)
            .map_err(|source| Error::Unreadable { path: path.clone(), source })?;
        let written: Written = serde_saphyr::from_str(&text)
            .map_err(|error| Error::Malformed { path, why: error.to_string() })?;
        Self::check(dir, written)
    }

    fn check(dir: &Path, written: Written) -> Result<Self, Error> {
        let Written { listen, advertise, socket, agent_certificate_days, otlp_endpoint } = written;
        let listen = address("listen", &listen)?;
        let advertise = address("advertise", advertise.as_deref().unwrap_or(&listen))?;
        let days = agent_certificate_days.unwrap_or(authority::AGENT_LIFE.as_secs() / 86_400);
        if !(1..=AGENT_DAYS_MAX).contains(&days) {
            let why = format!("{days} is not between 1 and {AGENT_DAYS_MAX}");
            return Err(Error::Value { field: "agentCertificateDays", why });
        }
        Ok(Self {
            dir: dir.to_owned(),
            listen,
            advertise,
            socket: socket.unwrap_or_else(|| dir.join("rehull.sock")),
            agent_life: Span::from_secs(days * 86_400),
            otlp_endpoint,
        })
    }

    /// Writes settings for a new coordinator; never over old ones.
    ///
    /// # Errors
    /// If an address is none, or the file is there already or cannot be written.
    pub fn create(dir: &Path, listen: &str, advertise: &str) -> Result<Self, Error> {
        let (listen, advertise) = (address("listen", listen)?, address("advertise", advertise)?);
        let text = format!(
            "# Where agents and operators are listened for.\n\
             listen: \"{listen}\"\n\
             # By which address hosts reach it. It may change: agents know the CA.\n\
             advertise: \"{advertise}\"\n\
             # The socket for operators on this machine; rehull.sock beside this file if not set.\n\
             # socket: /run/rehull/rehull.sock\n\
             # Life of an agent's certificate; agents renew after two thirds of it.\n\
             # agentCertificateDays: 30\n\
             # Where traces go, OTLP over gRPC.\n\
             # otlpEndpoint: http://127.0.0.1:4317\n"
        );
        authority::write_private(&dir.join(FILE), &text)?;
        Self::read(dir)
    }
}

/// `host:port`, with a port that is a number and not 0.
fn address(field: &'static str, text: &str) -> Result<String, Error> {
    let bad = |why: &str| Error::Value { field, why: format!("{text:?} {why}") };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("has no port: write host:port"))?;
    let port: u16 = port.parse().map_err(|_| bad("has a port that is no number"))?;
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    match (host.is_empty() || !plain, port) {
        (true, _) => Err(bad("has no usable host")),
        (_, 0) => Err(bad("has port 0: agents must find it again")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        Config::read(dir.path())
    }

    #[test]
    fn what_init_writes_is_read_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = Config::create(dir.path(), "0.0.0.0:7443", "rehull.example:7443").unwrap();
        assert_eq!(made, Config::read(dir.path()).unwrap());
        assert_eq!(made.agent_life, authority::AGENT_LIFE);
        assert!(Config::create(dir.path(), "0.0.0.0:1", "a:1").is_err());
        assert_eq!(made, Config::read(dir.path()).unwrap());
    }

    #[test]
    fn mistakes_are_named_with_their_field() {
        for (text, names) in [
            ("listen: nowhere", "listen"),
            ("listen: \"a:b\"", "listen"),
            ("listen: \"0.0.0.0:0\"", "listen"),
            ("listen: \"a:1\"\nlistne: 3", "listne"),
            ("listen: \"a:1\"\nagentCertificateDays: 0", "agentCertificateDays"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(names), "{text:?} gave {error:?}");
        }
    }
}
