//! Key and certificate of this installation: made here, signed by the coordinator, kept on disk.

use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rehull_proto::v1::EnrolResponse;
use rehull_shared::time::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{config::Settings, state};

const FILE: &str = "credentials.json";

/// The key of an enrolment whose answer has not come yet. Kept so that a lost answer can be asked
/// for again with the same request.
const PENDING: &str = "enrolling.json";

/// Not printable: it holds a private key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    cluster: String,
    node: String,
    pub(crate) generation: u64,
    /// PEM.
    certificate: String,
    /// PEM.
    key: String,
}

/// A key and what is sent of it.
pub(crate) struct Request {
    key: KeyPair,
    /// PKCS #10, DER.
    pub(crate) der: Vec<u8>,
}

impl Request {
    /// A fresh key.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        Self::with(settings, KeyPair::generate().map_err(|error| error.to_string())?)
    }

    /// The key of the enrolment that was begun, or a fresh one that is kept until it has ended.
    pub(crate) fn pending(settings: &Settings) -> Result<Self, String> {
        let path = settings.state_dir.join(PENDING);
        let kept: Option<String> = state::load(&path).map_err(|error| error.to_string())?;
        if let Some(key) = kept.and_then(|pem| KeyPair::from_pem(&pem).ok()) {
            return Self::with(settings, key);
        }
        let request = Self::new(settings)?;
        let pem = request.key.serialize_pem();
        state::save(&path, &pem).map_err(|error| error.to_string())?;
        Ok(request)
    }

    fn with(settings: &Settings, key: KeyPair) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, settings.node.as_str());
        let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
        Ok(Self { der: request.der().to_vec(), key })
    }

    /// The credentials, if the answer is one to this request, from the pinned CA and for this node.
    pub(crate) fn accept(
        self,
        settings: &Settings,
        answer: EnrolResponse,
    ) -> Result<Credentials, String> {
        let EnrolResponse { certificate, ca, generation } = answer;
        let ca = CertificateDer::from_pem_slice(ca.as_bytes())
            .map_err(|error| format!("the coordinator's CA: {error}"))?;
        if !settings.ca.is_of(&ca) {
            return Err("the answer names another CA than the pinned one".to_owned());
        }
        let credentials = Credentials {
            cluster: settings.cluster.to_string(),
            node: settings.node.to_string(),
            generation,
            certificate,
            key: self.key.serialize_pem(),
        };
        credentials.check_name()?;
        Ok(credentials)
    }
}

impl Credentials {
    /// What was kept for this cluster and node; credentials of another one are none.
    pub(crate) fn load(settings: &Settings) -> Result<Option<Self>, state::Error> {
        let kept: Option<Self> = state::load(&settings.state_dir.join(FILE))?;
        Ok(kept.filter(|kept| {
            kept.cluster == settings.cluster.as_str() && kept.node == settings.node.as_str()
        }))
    }

    /// Keeps them, and ends the enrolment.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), state::Error> {
        state::save(&dir.join(FILE), self)?;
        let _ = std::fs::remove_file(dir.join(PENDING)); // at the next enrolment it is of no use
        Ok(())
    }

    /// Certificate chain and key as TLS wants them.
    pub(crate) fn der(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        Ok((chain.map_err(|e| e.to_string())?, key.map_err(|e| e.to_string())?))
    }

    /// From when to when the certificate is valid.
    pub(crate) fn validity(&self) -> Result<(Timestamp, Timestamp), String> {
        self.inspect(|certificate| {
            let validity = certificate.validity();
            let at = |time: x509_parser::time::ASN1Time| {
                Timestamp::from_millis(time.timestamp().saturating_mul(1000))
            };
            Ok((at(validity.not_before), at(validity.not_after)))
        })
    }

    /// When two thirds of its life are over, and it is time for a younger one.
    pub(crate) fn renew_at(&self) -> Result<Timestamp, String> {
        let (from, to) = self.validity()?;
        let life = to.as_millis() - from.as_millis();
        Ok(Timestamp::from_millis(from.as_millis() + life / 3 * 2))
    }

    fn check_name(&self) -> Result<(), String> {
        let Self { cluster, node, generation, .. } = self;
        let name = format!("rehull://{cluster}/{node}/{generation}");
        self.inspect(|certificate| {
            let names = certificate.subject_alternative_name().map_err(|e| e.to_string())?;
            let is_ours = names.is_some_and(|names| {
                names.value.general_names.iter().any(|one| *one == GeneralName::URI(&name))
            });
            is_ours.then_some(()).ok_or_else(|| format!("the certificate is not for {name}"))
        })
    }

    fn inspect<T>(
        &self,
        look: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| error.to_string())?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        look(&certificate)
    }
}
