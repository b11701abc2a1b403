//! A coordinator as a process, with passwords where they should not be, and everything that an
//! operator can ask of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rehull::rehearsal::api::Api;
use rehull_shared::time::now;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::{Child, Command},
    sync::mpsc,
};

use crate::{
    api::{self, Door},
    files, scan,
};

const PASSWORD: &str = "planted-password-of-a-host";
const NUMBER: &str = "4711081547110815";
const COMMENT: &str = "planted-in-a-comment";
const REGISTRY: &str = "planted-password-of-a-registry";
const KEY: &str = "planted-line-of-a-private-key";
const MANAGEMENT: &str = "planted-token-of-the-management-cluster";
const WORKLOAD: &str = "planted-token-of-the-workload-cluster";
const POD: &str = "planted-in-an-environment";
const PATH: &str = "planted-in-the-path-of-a-webhook";
const SIGNED_WITH: &str = "planted-secret-of-a-webhook";

pub(crate) const SECRETS: [&str; 10] =
    [PASSWORD, NUMBER, COMMENT, REGISTRY, KEY, MANAGEMENT, WORKLOAD, POD, PATH, SIGNED_WITH];

/// Longest wait for something to happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn inventory() -> String {
    format!(
        "all:
  vars:
    ansible_become_pass: {NUMBER}
  hosts:
    # root is {COMMENT}
    master1: {{ip: 10.0.0.1}}
    worker1: {{ip: 10.0.0.11, ansible_user: root, ansible_password: {PASSWORD}}}
  children:
    kube_control_plane: {{hosts: {{master1: }}}}
    kube_node: {{hosts: {{master1: , worker1: }}}}
    etcd: {{hosts: {{master1: }}}}
"
    )
}

fn variables() -> String {
    format!("registry_password: {REGISTRY}\nssl_private_key: |\n  BEGIN KEY\n  {KEY}\n")
}

fn config_map(name: &str, key: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kubean-system"}, "data": {key: text}})
}

/// Both clusters, as far as the first gates look.
fn clusters() -> (Api, Api) {
    let (management, workload) =
        (Api::new("management", Arc::new(now)), Api::new("workload", Arc::new(now)));
    for api in [&management, &workload] {
        api.store().put(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "kube-system"}}));
    }
    let reference = |name: &str| json!({"namespace": "kubean-system", "name": name});
    management.store().put(json!({"apiVersion": "kubean.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "prod"},
        "spec": {"hostsConfRef": reference("hosts"), "varsConfRef": reference("vars")}}));
    management.store().put(config_map("hosts", "hosts.yml", &inventory()));
    management.store().put(config_map("vars", "group_vars.yml", &variables()));
    workload.store().put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"nodeName": "worker1", "containers": [{"name": "shop", "image": "shop:1",
            "env": [{"name": "DB_PASSWORD", "value": POD}]}]}}));
    (management, workload)
}

fn kubeconfig(url: &str, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: \"{url}\"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
"
    )
}

/// A coordinator and everything around it.
pub(crate) struct House {
    root: tempfile::TempDir,
    pub(crate) management: Api,
    pub(crate) workload: Api,
    doors: [Door; 2],
    /// What was printed by whatever was typed.
    printed: Vec<(String, Vec<u8>)>,
}

impl House {
    pub(crate) async fn new() -> Self {
        let (management, workload) = clusters();
        let doors = [api::open(management.clone()).await, api::open(workload.clone()).await];
        let root = tempfile::tempdir().unwrap();
        let house = Self { root, management, workload, doors, printed: Vec::new() };
        house.write("management.yaml", &kubeconfig(&house.doors[0].url, MANAGEMENT));
        house.write("workload.yaml", &kubeconfig(&house.doors[1].url, WORKLOAD));
        house.write("webhook.secret", SIGNED_WITH);
        house.write("migration.yaml", &house.document());
        house
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn document(&self) -> String {
        let (management, workload) = (self.path("management.yaml"), self.path("workload.yaml"));
        format!(
            "apiVersion: rehull.dev/v1alpha1
kind: Migration
metadata: {{name: prod}}
spec:
  cluster: prod
  management: {{kubeconfig: {}}}
  workload: {{kubeconfig: {}, apiServers: [127.0.0.1:1]}}
  source: centos-7.9
  target: ubuntu-22.04
  operations: {{image: \"spray-job:v0.12.2\", kubernetesVersion: v1.27.5}}
  controlPlanes: Exclude
  installer: {{manual: {{}}}}
  policy: {{gateDeadline: 3s, pollInterval: 1s}}
  unsafe: a test that wants to see a hold
",
            management.display(),
            workload.display()
        )
    }

    pub(crate) fn rehull(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rehull"));
        command.args(args).env("REHULL_DIR", self.path("dir")).env_remove("REHULL_SERVER");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Types a command, and keeps what it prints. Gives it with its exit code.
    async fn types(&mut self, args: &[&str]) -> (i32, String) {
        let output = self.rehull(args).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        self.printed.push((args.join(" "), said));
        (output.status.code().unwrap(), text)
    }

    #[track_caller]
    fn scan(&self, what: &str, bytes: &[u8], token: &str) {
        let all: Vec<&str> = SECRETS.into_iter().chain([token]).collect();
        scan(what, bytes, &all);
    }
}

/// Takes every request, and keeps its bytes.
async fn receiver() -> (u16, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"}}") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            _ = stream.write_all(b"HTTP/1.1 204 X\r\nconnection: close\r\n\r\n").await;
            _ = sender.send(request);
        }
    });
    (port, requests)
}

