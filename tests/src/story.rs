//! Given / when / then for the rules: a fleet, a virtual clock, and answers to what is asked.

use rehull::domain::{
    command::{Command, Refusal, Report, Request},
    decide::decide,
    event::{Event, Recorded},
    gate::{Gate, Need},
    plan::{Access, ControlPlane, Hook, Installer, JoinCanary, Plan, PlannedNode, Role},
    policy::Policy,
    state::{
        BackupTaken, ClusterIdentity, Extent, Fleet, HostIdentity, Inputs, Kind, Migration, Node,
        Outcome, Phase, Snapshot, Subject, Token,
    },
};
use rehull_shared::{
    evidence::{Evidence, Source, Verdict, Witness},
    ids::{ClusterName, Generation, NodeName},
    time::{Span, Timestamp},
};
use uuid::Uuid;

use crate::invariants;

/// A story about one cluster with workers `n1` and `n2`; `n1` is the canary.
#[derive(Clone)]
pub struct Story {
    /// The state now.
    pub fleet: Fleet,
    /// Everything that has happened.
    pub log: Vec<Recorded>,
    /// The time now.
    pub now: Timestamp,
}

/// The cluster of every story.
pub fn prod() -> ClusterName {
    "prod".parse().expect("a cluster name")
}

/// A node of it.
pub fn node(name: &str) -> NodeName {
    name.parse().expect("a node name")
}

/// The subject of most steps.
pub fn on(name: &str) -> Subject {
    Subject::Node(node(name))
}

/// A plan with two API servers and production policy.
pub fn plan() -> Plan {
    let access = Access { kubeconfig: None, context: None };
    let profile = |id: &str| id.to_owned().try_into().expect("a profile");
    Plan {
        cluster: prod(),
        management: access.clone(),
        workload: access,
        namespace: "kubean-system".into(),
        api_servers: vec!["10.0.0.1:6443".into(), "10.0.0.2:6443".into()],
        source: profile("centos-7.9"),
        target: profile("ubuntu-22.04"),
        image: "ghcr.io/kubean-io/spray-job:v0.12.2".into(),
        kubernetes_version: "v1.27.5".into(),
        kube_version_arg: "v1.27.5".into(),
        facts_hook: false,
        repos: Vec::new(),
        installer: Installer::Manual,
        policy: Policy::default(),
        unsafe_because: None,
        control_planes_excluded: true,
        calendar: Default::default(),
        protection: None,
        join_canary: None,
        control_planes: Vec::new(),
        endpoint: None,
    }
}

/// Nodes of a plan with three control planes; `m1` is the first of the inventory, so it goes last.
pub const WITH_CONTROL_PLANES: [&str; 4] = ["n1", "m2", "m3", "m1"];

/// A plan in which the control planes `m1`, `m2` and `m3` are migrated, too.
pub fn plan_with_control_planes() -> Plan {
    let server = |number: &u32| format!("10.0.0.{number}:6443");
    let plane = |number: u32| ControlPlane {
        name: node(&format!("m{number}")),
        address: format!("10.0.0.{number}"),
        api_server: server(&number),
    };
    Plan {
        control_planes_excluded: false,
        api_servers: [1, 2, 3].iter().map(server).collect(),
        control_planes: [1, 2, 3].map(plane).into(),
        ..plan()
    }
}

/// Nodes of the plan; the first is the canary, and those that begin with `m` are control planes.
pub fn nodes(names: &[&str]) -> Vec<PlannedNode> {
    let planned = |(index, name): (usize, &&str)| PlannedNode {
        name: node(name),
        address: match name.strip_prefix('m') {
            Some(number) => format!("10.0.0.{number}"),
            None => format!("10.0.0.{}", 20 + index),
        },
        canary: index == 0,
        role: match name.strip_prefix('m') {
            Some("1") => Role::FirstControlPlane,
            Some(_) => Role::ControlPlane,
            None => Role::Worker,
        },
    };
    names.iter().enumerate().map(planned).collect()
}

/// What every node of a story was.
pub fn snapshot() -> Snapshot {
    Snapshot {
        node_uid: "uid-1".into(),
        unschedulable: false,
        objects_sha256: "0".repeat(64),
        host_sha256: "1".repeat(64),
        boot_id: "boot-1".into(),
        machine_id: "machine-1".into(),
        product_uuid: "product-1".into(),
        macs: vec!["52:54:00:00:00:01".into()],
    }
}

