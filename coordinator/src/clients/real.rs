//! Clients of real clusters: from kubeconfigs on this machine, or the one that Kubean keeps.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use rehull_shared::time::{Timestamp, now};
use x509_parser::{pem::parse_x509_pem, time::ASN1Time};

use super::{Clients, Connect, Endpoint, Trouble, calls};
use crate::{
    domain::plan::{Access, Plan},
    kubean::Cluster,
};

/// How long a connection, a request or an answer may take. Nothing that passes ask takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Key of the kubeconfig in the ConfigMap that Kubean keeps of a cluster.
const KUBECONF_KEY: &str = "config";

/// Connects to real clusters.
pub fn real() -> Connect {
    Arc::new(|plan, endpoint| Box::pin(async move { connect(&plan, endpoint).await }))
}

async fn connect(plan: &Plan, endpoint: Endpoint) -> Result<Client, Trouble> {
    let config = match &endpoint {
        Endpoint::Management => management(plan).await?,
        Endpoint::Workload => workload(plan).await?,
        Endpoint::ApiServer(address) => {
            let config = workload(plan).await?;
            of_one(config, address).map_err(|why| Trouble::new(&endpoint, why))?
        }
    };
    client(config).map_err(|why| Trouble::new(&endpoint, why))
}

/// The same for one API server by its own address. Its certificate has to be for that one, whatever name the
/// kubeconfig has certificates looked at for: clients that come by the address have no such kubeconfig.
fn of_one(mut config: Config, address: &str) -> Result<Config, http::uri::InvalidUri> {
    config.cluster_url = format!("https://{address}").parse()?;
    config.tls_server_name = None;
    Ok(config)
}

fn client(mut config: Config) -> kube::Result<Client> {
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(PATIENCE);
    config.write_timeout = Some(PATIENCE);
    config.reset_reader_on_write = true;
    // Passes are repeated anyway, and a 429 of an eviction is an answer, not an overload.
    config.default_retry = false;
    Client::try_from(config)
}

async fn management(plan: &Plan) -> Result<Config, Trouble> {
    if let Some(path) = &plan.management.kubeconfig {
        return from_file(path, &plan.management).await;
    }
    Config::incluster().map_err(|why| {
        let what = "the management cluster: spec.management.kubeconfig is not given, and there is \
                    no service account here";
        Trouble::new(what, why)
    })
}

async fn workload(plan: &Plan) -> Result<Config, Trouble> {
    match &plan.workload.kubeconfig {
        Some(path) => from_file(path, &plan.workload).await,
        None => {
            let management = client(management(plan).await?);
            let management = management.map_err(|why| Trouble::new(Endpoint::Management, why))?;
            kept_by_kubean(plan, management).await
        }
    }
}

async fn from_file(path: &str, access: &Access) -> Result<Config, Trouble> {
    let context = access.context.clone();
    let what = match &context {
        Some(context) => format!("kubeconfig {path}, context {context}"),
        None => format!("kubeconfig {path}, current context"),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|why| Trouble::new(&what, words(&why)))?;
    configured(&what, kubeconfig, context).await
}

async fn configured(
    what: &str,
    kubeconfig: Kubeconfig,
    context: Option<String>,
) -> Result<Config, Trouble> {
    let options = KubeConfigOptions { context, cluster: None, user: None };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let config = config.map_err(|why| Trouble::new(what, words(&why)))?;
    refuse_expired(&config, now()).map_err(|why| Trouble::new(what, why))?;
    if config.accept_invalid_certs {
        let why = "it has insecure-skip-tls-verify, so anybody could answer for the API server and get its \
                   credentials: take that out, and give certificate-authority-data, as in kubeadm's \
                   admin.conf";
        return Err(Trouble::new(what, why));
    }
    Ok(config)
}

/// Refuses a client certificate that is not valid now: API servers only answer that they do not
/// know who is calling. One that cannot be read is left to the client, which says why.
fn refuse_expired(config: &Config, now: Timestamp) -> Result<(), String> {
    let auth = &config.auth_info;
    let given = auth.client_certificate_data.as_ref().and_then(|data| BASE64.decode(data).ok());
    let file = || std::fs::read(auth.client_certificate.as_ref()?).ok();
    let Some(pem) = given.or_else(file) else { return Ok(()) };
    let Ok((_, pem)) = parse_x509_pem(&pem) else { return Ok(()) };
    let Ok(certificate) = pem.parse_x509() else { return Ok(()) };
    let at = |time: ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1_000));
    let validity = certificate.validity();
    let (begin, end) = (at(validity.not_before), at(validity.not_after));
    let whose = certificate.subject();
    if end < now {
        return Err(format!(
            "its client certificate ({whose}) expired at {end}: renew it, as with `kubeadm certs \
             renew admin.conf`"
        ));
    }
    match begin > now {
        true => Err(format!(
            "its client certificate ({whose}) is not valid before {begin}: is the clock of this \
             machine right?"
        )),
        false => Ok(()),
    }
}

