//! An API server with a scheduler, and nothing else: no kubelet and no controller.
//!
//! They take the usual ports of the loopback device, so they need a network of their own; and they
//! end with this process, so it should be the first one of its namespace (`tests/run` sees to both).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use kube::{Client, Config, config::AuthInfo};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

const API_SERVER: &str = "https://127.0.0.1:6443";
const SCHEDULER: &str = "https://127.0.0.1:10259";
/// Whoever has it may do everything; nobody else is in this network.
const TOKEN: &str = "agreement";
/// How long the API server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running programs; they are killed when it is dropped.
pub(crate) struct ControlPlane {
    /// The API server.
    pub(crate) api: Client,
    /// The scheduler, which can be asked for its metrics.
    pub(crate) scheduler: Client,
    programs: Vec<Child>,
    dir: TempDir,
}

impl ControlPlane {
    /// Starts them from the programs in this folder.
    pub(crate) async fn start(bin: &Path) -> Self {
        let dir = TempDir::new().expect("a folder for temporary files");
        let root = dir.path().to_owned();
        let path = |name: &str| root.join(name).display().to_string();
        let key = rcgen::KeyPair::generate().expect("a key");
        write(root.join("sa.key"), &key.serialize_pem());
        write(root.join("sa.pub"), &key.public_key_pem());
        write(root.join("tokens.csv"), &format!("{TOKEN},admin,admin,system:masters\n"));
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster":
                {"server": API_SERVER, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        write(root.join("kubeconfig"), &kubeconfig.to_string());
        let mut plane = Self {
            api: client(API_SERVER),
            scheduler: client(SCHEDULER),
            programs: Vec::new(),
            dir,
        };
        plane.run(bin, "etcd", &["--unsafe-no-fsync", &arg("--data-dir", path("etcd"))]);
        // What only a controller would undo is switched off: the taint of a node that is not known
        // to be ready, and the finalizers of volumes.
        plane.run(
            bin,
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--authorization-mode=AlwaysAllow",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,StorageObjectInUseProtection",
                &arg("--cert-dir", path("api")),
                &arg("--token-auth-file", path("tokens.csv")),
                &arg("--service-account-key-file", path("sa.pub")),
                &arg("--service-account-signing-key-file", path("sa.key")),
            ],
        );
        plane.wait(&plane.api.clone()).await;
        plane.run(
            bin,
            "kube-scheduler",
            &[
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                "--kube-api-qps=5000",
                "--kube-api-burst=5000",
                "--authorization-always-allow-paths=/readyz,/metrics",
                &arg("--cert-dir", path("scheduler")),
                &arg("--kubeconfig", path("kubeconfig")),
                &arg("--authentication-kubeconfig", path("kubeconfig")),
            ],
        );
        plane.wait(&plane.scheduler.clone()).await;
        plane
    }

    fn run(&mut self, bin: &Path, program: &str, args: &[&str]) {
        let log = fs::File::create(self.log(program)).expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let child = Command::new(bin.join(program))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|why| {
            panic!(
                "{program} of {} does not start ({why}): run tests/testbed/setup.sh",
                bin.display()
            )
        });
        self.programs.push(child);
    }

    /// Waits until a server is ready.
    async fn wait(&mut self, server: &Client) {
        let began = Instant::now();
        loop {
            let Err(why) = get(server, "/readyz").await else { return };
            let mut programs = self.programs.iter_mut();
            let has_ended = programs.any(|program| !matches!(program.try_wait(), Ok(None)));
            if has_ended || began.elapsed() > PATIENCE {
                let logs = ["etcd", "kube-apiserver", "kube-scheduler"].map(|program| {
                    let log = fs::read_to_string(self.log(program)).unwrap_or_default();
                    let lines: Vec<&str> = log.lines().collect();
                    let last = &lines[lines.len().saturating_sub(20)..];
                    format!("--- {program}:\n{}\n", last.join("\n"))
                });
                panic!("not ready after {} s: {why}\n{}", began.elapsed().as_secs(), logs.concat());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self, program: &str) -> PathBuf {
        self.dir.path().join(format!("{program}.log"))
    }
}

/// What a server answers to a GET.
pub(crate) async fn get(server: &Client, path: &str) -> kube::Result<String> {
    let request = http::Request::get(path).body(Vec::new()).expect("a request");
    server.request_text(request).await
}

fn client(url: &str) -> Client {
    let mut config = Config::new(url.parse().expect("an address"));
    config.accept_invalid_certs = true;
    config.auth_info = AuthInfo { token: Some(TOKEN.to_owned().into()), ..AuthInfo::default() };
    Client::try_from(config).expect("a client")
}

fn arg(name: &str, value: String) -> String {
    format!("{name}={value}")
}

fn write(path: PathBuf, text: &str) {
    fs::write(path, text).expect("a file");
}
