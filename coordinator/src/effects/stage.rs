//! A stage for tests of passes: two clusters in memory, one worker that is migrated.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use rehull_shared::{
    evidence::{Check, Verdict},
    ids::{Attempt, ClusterName, Epoch, NodeName, Round},
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{Context, Exit, Invocation, Requests, pass};
use crate::{
    agents::Agents,
    blobs::Blobs,
    clients::{Clients, Endpoint, Trouble},
    domain::{
        effect::{Effect, Work},
        operation,
        plan::{Access, Installer, Plan, PlannedNode},
        policy::Policy,
        state::{
            Extent, Fleet, Inputs, Kind, Migration, Node, Operation, OperationIntent, Phase,
            Progress, Subject, Track,
        },
    },
    rehearsal::api::Api,
};

/// The inventory of the stage.
pub(super) const INVENTORY: &str = "\
all:
  hosts:
    master1: {ip: 10.0.0.1}
    worker1:
      ip: 10.0.0.11
    worker2:
      ip: 10.0.0.12
  children:
    kube_control_plane:
      hosts:
        master1:
    kube_node:
      hosts:
        worker1:
        worker2:
    etcd:
      hosts:
        master1:
";

/// Its kubeconfig of the workload cluster, without any credentials.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: prod
clusters: [{name: prod, cluster: {server: \"https://10.0.0.1:6443\"}}]
contexts: [{name: prod, context: {cluster: prod, user: admin}}]
users: [{name: admin, user: {}}]
";

pub(super) const NAMESPACE: &str = "kubean-system";

/// What installers answer, in turn: lines and code.
type Answers = Arc<Mutex<Vec<(Vec<&'static str>, i32)>>>;

/// What a test plays on.
pub(super) struct Stage {
    pub(super) management: Api,
    pub(super) workload: Api,
    pub(super) context: Context,
    pub(super) fleet: Fleet,
    /// What installers were called with.
    pub(super) calls: Arc<Mutex<Vec<Invocation>>>,
    /// What installers answer next.
    pub(super) answers: Answers,
    now: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

pub(super) fn worker1() -> NodeName {
    "worker1".parse().unwrap()
}

fn cluster() -> ClusterName {
    "prod".parse().unwrap()
}

fn map(name: &str, key: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE}, "data": {key: text}})
}

impl Stage {
    /// Both clusters up, nothing begun.
    pub(super) fn new() -> Self {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let read = now.clone();
        let clock: crate::engine::Clock =
            Arc::new(move || Timestamp::from_millis(read.load(Ordering::Relaxed)));
        let management = Api::new("management", clock.clone());
        let workload = Api::new("workload", clock.clone());
        let dir = tempfile::tempdir().unwrap();
        let (calls, answers) = (Arc::default(), Arc::default());
        let context = Context {
            clients: clients(management.clone(), workload.clone()),
            agents: Agents::default(),
            readiness: Default::default(),
            etcd: Default::default(),
            blobs: Blobs::open(dir.path().join("blobs")).unwrap(),
            backups: None,
            run_program: program(&calls, &answers),
            protection: Some("/opt/protection".into()),
            installers: vec!["/opt/reinstall".into()],
            clock,
            draw: Arc::new(|| [7; 32]),
            dir: dir.path().to_owned(),
            advertised: "coordinator:7443".into(),
            ca_sha256: "ca".into(),
        };
        let fleet = fleet();
        let stage = Self { management, workload, context, fleet, calls, answers, now, _dir: dir };
        stage.furnish();
        stage
    }

    fn furnish(&self) {
        let reference = |name: &str| json!({"namespace": NAMESPACE, "name": name});
        self.put(json!({"apiVersion": "kubean.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "prod"},
            "spec": {"hostsConfRef": reference("prod-hosts-conf"),
                "varsConfRef": reference("prod-vars-conf"),
                "kubeconfRef": reference("prod-kubeconf"),
                "sshAuthRef": reference("prod-ssh")}}));
        self.put(map("prod-hosts-conf", "hosts.yml", INVENTORY));
        self.put(map("prod-vars-conf", "group_vars.yml", "kube_version: v1.27.5\n"));
        self.put(map("prod-kubeconf", "config", KUBECONFIG));
        for api in [&self.management, &self.workload] {
            api.store().put(json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "kube-system"}}));
        }
        for name in ["master1", "worker1", "worker2"] {
            self.workload.store().put(json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name},
                "status": {"nodeInfo": {"architecture": "", "bootID": "", "machineID": "",
                    "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "v1.27.5", "operatingSystem": "", "osImage": "",
                    "systemUUID": ""}}}));
        }
    }

    /// Lets both kubeconfigs lead to the management cluster.
    pub(super) fn join_clusters(&mut self) {
        self.context.clients = clients(self.management.clone(), self.management.clone());
    }

    /// Puts an object into the management cluster.
    pub(super) fn put(&self, object: Value) {
        self.management.store().put(object);
    }

    /// An object of the management cluster.
    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.management.store().get(plural, namespace, name).cloned()
    }

    /// Requests of the management cluster so far that change something.
    pub(super) fn writes(&self) -> Vec<String> {
        let calls = self.management.calls();
        calls.into_iter().filter(|call| !call.starts_with("GET ")).collect()
    }

    /// Lets time pass.
    pub(super) fn wait(&self, secs: i64) {
        self.now.fetch_add(secs * 1000, Ordering::Relaxed);
    }

    pub(super) fn migration(&mut self) -> &mut Migration {
        Arc::make_mut(self.fleet.migrations.get_mut(&cluster()).unwrap())
    }

    /// The state of a node.
    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        let mut nodes = self.migration().nodes.iter_mut();
        nodes.find(|node| node.planned.name.as_str() == name).unwrap()
    }

    /// Makes the inputs of an operation of worker1, intends it, and gives its name.
    pub(super) async fn intend(&mut self, kind: Kind) -> String {
        let inputs = self.prepare(kind).await.unwrap();
        let name = operation::name(&cluster(), kind, &worker1(), Attempt(1));
        let intent = OperationIntent { name: name.clone(), kind, attempt: Attempt(1), inputs };
        let operation = Operation {
            intent,
            progress: Progress::Intended,
            archived: false,
            extent: Extent::Unknown,
            accepted: false,
        };
        let now = (self.context.clock)();
        let node = self.node("worker1");
        node.operations.push(operation);
        (node.track.phase, node.track.since) = (Phase::Operating, now);
        name
    }

    /// Runs the pass that stores inputs.
    pub(super) async fn prepare(&self, kind: Kind) -> Result<Inputs, Trouble> {
        use crate::domain::command::{Report, Request};
        let work = Work::PrepareInputs { node: worker1(), kind, attempt: Attempt(1) };
        let mut requests = self.pass(work).await?;
        match requests.pop() {
            Some(Request::Report(Report::Inputs { inputs, .. })) => Ok(inputs),
            other => panic!("no inputs are reported: {other:?}"),
        }
    }

    /// Sets how far the last operation of worker1 is.
    pub(super) fn progress(&mut self, progress: Progress) {
        self.node("worker1").operations.last_mut().unwrap().progress = progress;
    }

    /// Runs one pass.
    pub(super) async fn pass(&self, work: Work) -> Result<Requests, Trouble> {
        pass(&Effect { cluster: cluster(), work }, &self.fleet, &self.context).await
    }

    /// Runs a pass that must only say what it is about to change, has that in the log, and names it.
    pub(super) async fn has_logged(&mut self, work: Work) -> Vec<String> {
        use crate::domain::command::{Report, Request};
        let mut objects = Vec::new();
        for request in self.pass(work).await.unwrap() {
            let Request::Report(Report::Changing { node, object, revision, .. }) = request else {
                panic!("it has done more: {request:?}");
            };
            self.node(node.as_str()).changing.insert(object.clone(), revision);
            objects.push(object);
        }
        objects
    }

    /// Whether inputs are stored as planned.
    pub(super) async fn inputs_stored(&self, inputs: &Inputs) -> Verdict {
        let effect = Effect { cluster: cluster(), work: Work::CleanUp };
        self.bare_pass(&effect).inputs_stored(&self.management.client(), inputs).await
    }

    /// A pass that does nothing yet.
    pub(super) fn bare_pass<'a>(&'a self, effect: &'a Effect) -> super::Pass<'a> {
        let migration = &self.fleet.migrations[&cluster()];
        super::Pass { context: &self.context, fleet: &self.fleet, migration, effect }
    }

    /// What the management cluster says of a check.
    pub(super) async fn look(&self, subject: &Subject, check: Check) -> Verdict {
        let effect = Effect { cluster: cluster(), work: Work::CleanUp };
        self.bare_pass(&effect).management(subject, check).await
    }
}

