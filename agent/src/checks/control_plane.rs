//! What makes this host a control plane: the authorities that it shares with the others, the etcd that
//! its API server writes to, and how its own member was started.

use rehull_proto::v1::{Authority, ControlPlane, Process};
use rehull_shared::text::{bounded, sha256_hex};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    Gaps, TEXT_BYTES_MAX,
    processes::{apiservers, named, present},
};
use crate::host::{Host, Unreadable};

const PART: &str = "control_plane";

const SSL: &str = "/etc/kubernetes/ssl";
const PKI: &str = "/etc/kubernetes/pki";

/// Their names, and where else than below the directories of Kubernetes they may be: where etcd is a
/// service of the host, kubespray keeps its authority apart.
const AUTHORITIES: [(&str, &[&str]); 4] = [
    ("ca.crt", &[]),
    ("front-proxy-ca.crt", &[]),
    ("etcd/ca.crt", &["/etc/ssl/etcd/ssl/ca.pem"]),
    ("sa.pub", &[]),
];

const FILE_BYTES_MAX: usize = 64 * 1024;
const CMDLINE_BYTES_MAX: usize = 64 * 1024;
const SERVERS_MAX: usize = 32;

/// The variable that etcd reads where it has no such flag, as kubespray's `etcd.env` sets it.
const INITIAL_STATE: &str = "ETCD_INITIAL_CLUSTER_STATE=";

/// What is not there is no gap; what cannot be read, or is there twice and differs, is one.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> ControlPlane {
    let mut authorities = Vec::new();
    for (name, elsewhere) in AUTHORITIES {
        let sha256 = gaps.keep(PART, authority(host, name, elsewhere)).flatten();
        authorities.extend(sha256.map(|sha256| Authority { name: name.to_owned(), sha256 }));
    }
    let etcd_servers = gaps.keep(PART, etcd_servers(host));
    let (etcd_servers, etcd_servers_overrides) = etcd_servers.unwrap_or_default();
    let etcd_initial_state = gaps.keep(PART, etcd_initial_state(host)).unwrap_or_default();
    ControlPlane { authorities, etcd_servers, etcd_initial_state, etcd_servers_overrides }
}

fn authority(host: &Host, name: &str, elsewhere: &[&str]) -> Result<Option<String>, Unreadable> {
    let mut found: Option<(String, String)> = None;
    let usual = [SSL, PKI].map(|dir| format!("{dir}/{name}"));
    for path in usual.into_iter().chain(elsewhere.iter().map(|&path| path.to_owned())) {
        let Some(hash) = present(hash(host, &path))? else { continue };
        match &found {
            Some((other, known)) if *known != hash => {
                return Err(Unreadable::nonsense(&path, format!("is another one than {other}")));
            }
            Some(_) => (), // kubespray makes `pki` a link to `ssl`
            None => found = Some((path, hash)),
        }
    }
    Ok(found.map(|(_, hash)| hash))
}

/// Of the certificate and not of its file, which people may have commented; of several, as while an
/// authority is changed, of one behind the other.
fn hash(host: &Host, path: &str) -> Result<String, Unreadable> {
    let content = host.bytes(path, FILE_BYTES_MAX)?;
    if path.ends_with(".pub") {
        return Ok(sha256_hex(&content));
    }
    let mut ders = Vec::new();
    for der in CertificateDer::pem_slice_iter(&content) {
        let der = der.map_err(|error| Unreadable::nonsense(path, error.to_string()))?;
        ders.extend_from_slice(&der);
    }
    match ders.is_empty() {
        true => Err(Unreadable::nonsense(path, "holds no certificate")),
        false => Ok(sha256_hex(&ders)),
    }
}

/// Whom it asks, and what it keeps in another etcd, as kubespray can keep events apart. By the command line
/// of what runs: a manifest only says what is to run.
fn etcd_servers(host: &Host) -> Result<(Vec<String>, String), Unreadable> {
    alike(apiservers(host)?, "API server has other --etcd-servers", |process| {
        let path = format!("{process}/cmdline");
        let Some(line) = present(host.text(&path, CMDLINE_BYTES_MAX))? else { return Ok(None) };
        let servers = flag(&line, "--etcd-servers")
            .ok_or_else(|| Unreadable::nonsense(&path, "does not say --etcd-servers"))?;
        let servers: Vec<String> =
            servers.split(',').map(|server| bounded(server.trim(), TEXT_BYTES_MAX)).collect();
        let overrides = flag(&line, "--etcd-servers-overrides").unwrap_or_default();
        match servers.len() {
            ..=SERVERS_MAX => Ok(Some((servers, bounded(overrides, TEXT_BYTES_MAX)))),
            several => {
                let what = format!("{several} etcd servers, {SERVERS_MAX} is the most");
                Err(Unreadable::nonsense(&path, what))
            }
        }
    })
}

/// Whether the etcd that runs was started to join what is there, or to make a new cluster: by its flag, else
/// by its environment, else as etcd itself has it.
fn etcd_initial_state(host: &Host) -> Result<String, Unreadable> {
    alike(named(host, &["etcd"])?, "etcd was started another way", |process| {
        let of = |file: &str| present(host.text(&format!("{process}/{file}"), CMDLINE_BYTES_MAX));
        let Some(line) = of("cmdline")? else { return Ok(None) };
        let state = match flag(&line, "--initial-cluster-state") {
            Some(state) => state.to_owned(),
            None => {
                let environment = of("environ")?.unwrap_or_default();
                let mut variables = environment.split('\0');
                let state = variables.find_map(|it| it.strip_prefix(INITIAL_STATE));
                state.unwrap_or("new").to_owned()
            }
        };
        Ok(Some(bounded(&state, TEXT_BYTES_MAX)))
    })
}

/// What all these processes tell alike, each asked by its directory below `/proc`; one that has ended
/// meanwhile tells nothing. Those that differ are `another` and no answer.
fn alike<T: PartialEq + Default>(
    processes: Vec<Process>,
    another: &str,
    told: impl Fn(&str) -> Result<Option<T>, Unreadable>,
) -> Result<T, Unreadable> {
    let mut found = None;
    for process in processes {
        let path = format!("/proc/{}", process.pid);
        let Some(one) = told(&path)? else { continue };
        if found.as_ref().is_some_and(|other| *other != one) {
            return Err(Unreadable::nonsense(&path, format!("another {another}")));
        }
        found = Some(one);
    }
    Ok(found.unwrap_or_default())
}

/// The value of a flag. Words of a command line end with a zero byte; a flag and its value are one word
/// or two.
fn flag<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split('\0').skip_while(|word| word.split('=').next() != Some(name));
    let flag = words.next()?;
    flag.split_once('=').map(|(_, value)| value).or_else(|| words.next())
}
