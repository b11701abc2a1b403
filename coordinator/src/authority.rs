//! The certificate authority: who is who on the wire. One CA for each coordinator, made by `init`.
//!
//! Names are decided here and never by who asks: a certificate request gives a key and nothing
//! else. Certificates live in real time, whatever clock the rules are given, because the TLS
//! library checks them against the clock of the machine.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rehull_shared::{
    ids::Generation,
    text::sha256_hex,
    time::{Span, now},
};
use tonic::transport::Identity;

use crate::agents::Whom;

mod names;

pub use names::{Name, NotOurs};

/// The name in the server's certificate, which agents and operators verify instead of its address:
/// the address may change, and is no secret.
pub const SERVER_NAME: &str = "rehull-coordinator";

/// Life of an agent's certificate, unless configured. Agents renew after two thirds of it.
pub const AGENT_LIFE: Span = Span::from_secs(30 * 86_400);

/// Life of the CA and of what `init` and `serve` make: longer than any migration of a fleet.
const LONG_LIFE: Span = Span::from_secs(10 * 365 * 86_400);

/// How far a host's clock may be behind when it looks at a fresh certificate.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);

/// Certificate of the CA, in the coordinator's directory.
const CA_CERTIFICATE: &str = "ca.pem";
/// Its key; whoever reads it can be anybody.
const CA_KEY: &str = "ca.key";

/// Signs the certificates of one coordinator and of everybody who talks to it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
    sha256: String,
    /// How far back its certificates are valid already.
    slack: Duration,
}

/// A certificate with its key, both PEM.
pub struct Pair {
    /// The certificate, followed by the CA's.
    pub certificate: String,
    /// The key. No `Debug`, no `Display`.
    pub key: String,
}

/// Something about certificates went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A coordinator was made here before.
    #[error("{0} exists already: a coordinator lives here; choose another --dir")]
    Exists(PathBuf),
    /// A request or a stored certificate is not usable.
    #[error("{what}: {source}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: rcgen::Error,
    },
}

fn bad(what: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error::Certificate { what, source }
}

impl Authority {
    /// A new CA, in memory only.
    ///
    /// # Errors
    /// If the machine cannot make keys.
    pub fn create() -> Result<Self, Error> {
        Self::create_backdated(CLOCK_SLACK)
    }

    /// The same with certificates that were valid so long ago already: for rehearsals, whose clock
    /// runs far behind the machine's.
    ///
    /// # Errors
    /// If the machine cannot make keys.
    pub fn create_backdated(slack: Duration) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(bad("the CA's key"))?;
        let mut params = lasting(LONG_LIFE, slack);
        params.distinguished_name.push(DnType::CommonName, "rehull CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(bad("the CA's certificate"))?;
        Ok(Self { slack, ..Self::new(certificate.pem(), key.serialize_pem())? })
    }

    fn new(certificate: String, key: String) -> Result<Self, Error> {
        let pair = KeyPair::from_pem(&key).map_err(bad("the CA's key"))?;
        let wrong = bad("the CA's certificate");
        let (_, pem) = match x509_parser::pem::parse_x509_pem(certificate.as_bytes()) {
            Ok(parsed) => parsed,
            Err(_) => return Err(wrong(rcgen::Error::CouldNotParseCertificate)),
        };
        let sha256 = sha256_hex(&pem.contents);
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(wrong)?;
        Ok(Self { issuer, certificate, key, sha256, slack: CLOCK_SLACK })
    }