fn clients(management: Api, workload: Api) -> Clients {
    Clients::new(Arc::new(move |_, endpoint| {
        let api = match endpoint {
            Endpoint::Management => management.clone(),
            Endpoint::Workload | Endpoint::ApiServer(_) => workload.clone(),
        };
        Box::pin(async move { Ok(api.client()) })
    }))
}

fn program(calls: &Arc<Mutex<Vec<Invocation>>>, answers: &Answers) -> super::RunProgram {
    let (calls, answers) = (calls.clone(), answers.clone());
    Arc::new(move |call, line| {
        calls.lock().unwrap().push(call);
        let (lines, code) = answers.lock().unwrap().remove(0);
        for text in &lines {
            line((*text).to_owned());
        }
        Box::pin(async move { Ok(Exit { code: Some(code), tail: lines.join("\n") }) })
    })
}

fn fleet() -> Fleet {
    let access = Access { kubeconfig: None, context: None };
    let plan = Plan {
        cluster: cluster(),
        management: access.clone(),
        workload: access,
        namespace: NAMESPACE.into(),
        api_servers: vec!["10.0.0.1:6443".into()],
        source: "centos-7.9".to_owned().try_into().unwrap(),
        target: "ubuntu-22.04".to_owned().try_into().unwrap(),
        image: "registry.example/spray-job:v0.12.2".into(),
        kubernetes_version: "v1.27.5".into(),
        kube_version_arg: "v1.27.5".into(),
        facts_hook: false,
        repos: Vec::new(),
        installer: Installer::Command { program: "/opt/reinstall".into(), args: Vec::new() },
        policy: Policy::default(),
        unsafe_because: None,
        control_planes_excluded: true,
        calendar: Default::default(),
        protection: None,
        join_canary: None,
        control_planes: Vec::new(),
        endpoint: None,
    };
    let migration = Migration {
        id: uuid::Uuid::from_u128(7),
        plan,
        by: "test".into(),
        started_at: Timestamp::default(),
        paused_by: None,
        aborted_by: None,
        planned: 2,
        track: track(Phase::Working),
        nodes: vec![node("worker1", "10.0.0.11"), node("worker2", "10.0.0.12")],
        export: None,
        protection: Default::default(),
        identity: None,
        proved: None,
    };
    Fleet {
        epoch: Epoch(3),
        migrations: BTreeMap::from([(cluster(), Arc::new(migration))]),
        ..Fleet::default()
    }
}

fn node(name: &str, address: &str) -> Node {
    let name = name.parse().unwrap();
    let planned =
        PlannedNode { name, address: address.into(), canary: false, role: Default::default() };
    let mut node = Node::new(planned, Timestamp::default());
    node.track.round = Round(1);
    node
}

fn track(phase: Phase) -> Track {
    Track {
        round: Round(1),
        phase,
        since: Timestamp::default(),
        hold: None,
        troubles: Default::default(),
        approvals: Default::default(),
    }
}
