//! Certificates of Kubernetes and when they end (F59).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rehull_proto::v1::{Certificate, Certificates};
use rehull_shared::text::bounded;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Gaps, TEXT_BYTES_MAX, processes::present, union};
use crate::{
    api_server::Manifest,
    host::{Host, Unreadable},
};

const DIRS: &[&str] = &[
    "/etc/kubernetes/ssl",
    "/etc/kubernetes/ssl/etcd",
    "/etc/kubernetes/pki",
    "/etc/kubernetes/pki/etcd",
    "/etc/ssl/etcd/ssl",
    "/var/lib/kubelet/pki",
];

/// Kubeconfigs of a control plane's own parts: each holds the certificate by which that part is known.
const KUBECONFIGS: [&str; 4] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
];

/// The field that holds it: PEM, in base64.
const CLIENT_CERTIFICATE: &str = "client-certificate-data:";

/// Listed at the most: those that end first.
const FOUND_MAX: usize = 128;
/// Where etcd is a service of hosts, kubespray keeps certificates of all nodes on the first of them.
const FILES_MAX: usize = 16 * 1024;
const FILE_BYTES_MAX: usize = 64 * 1024;
const SUBJECT_BYTES_MAX: usize = 100;

/// Every certificate in the directories, and in the kubeconfigs of a control plane; a directory that does
/// not exist holds none.
pub(super) fn look(host: &Host, asked: &[String], gaps: &mut Gaps) -> Certificates {
    let mut seen = Vec::new(); // kubespray makes `pki` a link to `ssl`
    let mut found = Vec::new();
    for dir in union(DIRS, asked, "certificates", gaps) {
        let names = match host.canonical(&dir) {
            Ok(place) if seen.contains(&place) => continue,
            Ok(place) => {
                seen.push(place);
                host.names(&dir, FILES_MAX)
            }
            Err(error) if error.is_absence() => continue,
            Err(error) => Err(error),
        };
        for name in gaps.keep("certificates", names).unwrap_or_default() {
            if !is_certificate(&name) {
                continue;
            }
            let certificates = read(host, &format!("{dir}/{name}"));
            found.extend(gaps.keep("certificates", certificates).unwrap_or_default());
        }
    }
    // Elsewhere they are copies that somebody has left, and nobody is known by them.
    let control_plane = Manifest::read(host).is_ok();
    for path in KUBECONFIGS.iter().filter(|_| control_plane) {
        let certificates = present(of_kubeconfig(host, path));
        found.extend(gaps.keep("certificates", certificates).flatten().unwrap_or_default());
    }
    if found.len() > FOUND_MAX {
        found.sort_by_key(|one| one.not_after_ms);
        found.truncate(FOUND_MAX);
    }
    Certificates { found }
}

/// By its name. The kubelet keeps the certificates that it has replaced, long expired, beside the current
/// one: `kubelet-client-2026-01-02-03-04-05.pem`. What it has signed for itself, `kubelet.crt`, nobody
/// verifies and nobody renews (kubernetes#99418): it says nothing when it ends.
fn is_certificate(name: &str) -> bool {
    let is_old = ["kubelet-client-", "kubelet-server-"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let is_key = name.ends_with("-key.pem");
    let is_own = name == "kubelet.crt";
    (name.ends_with(".crt") || name.ends_with(".pem")) && !is_old && !is_own && !is_key
}

/// The client certificates in a kubeconfig; none if it names files of them.
fn of_kubeconfig(host: &Host, path: &str) -> Result<Vec<Certificate>, Unreadable> {
    let text = host.text(path, FILE_BYTES_MAX)?;
    let mut found = Vec::new();
    for data in text.lines().filter_map(|line| line.trim().strip_prefix(CLIENT_CERTIFICATE)) {
        // Not a word of it in the error: a key may stand in the wrong place.
        let pem = STANDARD.decode(data.trim());
        let what = || format!("{CLIENT_CERTIFICATE} is not base64");
        let pem = pem.map_err(|_| Unreadable::nonsense(path, what()))?;
        found.extend(parsed(path, &pem)?);
    }
    Ok(found)
}

/// All certificates of a file; none if it holds only a key.
fn read(host: &Host, path: &str) -> Result<Vec<Certificate>, Unreadable> {
    parsed(path, &host.bytes(path, FILE_BYTES_MAX)?)
}

fn parsed(path: &str, pem: &[u8]) -> Result<Vec<Certificate>, Unreadable> {
    let nonsense = |what: String| Unreadable::nonsense(path, what);
    CertificateDer::pem_slice_iter(pem)
        .map(|der| {
            let der = der.map_err(|error| nonsense(error.to_string()))?;
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|error| nonsense(error.to_string()))?;
            Ok(Certificate {
                path: bounded(path, TEXT_BYTES_MAX),
                not_after_ms: certificate.validity().not_after.timestamp().saturating_mul(1000),
                subject: bounded(&certificate.subject().to_string(), SUBJECT_BYTES_MAX),
            })
        })
        .collect()
}