/// Inputs of any operation.
pub fn inputs() -> Inputs {
    Inputs {
        inventory: "op-hosts".into(),
        inventory_sha256: "2".repeat(64),
        vars: "op-vars".into(),
        vars_sha256: "3".repeat(64),
        ssh_secret: None,
        left_out: Vec::new(),
    }
}

impl Default for Story {
    fn default() -> Self {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut story = Self { fleet: Fleet::default(), log: Vec::new(), now };
        story.when(Command::TakeLeadership);
        story
    }
}

impl Story {
    /// Every gate with every role whose nodes, or whose cluster, it asks other things of than of others.
    pub fn cases() -> Vec<(Gate, Role)> {
        let roles = [Role::Worker, Role::ControlPlane, Role::FirstControlPlane];
        let all = Gate::ALL.into_iter().flat_map(|gate| roles.map(|role| (gate, role)));
        let lower = |role| roles.into_iter().rev().find(|other| *other < role);
        let other = |(gate, role): &(Gate, Role)| {
            let asks = |role| gate.needs_of(role).count();
            let of_lower = lower(*role).filter(|lower| gate.is_of(*lower));
            gate.is_of(*role) && of_lower.is_none_or(|lower| asks(lower) != asks(*role))
        };
        all.filter(other).collect()
    }

    /// A story in which this gate is open for a node of this role, or for a cluster with such nodes,
    /// and the subject at it.
    pub fn at_role(gate: Gate, role: Role) -> (Self, Subject) {
        if role == Role::Worker {
            return Self::at(gate);
        }
        let mut story = Self::with(plan_with_control_planes(), &WITH_CONTROL_PLANES);
        let own = if role == Role::FirstControlPlane { "m1" } else { "m2" };
        match gate {
            Gate::ClusterPreflight => {
                story.waits(Span::from_secs(5));
                return (story, Subject::Cluster);
            }
            Gate::Backup => {
                story.passes(&Subject::Cluster);
                return (story, Subject::Cluster);
            }
            Gate::Finalize => {
                WITH_CONTROL_PLANES.iter().for_each(|name| story.finishes(name));
                return (story, Subject::Cluster);
            }
            _ => {
                let before = WITH_CONTROL_PLANES.iter().take_while(|name| **name != own);
                before.for_each(|name| story.finishes(name));
            }
        }
        match gate {
            Gate::Abort => {
                story.reaches(own, Gate::Withdraw);
                story.aborts(on(own));
            }
            Gate::RejoinAdmission | Gate::Rejoin => {
                story.reaches(own, Gate::Removal);
                story.holds(on(own));
                story.passes(&on(own));
                story.rolls_back(own, true);
                story.reaches(own, gate);
            }
            gate => story.reaches(own, gate),
        }
        (story, on(own))
    }

    /// Takes a node along the happy path to its end.
    #[track_caller]
    pub fn finishes(&mut self, name: &str) {
        self.reaches(name, Gate::Soak);
        self.passes(&on(name));
        assert_eq!(*self.phase(&on(name)), Phase::Done, "{name}");
    }

