//! The coordinator's settings: a small file beside its log, read once and checked.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use age::x25519::Recipient;
use http::Uri;
use rehull_shared::time::Span;
use serde::Deserialize;

use crate::{
    authority,
    yaml::{self, Fault},
};

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
    /// Whom to tell when something is held or done; nobody if it is not set.
    pub webhook: Option<Receiver>,
    /// The program that switches the deletion protection of clusters; none if it is not set.
    pub protection: Option<String>,
    /// The programs that documents may have reinstall hosts: who may write a document must not by that
    /// choose what runs on the coordinator's machine.
    pub installers: Vec<String>,
    /// Where backups of control planes go, and who can read them; none are taken if it is not set.
    pub backup: Option<Backup>,
}

/// Where backups go.
#[derive(Clone, PartialEq, Eq)]
pub struct Backup {
    /// Their directory.
    pub directory: PathBuf,
    /// For whom they are encrypted.
    pub recipients: Vec<Recipient>,
    /// How many are kept of each cluster.
    pub keep: usize,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} recipients", self.directory.display(), self.recipients.len())
    }
}

/// Whom to tell.
#[derive(Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Where it is told. Its path may be a secret of the receiver's.
    pub url: Uri,
    /// The file with what messages are signed with.
    pub secret_file: PathBuf,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.host().unwrap_or_default())
    }
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
    webhook: Option<WrittenReceiver>,
    deletion_protection: Option<String>,
    #[serde(default)]
    installers: Vec<String>,
    backup: Option<WrittenBackup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenBackup {
    directory: PathBuf,
    recipients: Vec<String>,
    #[serde(default = "backups_kept")]
    keep: usize,
}

fn backups_kept() -> usize {
    10
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenReceiver {
    url: String,
    secret_file: PathBuf,
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
    /// It is no YAML of this shape, or a value makes no sense.
    #[error("{path}: {fault}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong there.
        fault: Fault,
    },
    /// A value for a new file makes no sense.
    #[error(transparent)]
    Value(#[from] Fault),
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
        let checked = yaml::read(&text).and_then(|written| Self::check(dir, written));
        checked.map_err(|fault| Error::Malformed { path, fault: fault.placed(&text) })
    }

    fn check(dir: &Path, written: Written) -> Result<Self, Fault> {
        let Written {
            listen,
            advertise,
            socket,
            agent_certificate_days,
            otlp_endpoint,
            webhook,
            deletion_protection: protection,
            installers,
            backup,
        } = written;
        if protection.as_deref().is_some_and(|program| !program.starts_with('/')) {
            return Err(Fault::of("deletionProtection", "must be an absolute path"));
        }
        if let Some(at) = installers.iter().position(|program| !program.starts_with('/')) {
            return Err(Fault::of(format!("installers[{at}]"), "must be an absolute path"));
        }
        let listen = address("listen", &listen)?;
        let advertise = address("advertise", advertise.as_deref().unwrap_or(&listen))?;
        let days = agent_certificate_days.unwrap_or(authority::AGENT_LIFE.as_secs() / 86_400);
        if !(1..=AGENT_DAYS_MAX).contains(&days) {
            let why = format!("{days} is not between 1 and {AGENT_DAYS_MAX}");
            return Err(Fault::of("agentCertificateDays", why));
        }
        Ok(Self {
            dir: dir.to_owned(),
            listen,
            advertise,
            socket: socket.unwrap_or_else(|| dir.join("rehull.sock")),
            agent_life: Span::from_secs(days * 86_400),
            otlp_endpoint,
            webhook: webhook.map(receiver).transpose()?,
            protection,
            installers,
            backup: backup.map(checked_backup).transpose()?,
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
             # otlpEndpoint: http://127.0.0.1:4317\n\
             # Whom to tell when something is held or done, signed (deploy/webhook.md).\n\
             # webhook: {{url: \"https://alerts.example/rehull\", \
             secretFile: /etc/rehull/webhook.secret}}\n\
             # What switches the deletion protection of clusters (deploy/protection.md).\n\
             # deletionProtection: /usr/local/sbin/deletion-protection\n\
             # Which programs documents may have reinstall hosts (deploy/installer.md).\n\
             # installers: [/usr/local/sbin/reinstall]\n\
             # Where backups of control planes go, and who can read them (deploy/backup.md).\n\
             # backup: {{directory: /var/backups/rehull, recipients: [age1...]}}\n"
        );
        authority::write_private(&dir.join(FILE), &text)?;
        Self::read(dir)
    }
}