/// Everything that a child prints until it ends.
async fn printed(mut child: Child) -> Vec<u8> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (a, b) = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    a.unwrap();
    b.unwrap();
    child.wait().await.unwrap();
    [out, err].concat()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come about"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_tells_no_secret_whatever_goes_wrong() {
    let mut house = House::new().await;
    let (port, mut notified) = receiver().await;
    let listen = format!("127.0.0.1:{}", free_port());
    assert_eq!(house.types(&["init", "--listen", &listen, "--operator", "anna"]).await.0, 0);
    let config = house.path("dir/config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let secret = house.path("webhook.secret");
    let url = format!("http://127.0.0.1:{port}/{PATH}");
    let webhook = format!("webhook: {{url: \"{url}\", secretFile: {}}}\n", secret.display());
    fs::write(&config, text + &webhook).unwrap();

    // Everything is logged, by whatever is inside.
    let serve = house.rehull(&["serve", "--log", "trace", "--log-format", "json"]).spawn().unwrap();
    let pid = serve.id().unwrap();
    let told = tokio::spawn(printed(serve));
    let socket = house.path("dir/rehull.sock");
    until("the socket", async || socket.exists()).await;

    let token = house.rehull(&["agent", "token", "prod", "worker1", "-o", "json"]).output().await;
    let token: Value = serde_json::from_slice(&token.unwrap().stdout).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    let document = house.path("migration.yaml").display().to_string();
    let (code, plan) = house.types(&["plan", "-f", &document]).await;
    assert!(code == 0 && plan.contains("all.hosts.worker1.ansible_password (line "), "{plan}");
    // Whatever is broken, and wherever the secret stands in it.
    let broken = [
        ("hosts", "hosts.yml", format!("all: \"{PASSWORD}\n")),
        ("hosts", "hosts.yml", format!("{PASSWORD}: [\n")),
        ("hosts", "hosts.yml", inventory().replace("    worker1:", "\tworker1:")),
        ("hosts", "hosts.yml", inventory().replace(PASSWORD, &format!("*{PASSWORD}"))),
        ("hosts", "hosts.yml", inventory().replace(PASSWORD, &format!("[{PASSWORD}, {{"))),
        ("vars", "group_vars.yml", format!("a: {{\nb: {REGISTRY}\n")),
        ("vars", "group_vars.yml", format!("registry_password: {REGISTRY}: {REGISTRY}\n")),
    ];
    for (name, key, text) in &broken {
        house.management.store().put(config_map(name, key, text));
        let (_, said) = house.types(&["plan", "-f", &document]).await;
        assert!(said.contains("line ") || said.contains("not YAML"), "{text:?}: {said}");
        house.management.store().put(config_map("hosts", "hosts.yml", &inventory()));
        house.management.store().put(config_map("vars", "group_vars.yml", &variables()));
    }
    for (name, token) in [("management.yaml", MANAGEMENT), ("workload.yaml", WORKLOAD)] {
        let whole = fs::read_to_string(house.path(name)).unwrap();
        // Another file, as kubeconfigs that were read are kept in memory.
        let (half, other) = (whole.replace("}}]\n", ""), format!("broken-{name}"));
        assert!(half.contains(token));
        house.write(&other, &half);
        house.write("broken.yaml", &house.document().replace(name, &other));
        let file = house.path("broken.yaml").display().to_string();
        let (_, said) = house.types(&["plan", "-f", &file]).await;
        assert!(said.contains(&other) && said.contains("not a kubeconfig"), "{said}");
    }

    assert_eq!(house.types(&["migrate", "start", "-f", &document]).await.0, 0);
    let request = tokio::time::timeout(PATIENCE, notified.recv()).await.unwrap().unwrap();
    let request = String::from_utf8_lossy(&request).into_owned();
    assert!(request.contains("migration.held"), "{request}");
    for args in [
        &["status", "-o", "yaml"][..],
        &["explain", "prod", "-o", "json"],
        &["explain", "prod", "worker1"],
        &["history", "prod", "-o", "json"],
        &["agent", "list"],
        &["agent", "revoke", "prod", "worker1"],
        &["migrate", "retry", "prod"],
        &["log", "verify"],
    ] {
        let (code, said) = house.types(args).await;
        assert_eq!(code, 0, "{args:?}: {said}");
    }

    terminate(pid);
    let told = told.await.unwrap();
    for args in [
        &["log", "export"][..],
        &["history", "prod", "--offline"],
        &["explain", "prod", "--offline"],
        &["status", "--offline"],
        &["log", "verify"],
    ] {
        let (code, said) = house.types(args).await;
        assert_eq!(code, 0, "{args:?}: {said}");
    }

    // The secrets were really in use.
    for (door, token) in house.doors.iter().zip([MANAGEMENT, WORKLOAD]) {
        let shown = door.shown.lock().unwrap();
        assert!(shown.iter().any(|value| *value == format!("Bearer {token}")), "{shown:?}");
    }
    assert!(request.contains(PATH) && told.len() > 10_000);
    house.scan("the coordinator", &told, &token);
    for (args, said) in &house.printed {
        house.scan(args, said, &token);
    }
    let body = request.split("\r\n\r\n").nth(1).unwrap();
    house.scan("a notification", body.as_bytes(), &token);
    // The keys are files of their own, and the settings name the receiver.
    let own = ["ca.key", "operator.key", "config.yaml"];
    for (name, content) in files(&house.path("dir"), &own) {
        house.scan(&name, &content, &token);
    }
    for key in ["ca.key", "operator.key"] {
        let key = fs::read_to_string(house.path("dir").join(key)).unwrap();
        let line = key.lines().nth(1).unwrap();
        scan("the coordinator", &told, &[line]);
        house.printed.iter().for_each(|(args, said)| scan(args, said, &[line]));
    }
    assert!(Path::new(&house.path("dir/webhook.cursor")).exists());
}

/// Ends a process as its manager would.
fn terminate(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
