//! What makes this host a control plane: the authorities that it shares with the others, and the etcd
//! that its API server writes to.

use rehull_proto::v1::{Authority, ControlPlane};
use rehull_shared::text::{bounded, sha256_hex};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    Gaps, TEXT_BYTES_MAX,
    processes::{apiservers, present},
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

/// What is not there is no gap; what cannot be read, or is there twice and differs, is one.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> ControlPlane {
    let mut authorities = Vec::new();
    for (name, elsewhere) in AUTHORITIES {
        let sha256 = gaps.keep(PART, authority(host, name, elsewhere)).flatten();
        authorities.extend(sha256.map(|sha256| Authority { name: name.to_owned(), sha256 }));
    }
    let etcd_servers = gaps.keep(PART, etcd_servers(host)).unwrap_or_default();
    ControlPlane { authorities, etcd_servers }
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

/// By the command line of what runs: a manifest only says what is to run.
fn etcd_servers(host: &Host) -> Result<Vec<String>, Unreadable> {
    let mut found: Option<Vec<String>> = None;
    for process in apiservers(host)? {
        let path = format!("/proc/{}/cmdline", process.pid);
        let Some(line) = present(host.text(&path, CMDLINE_BYTES_MAX))? else { continue };
        let servers = servers(&line)
            .ok_or_else(|| Unreadable::nonsense(&path, "does not say --etcd-servers"))?;
        if servers.len() > SERVERS_MAX {
            let what = format!("{} etcd servers, {SERVERS_MAX} is the most", servers.len());
            return Err(Unreadable::nonsense(&path, what));
        }
        if found.as_ref().is_some_and(|other| *other != servers) {
            return Err(Unreadable::nonsense(&path, "another API server has other --etcd-servers"));
        }
        found = Some(servers);
    }
    Ok(found.unwrap_or_default())
}

/// Words of a command line end with a zero byte; a flag and its value are one word or two.
fn servers(line: &str) -> Option<Vec<String>> {
    let mut words = line.split('\0').skip_while(|word| !is_flag(word));
    let flag = words.next()?;
    let value = flag.split_once('=').map(|(_, value)| value).or_else(|| words.next())?;
    Some(value.split(',').map(|server| bounded(server.trim(), TEXT_BYTES_MAX)).collect())
}

fn is_flag(word: &str) -> bool {
    word.split('=').next() == Some("--etcd-servers")
}