/// What is wrong with a kubeconfig. What the parser says would quote it, credentials and all.
fn words(why: &KubeconfigError) -> String {
    match why {
        KubeconfigError::Parse(_) => {
            "it is not a kubeconfig that can be read; try it with kubectl".to_owned()
        }
        other => other.to_string(),
    }
}

/// The URL of the server in the workload's kubeconfig.
///
/// # Errors
/// A [`Trouble`] if the kubeconfig cannot be had, or names no server.
pub async fn server_of(plan: &Plan, clients: &Clients) -> Result<String, Trouble> {
    let config = match &plan.workload.kubeconfig {
        Some(path) => from_file(path, &plan.workload).await?,
        None => {
            let management = clients.get(plan, Endpoint::Management).await?;
            kept_by_kubean(plan, management).await?
        }
    };
    Ok(config.cluster_url.to_string())
}

/// The server that the kubeconfig leads to that Kubean keeps, whatever the document says; `None` if it
/// keeps none.
///
/// # Errors
/// If it cannot be read.
pub async fn kept_server(plan: &Plan, clients: &Clients) -> Result<Option<String>, Trouble> {
    let management = clients.get(plan, Endpoint::Management).await?;
    let clusters: Api<Cluster> = Api::all(management.clone());
    let cluster = calls::call(clusters.get(plan.cluster.as_str())).await;
    let cluster = cluster.map_err(|failure| failure.with(format!("Cluster {}", plan.cluster)))?;
    if cluster.spec.kubeconf_ref.is_none() {
        return Ok(None);
    }
    Ok(Some(kept_by_kubean(plan, management).await?.cluster_url.to_string()))
}