    /// The CA in `dir`.
    ///
    /// # Errors
    /// If it is not there or unusable.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| Error::Io { path, source })
        };
        Self::new(read(CA_CERTIFICATE)?, read(CA_KEY)?)
    }

    /// Stores it in `dir`, where there must be none yet.
    ///
    /// # Errors
    /// If there is one, or it cannot be written.
    pub fn store(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.into(), source })?;
        write_private(&dir.join(CA_KEY), &self.key)?;
        write_private(&dir.join(CA_CERTIFICATE), &self.certificate)
    }

    /// The CA's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// SHA-256 of the CA certificate's DER: what agents pin.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// A fresh identity of the server. It is made at every start and never stored: the CA's key is
    /// on the same machine, so a stored one would only be one more secret.
    ///
    /// # Errors
    /// If the machine cannot make keys.
    pub fn server(&self) -> Result<Identity, Error> {
        let mut params = lasting(LONG_LIFE, self.slack);
        let name = SERVER_NAME.try_into().map_err(bad("the server's name"))?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = self.pair(params)?;
        Ok(Identity::from_pem(pair.certificate, pair.key))
    }

    /// A certificate for an operator.
    ///
    /// # Errors
    /// If the user's name fits no URI, or the machine cannot make keys.
    pub fn operator(&self, user: &str) -> Result<Pair, Error> {
        self.pair(client(&Name::Operator { user: user.to_owned() }, user, LONG_LIFE, self.slack)?)
    }

    /// A certificate for an agent. Of the request (PKCS #10, DER) only the key counts, and that
    /// whoever sends it has the private one.
    ///
    /// # Errors
    /// If the request is unreadable or not signed by its own key.
    pub fn agent(
        &self,
        request: &[u8],
        whom: &Whom,
        generation: Generation,
        life: Span,
    ) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_der(&request.into())
            .map_err(bad("the certificate request"))?;
        let (cluster, node) = whom.clone();
        let name = Name::Agent { cluster, node, generation };
        let signed = client(&name, whom.1.as_str(), life, self.slack)?
            .signed_by(&request.public_key, &self.issuer)
            .map_err(bad("the agent's certificate"))?;
        Ok(signed.pem())
    }

    /// Whether a certificate request could be signed, asked before a token is used up for it.
    ///
    /// # Errors
    /// If it is unreadable or not signed by its own key.
    pub fn check_request(request: &[u8]) -> Result<(), Error> {
        CertificateSigningRequestParams::from_der(&request.into())
            .map(|_| ())
            .map_err(bad("the certificate request"))
    }

    fn pair(&self, params: CertificateParams) -> Result<Pair, Error> {
        let key = KeyPair::generate().map_err(bad("a key"))?;
        let signed = params.signed_by(&key, &self.issuer).map_err(bad("a certificate"))?;
        let certificate = format!("{}{}", signed.pem(), self.certificate);
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

impl Pair {
    /// Stores it as `<name>.pem` and `<name>.key` in `dir`.
    ///
    /// # Errors
    /// If one of them is there already, or cannot be written.
    pub fn store(&self, dir: &Path, name: &str) -> Result<(), Error> {
        write_private(&dir.join(format!("{name}.key")), &self.key)?;
        write_private(&dir.join(format!("{name}.pem")), &self.certificate)
    }
}

/// 32 bytes that nobody can guess.
///
/// # Panics
/// If the machine has no source of randomness; nothing could be trusted then.
pub fn draw() -> [u8; 32] {
    let mut bytes = [0; 32];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// If it is there already, or cannot be written.
pub fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(path.into()),
        _ => Error::Io { path: path.into(), source },
    };
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

fn lasting(life: Span, slack: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let millis = u64::try_from(now().as_millis()).unwrap_or(0);
    let moment = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(millis);
    params.not_before = moment - slack;
    params.not_after = moment + life.as_duration();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn client(
    name: &Name,
    common: &str,
    life: Span,
    slack: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = lasting(life, slack);
    let uri = name.to_string().try_into().map_err(bad("the name in a certificate"))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["evil".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    fn whom() -> Whom {
        ("prod".parse().unwrap(), "worker1".parse().unwrap())
    }

    #[test]
    fn names_come_from_the_coordinator_and_not_from_the_request() {
        let authority = Authority::create().unwrap();
        let pem = authority.agent(&request(), &whom(), Generation(3), AGENT_LIFE).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (cluster, node) = whom();
        let expected = Name::Agent { cluster, node, generation: Generation(3) };
        assert_eq!(Name::of_certificate(&pem.contents).unwrap(), expected);
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=worker1");
        assert!(!certificate.is_ca());
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let mut request = request();
        let last = request.len() - 1;
        request[last] ^= 1;
        let authority = Authority::create().unwrap();
        assert!(authority.agent(&request, &whom(), Generation(1), AGENT_LIFE).is_err());
        assert!(Authority::check_request(&request).is_err());
    }

    #[test]
    fn a_stored_authority_is_the_same_and_is_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create().unwrap();
        authority.store(dir.path()).unwrap();
        assert_eq!(Authority::open(dir.path()).unwrap().sha256(), authority.sha256());
        let mode = fs::metadata(dir.path().join(CA_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Authority::create().unwrap().store(dir.path());
        assert!(matches!(again, Err(Error::Exists(_))));
    }
}