    /// What must be confirmed of a subject at the gate that is open.
    #[track_caller]
    pub fn needs(&self, subject: &Subject) -> Vec<&'static Need> {
        let gate = self.gate(subject).expect("a gate must be open");
        self.migration().bench(subject).needs(gate).collect()
    }

    /// A story in which this gate is open, and the subject at it.
    pub fn at(gate: Gate) -> (Self, Subject) {
        if !gate.is_of(Role::Worker) {
            let of_all = gate.is_of(Role::ControlPlane);
            let role = if of_all { Role::ControlPlane } else { Role::FirstControlPlane };
            return Self::at_role(gate, role);
        }
        let mut plan = plan();
        plan.protection = gate.protects().map(|_| Hook { args: Vec::new() });
        let image = "registry.example/busybox:1.36".to_owned();
        plan.join_canary = (gate == Gate::JoinCanary).then_some(JoinCanary { image });
        let mut story = Self::with(plan, &["n1"]);
        match gate {
            Gate::ClusterPreflight => {
                story.waits(Span::from_secs(5));
                (story, Subject::Cluster)
            }
            Gate::Backup => {
                story.passes(&Subject::Cluster);
                (story, Subject::Cluster)
            }
            Gate::Unprotect => {
                story.passes(&Subject::Cluster);
                story.passes(&Subject::Cluster);
                story.switches_protection(true);
                (story, Subject::Cluster)
            }
            Gate::Finalize | Gate::Protect => {
                story.reaches("n1", Gate::Soak);
                story.passes(&on("n1"));
                if gate == Gate::Protect {
                    story.passes(&Subject::Cluster);
                    story.switches_protection(true);
                }
                (story, Subject::Cluster)
            }
            Gate::Abort => {
                story.reaches("n1", Gate::Drain);
                story.aborts(on("n1"));
                (story, on("n1"))
            }
            Gate::ClusterAbort => {
                story.reaches("n1", Gate::Preflight);
                story.aborts(Subject::Cluster);
                (story, Subject::Cluster)
            }
            Gate::RejoinAdmission | Gate::Rejoin => {
                story.reaches("n1", Gate::Removal);
                story.holds(on("n1"));
                story.passes(&on("n1"));
                story.rolls_back("n1", true);
                story.reaches("n1", gate);
                (story, on("n1"))
            }
            gate => {
                story.reaches("n1", gate);
                (story, on("n1"))
            }
        }
    }

    /// A migration of these nodes has been started.
    pub fn of(names: &[&str]) -> Self {
        Self::with(plan(), names)
    }

    /// A migration by this plan has been started, and every host has enrolled once.
    pub fn with(plan: Plan, names: &[&str]) -> Self {
        let mut story = Self::default();
        for name in names {
            story.enrols(name);
        }
        story.starts(plan, names);
        story
    }

    /// A migration is started.
    #[track_caller]
    pub fn starts(&mut self, plan: Plan, names: &[&str]) {
        self.asks(Request::Start {
            id: Uuid::from_u128(1),
            plan: Box::new(plan),
            nodes: nodes(names),
            by: "ann".into(),
        });
    }

    /// Has a command decided that must not be refused; returns its events.
    #[track_caller]
    pub fn when(&mut self, command: Command) -> Vec<Event> {
        match self.tries(command.clone()) {
            Ok(events) => events,
            Err(refusal) => panic!("{command:?} was refused: {refusal}"),
        }
    }

    /// Has a command decided.
    pub fn tries(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let decision = decide(&self.fleet, &command, self.now)?;
        self.fleet = decision.fleet;
        self.log.extend(decision.events.iter().cloned());
        Ok(decision.events.into_iter().map(|recorded| recorded.event).collect())
    }

    /// Asks something about the cluster; it must not be refused.
    #[track_caller]
    pub fn asks(&mut self, request: Request) -> Vec<Event> {
        self.when(Command::Of(prod(), request))
    }

    /// Reports something; it must not be refused.
    #[track_caller]
    pub fn reports(&mut self, report: Report) -> Vec<Event> {
        self.asks(Request::Report(report))
    }

    /// Lets time pass, tick by tick of at most 5 s.
    pub fn waits(&mut self, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + Span::from_secs(5)).min(end);
            self.when(Command::Tick);
        }
    }

    /// The migration.
    #[track_caller]
    pub fn migration(&self) -> &Migration {
        self.fleet.migrations.get(&prod()).expect("a migration")
    }

    /// A node of it.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.migration().node(&node(name)).expect("a node")
    }

    /// Panics with the first invariant that its log breaks.
    #[track_caller]
    pub fn keeps_the_invariants(&self) {
        let servers = &self.migration().plan.api_servers;
        invariants::check(&self.log, servers).unwrap_or_else(|broken| panic!("{broken}"));
    }

    /// The phase of a subject.
    #[track_caller]
    pub fn phase(&self, subject: &Subject) -> &Phase {
        &self.migration().track(subject).expect("a subject").phase
    }

    /// The gate that a subject is at.
    pub fn gate(&self, subject: &Subject) -> Option<Gate> {
        match self.phase(subject) {
            Phase::Asking { gate, .. } => Some(*gate),
            _ => None,
        }
    }

    /// Answers to one need, from all of its witnesses.
    pub fn answers_to(&self, subject: &Subject, need: &Need, verdict: Verdict) -> Vec<Evidence> {
        let migration = self.migration();
        let round = migration.track(subject).expect("a subject").round;
        let generation = |source: &Source| match source {
            Source::Agent(name) => {
                self.fleet.hosts.get(&(prod(), name.clone())).map(|host| host.generation)
            }
            _ => None,
        };
        let answer = |source: Source| Evidence {
            round,
            check: need.check,
            generation: generation(&source),
            source,
            verdict: verdict.clone(),
            observed_at: self.now,
        };
        migration.bench(subject).witnesses(need).into_iter().map(answer).collect()
    }

    /// Submits answers.
    #[track_caller]
    pub fn hears(&mut self, subject: &Subject, answers: Vec<Evidence>) {
        for evidence in answers {
            self.asks(Request::Submit { subject: subject.clone(), evidence });
        }
    }

    /// Every witness confirms everything that the open gate needs, for as long as it must.
    #[track_caller]
    pub fn passes(&mut self, subject: &Subject) {
        let gate = self.gate(subject).expect("a gate must be open");
        let round = self.migration().track(subject).expect("a subject").round;
        let open = |story: &Self| {
            story.gate(subject) == Some(gate)
                && story.migration().track(subject).is_some_and(|track| track.round == round)
        };
        let begun = self.now;
        while open(self) {
            assert!(self.now.since(begun) < Span::from_mins(90), "{gate:?} does not pass");
            for need in self.needs(subject) {
                if !open(self) {
                    break;
                }
                let answers = self.answers_to(subject, need, Verdict::pass("as it should be"));
                self.hears(subject, answers);
            }
            if open(self) {
                // Less than the 30 s that a brief answer may be old.
                self.now = self.now + Span::from_secs(25);
            }
        }
    }

    /// Every witness confirms everything but this need, to which all answer `verdict`.
    #[track_caller]
    pub fn all_but(&mut self, subject: &Subject, spoilt: usize, verdict: &Verdict) {
        for (index, need) in self.needs(subject).into_iter().enumerate() {
            let verdict = if index == spoilt { verdict.clone() } else { Verdict::pass("fine") };
            let answers = self.answers_to(subject, need, verdict);
            self.hears(subject, answers);
        }
    }

    /// A host enrols: its next generation.
    #[track_caller]
    pub fn enrols(&mut self, name: &str) {
        let token = Token { sha256: "t".into(), expires: self.now + Span::from_mins(60) };
        self.asks_or_default(Request::IssueToken { node: node(name), token, by: "ann".into() });
        let identity = HostIdentity::default();
        let token_sha256 = "t".into();
        self.asks_or_default(Request::Enrol { node: node(name), token_sha256, identity });
    }

    #[track_caller]
    fn asks_or_default(&mut self, request: Request) {
        self.when(Command::Of(prod(), request));
    }

    /// The open operation reports that it exists, starts, and ends like this.
    #[track_caller]
    pub fn operation_ends(&mut self, name: &str, outcome: Outcome) {
        self.operation_ends_after(name, outcome, Extent::Unknown);
    }

    /// The same, and its traces say how far it got.
    #[track_caller]
    pub fn operation_ends_after(&mut self, name: &str, outcome: Outcome, extent: Extent) {
        let operation = self.node(name).operation().expect("an operation").intent.name.clone();
        let node = node(name);
        let (uid, others) = (format!("uid-of-{operation}"), 0);
        let (pod, pod_node, image_id) = ("pod".into(), "mgmt".into(), "image".into());
        let seen = "its status".to_owned();
        self.reports(Report::Submitted {
            node: node.clone(),
            name: operation.clone(),
            uid,
            others,
        });
        let (owner, op) = (node.clone(), operation.clone());
        self.reports(Report::Started { node: owner, name: op, pod, pod_node, image_id });
        self.reports(Report::Ended { node, name: operation, outcome, seen, extent });
    }

    /// Takes a subject along the happy path until this gate is open.
    #[track_caller]
    pub fn reaches(&mut self, name: &str, goal: Gate) {
        let subject = on(name);
        for _ in 0..40 {
            match self.phase(&subject).clone() {
                Phase::Asking { gate, .. } if gate == goal => return,
                Phase::Asking { gate, .. } => {
                    self.does_what_a_gate_needs(name, gate);
                    self.passes(&subject);
                }
                Phase::Operating => self.operation_ends(name, Outcome::Succeeded),
                Phase::Reinstalling(_) => {
                    self.enrols(name);
                    let by = "ann".to_owned();
                    self.asks(Request::ConfirmReinstalled { node: node(name), by });
                }
                Phase::Planned | Phase::Ready { .. } => match self.gate(&Subject::Cluster) {
                    Some(gate) => {
                        self.does_what_a_gate_needs(name, gate);
                        self.passes(&Subject::Cluster);
                    }
                    None => self.waits(Span::from_secs(5)),
                },
                other => panic!("{name} is {} on its way to {goal:?}", other.word()),
            }
        }
        panic!("{name} never reaches {goal:?}: it is {:?}", self.phase(&subject));
    }

    /// Reports what effects would have done at a gate.
    #[track_caller]
    pub fn does_what_a_gate_needs(&mut self, name: &str, gate: Gate) {
        let owner = node(name);
        match gate {
            Gate::Backup => {
                let identity = ClusterIdentity::default();
                self.reports(Report::Identified { identity });
                self.reports(Report::Exported { sha256: "4".repeat(64) });
            }
            Gate::Unprotect | Gate::Protect => {
                self.switches_protection(true);
            }
            Gate::Snapshot => {
                self.reports(Report::Snapshot { node: owner, snapshot: snapshot() });
            }
            Gate::Quorum => {
                let (name, snapshot_sha256) = ("prod/backup".into(), "5".repeat(64));
                let backup = BackupTaken { name, snapshot_sha256, snapshot_bytes: 9 };
                self.reports(Report::Backup { node: owner, backup });
            }
            Gate::Withdraw | Gate::Abort if owner.as_str().starts_with('m') => {
                let (on, seen) = (gate == Gate::Abort, "it is".to_owned());
                self.reports(Report::ApiServer { node: owner, on, seen });
            }
            gate if gate.admits_operation() => {
                self.reports(Report::Inputs { node: owner, inputs: inputs() });
            }
            Gate::Reinstall => {
                let host = &self.fleet.hosts[&(prod(), owner.clone())];
                let generation: Generation = host.generation;
                self.reports(Report::Farewell { node: owner, generation });
            }
            _ => (),
        }
    }

    /// The site's program for the deletion protection answers.
    #[track_caller]
    pub fn switches_protection(&mut self, done: bool) -> Vec<Event> {
        let (round, seen) = (self.migration().track.round, "it says so".to_owned());
        self.reports(Report::Protection { round, done, seen })
    }

    /// A person holds a subject; it must not be refused.
    #[track_caller]
    pub fn holds(&mut self, subject: Subject) -> Vec<Event> {
        self.asks(Request::Hold { subject, why: "lunch".into(), by: "ann".into() })
    }

    /// A person has what is held go on, perhaps with a new attempt; it must not be refused.
    #[track_caller]
    pub fn retries(&mut self, subject: Subject, resubmit: bool) -> Vec<Event> {
        self.asks(Request::Retry { subject, resubmit, by: "ann".into() })
    }

    /// A person gives a subject up; it must not be refused.
    #[track_caller]
    pub fn aborts(&mut self, subject: Subject) -> Vec<Event> {
        self.asks(Request::Abort { subject, by: "ann".into() })
    }

    /// A person wants a removed node back with its old system; it must not be refused.
    #[track_caller]
    pub fn rolls_back(&mut self, name: &str, go_on: bool) -> Vec<Event> {
        self.asks(Request::RollBack { node: node(name), go_on, by: "ann".into() })
    }

    /// Names of the events that happened since the log had `from` of them.
    pub fn names_since(&self, from: usize) -> Vec<&'static str> {
        self.log[from..].iter().map(|recorded| recorded.event.name()).collect()
    }

    /// How many operations of a kind were intended for a node.
    pub fn intended(&self, name: &str, kind: Kind) -> usize {
        let node = self.node(name);
        node.operations.iter().filter(|operation| operation.intent.kind == kind).count()
    }
}

/// The first need of a gate that this witness must confirm.
pub fn need_of(gate: Gate, witness: Witness) -> Option<&'static Need> {
    gate.needs().iter().find(|need| need.witness == witness)
}