/// The kubeconfig in the ConfigMap that the Cluster names. Kubean deletes and makes it anew when it
/// is refreshed, so it may be missing for a moment.
async fn kept_by_kubean(plan: &Plan, management: Client) -> Result<Config, Trouble> {
    let what = format!("Cluster {} of the management cluster", plan.cluster);
    let clusters: Api<Cluster> = Api::all(management.clone());
    let cluster = calls::call(clusters.get(plan.cluster.as_str())).await;
    let cluster = cluster.map_err(|failure| failure.with(&what))?;
    let kept = cluster.spec.kubeconf_ref.ok_or_else(|| {
        let why = "it names no kubeconfRef; give spec.workload.kubeconfig";
        Trouble::new(&what, why)
    })?;
    let what = format!("ConfigMap {}/{} with the workload's kubeconfig", kept.namespace, kept.name);
    let maps: Api<ConfigMap> = Api::namespaced(management, &kept.namespace);
    let stored = calls::call(maps.get(&kept.name)).await;
    let data = stored.map_err(|failure| failure.with(&what))?.data.unwrap_or_default();
    let text = data.get(KUBECONF_KEY).ok_or_else(|| {
        let why = format!("it has no key {KUBECONF_KEY:?}");
        Trouble::new(&what, why)
    })?;
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|why| Trouble::new(&what, words(&why)))?;
    configured(&what, kubeconfig, plan.workload.context.clone()).await
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

    use super::*;

    const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: prod, cluster: {server: \"https://lb.example:6443\"}}]
contexts: [{name: prod, context: {cluster: prod, user: admin}}]
users: [{name: admin, user: {token: hunter2}}]
";

    fn access(path: &std::path::Path, context: Option<&str>) -> Access {
        let kubeconfig = Some(path.display().to_string());
        Access { kubeconfig, context: context.map(str::to_owned) }
    }

    #[tokio::test]
    async fn a_kubeconfig_is_read_and_its_faults_name_file_and_context() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workload.yaml");
        let file = path.display().to_string();
        let read = async |context| {
            let access = access(&path, context);
            let config = from_file(&file, &access).await;
            config.map(|config| config.cluster_url.to_string()).map_err(|why| why.to_string())
        };
        let trouble = read(None).await.unwrap_err();
        let begin = format!("kubeconfig {file}, current context: ");
        assert!(trouble.starts_with(&begin), "{trouble}");
        std::fs::write(&path, KUBECONFIG).unwrap();
        assert_eq!(read(None).await.unwrap(), "https://lb.example:6443/");
        let trouble = read(Some("staging")).await.unwrap_err();
        assert!(trouble.contains("context staging: "), "{trouble}");
        std::fs::write(&path, "users: [{name: admin, user: {token: hunter2").unwrap();
        let trouble = read(None).await.unwrap_err();
        assert!(!trouble.contains("hunter2"), "{trouble}");
    }

    /// A kubeconfig with a client certificate that is valid in these years, as data or as a file.
    fn with_certificate(dir: &std::path::Path, years: (i32, i32), as_file: bool) -> Kubeconfig {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes-admin");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let certificate = match as_file {
            false => format!("client-certificate-data: {}", BASE64.encode(pem)),
            true => {
                std::fs::write(dir.join("admin.crt"), pem).unwrap();
                format!("client-certificate: {}", dir.join("admin.crt").display())
            }
        };
        let key = BASE64.encode(key.serialize_pem());
        let user = format!("{certificate}, client-key-data: {key}");
        Kubeconfig::from_yaml(&KUBECONFIG.replace("token: hunter2", &user)).unwrap()
    }

    #[tokio::test]
    async fn an_expired_client_certificate_is_named_with_its_end() {
        let dir = tempfile::tempdir().unwrap();
        for as_file in [false, true] {
            for (years, words) in [
                (
                    (2001, 2002),
                    "prod: its client certificate (CN=kubernetes-admin) expired at 2002",
                ),
                ((2400, 2401), "not valid before 2400"),
            ] {
                let kubeconfig = with_certificate(dir.path(), years, as_file);
                let trouble = configured("prod", kubeconfig, None).await.unwrap_err().to_string();
                assert!(trouble.contains(words), "{trouble}");
            }
            let kubeconfig = with_certificate(dir.path(), (2001, 2400), as_file);
            configured("prod", kubeconfig, None).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_trusts_anybody_is_refused_and_told_what_to_do() {
        let anybody = KUBECONFIG.replace("6443\"", "6443\", insecure-skip-tls-verify: true");
        let kubeconfig = Kubeconfig::from_yaml(&anybody).unwrap();
        let trouble = configured("kubeconfig x", kubeconfig, None).await.unwrap_err().to_string();
        assert!(trouble.starts_with("kubeconfig x: it has insecure-skip-tls-verify"), "{trouble}");
        assert!(trouble.contains("give certificate-authority-data"), "{trouble}");
    }

    #[tokio::test]
    async fn one_api_server_has_to_show_a_certificate_for_its_own_address() {
        let named = KUBECONFIG.replace("6443\"", "6443\", tls-server-name: lb.example");
        let kubeconfig = Kubeconfig::from_yaml(&named).unwrap();
        let config = configured("prod", kubeconfig, None).await.unwrap();
        assert_eq!(config.tls_server_name.as_deref(), Some("lb.example"));
        let config = of_one(config, "10.0.0.7:6443").unwrap();
        assert_eq!(config.tls_server_name, None);
        assert_eq!(config.cluster_url.to_string(), "https://10.0.0.7:6443/");
    }

    /// A server that shows the certificate of a CA of its own, and speaks no HTTP.
    async fn stranger() -> String {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                _ = acceptor.accept(stream).await;
            }
        });
        format!("https://{address}")
    }

    #[tokio::test]
    async fn a_server_of_another_ca_is_said_to_be_of_another_cluster() {
        let ours = crate::authority::Authority::create().unwrap();
        let cluster = format!(
            "server: \"{}\", certificate-authority-data: {}",
            stranger().await,
            BASE64.encode(ours.certificate())
        );
        let text = KUBECONFIG.replace("server: \"https://lb.example:6443\"", &cluster);
        let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
        let client = client(configured("prod", kubeconfig, None).await.unwrap()).unwrap();
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client);
        let failure = calls::get(&nodes, "worker1").await.unwrap_err().to_string();
        assert!(failure.contains("it is of another cluster"), "{failure}");
        assert!(!failure.contains("hunter2"), "{failure}");
    }
}