/// `host:port`, with a port that is a number and not 0.
fn address(field: &'static str, text: &str) -> Result<String, Fault> {
    let bad = |why: &str| Fault::of(field, format!("{text:?} {why}"));
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("has no port: write host:port"))?;
    let port: u16 = port.parse().map_err(|_| bad("has a port that is no number"))?;
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    match (host.is_empty() || !plain, port) {
        (true, _) => Err(bad("has no usable host")),
        (_, 0) => Err(bad("has port 0: agents must find it again")),
        _ => Ok(text.to_owned()),
    }
}

/// Names of nodes and what is wrong with them go to nobody but the receiver.
fn receiver(written: WrittenReceiver) -> Result<Receiver, Fault> {
    let WrittenReceiver { url, secret_file } = written;
    let bad = |why: &str| Fault::of("webhook.url", why);
    let url: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => (),
        Some("http") if is_here => (),
        Some("http") => return Err(bad("must be https, except for an address of this machine")),
        _ => return Err(bad("begins with https://")),
    }
    match secret_file.is_absolute() {
        true => Ok(Receiver { url, secret_file }),
        false => Err(Fault::of("webhook.secretFile", "must be an absolute path")),
    }
}

/// A backup that nobody could open would be none.
fn checked_backup(written: WrittenBackup) -> Result<Backup, Fault> {
    let WrittenBackup { directory, recipients, keep } = written;
    if !directory.is_absolute() {
        return Err(Fault::of("backup.directory", "must be an absolute path"));
    }
    if keep == 0 {
        return Err(Fault::of("backup.keep", "must be 1 or more"));
    }
    if recipients.is_empty() {
        let why = "needs at least one: `age-keygen` makes a key and prints its recipient";
        return Err(Fault::of("backup.recipients", why));
    }
    let parsed = recipients.iter().enumerate().map(|(place, text)| {
        let why = |why: &str| {
            let path = format!("backup.recipients[{place}]");
            Fault::of(path, format!("is no recipient of age, as age1...: {why}"))
        };
        text.parse::<Recipient>().map_err(why)
    });
    Ok(Backup { directory, recipients: parsed.collect::<Result<_, _>>()?, keep })
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
    fn mistakes_are_named_with_file_line_and_field() {
        let webhook = |fields: &str| format!("listen: \"a:1\"\nwebhook: {{{fields}}}\n");
        for (text, words) in [
            ("listen: nowhere", "line 1, column 1: listen: \"nowhere\" has no port"),
            ("listen: \"a:b\"", "line 1, column 1: listen: "),
            ("listen: \"0.0.0.0:0\"", "line 1, column 1: listen: "),
            ("listen: \"a:1\"\nlistne: 3", "line 2, column 1: listne: unknown field"),
            ("listen: \"a:1\"\nlisten: \"a:1\"", "line 2, column 1: the key \"listen\" is given"),
            ("listen: \"a:1\"\nagentCertificateDays: 0", "line 2, column 1: agentCertificateDays"),
            ("listen:\n\t- a", "line 2"),
            (
                "listen: \"a:1\"\ndeletionProtection: p",
                "line 2, column 1: deletionProtection: must",
            ),
            (
                "listen: \"a:1\"\nbackup: {directory: /b, recipients: []}",
                "line 2, column 25: backup.recipients: needs at least one",
            ),
            (
                "listen: \"a:1\"\nbackup: {directory: b, recipients: [age1x]}",
                "line 2, column 10: backup.directory: must",
            ),
            (
                "listen: \"a:1\"\nbackup: {directory: /b, recipients: [age1x]}",
                "line 2, column 25: backup.recipients[0]: is no recipient",
            ),
            (
                "listen: \"a:1\"\ninstallers: [/opt/a, b]",
                "line 2, column 1: installers[1]: must be an absolute path",
            ),
            (&webhook("url: alerts, secretFile: /s"), "line 2, column 11: webhook.url: begins"),
            (
                &webhook("url: \"http://a.b/c\", secretFile: /s"),
                "line 2, column 11: webhook.url: must",
            ),
            (
                &webhook("url: \"https://a.b\", secretFile: s"),
                "line 2, column 31: webhook.secretFile",
            ),
            (&webhook("url: \"https://a.b\""), "line 2, column 11: webhook: missing field"),
        ] {
            let error = read(text).unwrap_err().to_string();
            let said = error.split_once("config.yaml: ").unwrap().1;
            assert!(said.starts_with(words), "{text:?} gave {said:?}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        for url in
            ["https://alerts.example:8443/x?token=y", "http://127.0.0.1:9/", "http://[::1]:9/"]
        {
            let config = read(&webhook(&format!("url: \"{url}\", secretFile: /s"))).unwrap();
            assert_eq!(config.webhook.as_ref().unwrap().url, url);
            assert!(!format!("{config:?}").contains("token"), "{config:?}");
        }
    }
}
