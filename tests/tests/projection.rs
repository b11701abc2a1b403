//! What operators see: names of states, what is waited for, and what would help.

use std::collections::BTreeMap;

use rehull::{
    agents::Refused,
    domain::{
        calendar::Window,
        effect::{Effect, Work},
        event::{Event, Recorded},
        gate::{Blocker, Gate},
        plan::Plan,
        state::{
            BackupProof, BackupTaken, ClusterIdentity, Extent, Fleet, Member, Outcome, Phase, Step,
            Subject,
        },
    },
    etcd::Looks,
    history::History,
    projection::{self, View, sentence},
};
use rehull_proto::v1::{ClusterStatus, EtcdResponse, ExplainResponse, NodeStatus};
use rehull_shared::{
    evidence::{Check, Source, Verdict},
    ids::Round,
    time::{Span, Timestamp},
};
use rehull_tests::story::{Story, node, on, plan, prod};

/// Looks at a fleet as an operator would at this moment.
fn look<T>(
    fleet: &Fleet,
    log: &[Recorded],
    now: Timestamp,
    troubles: &BTreeMap<Effect, String>,
    look: impl FnOnce(&View<'_>) -> T,
) -> T {
    let history = History::default();
    for (seq, recorded) in (1..).zip(log) {
        history.add(seq, recorded.clone());
    }
    let connected = BTreeMap::new();
    let sequence = log.len() as u64;
    let (history, connected, refused) = (&history, &connected, &BTreeMap::new());
    let etcd = &Looks::new();
    let readiness = &Default::default();
    look(&View { fleet, sequence, history, troubles, connected, refused, etcd, readiness, now })
}

fn status(story: &Story) -> ClusterStatus {
    look(&story.fleet, &story.log, story.now, &BTreeMap::new(), |view| {
        projection::status(view, None).clusters.remove(0)
    })
}

fn explain(story: &Story, name: &str) -> ExplainResponse {
    look(&story.fleet, &story.log, story.now, &BTreeMap::new(), |view| {
        projection::explain(view, &prod(), Some(&node(name))).expect("a node of the story")
    })
}

fn of(story: &Story, name: &str) -> NodeStatus {
    status(story).nodes.into_iter().find(|row| row.node == name).expect("a node of the story")
}

/// A story whose node has been finished, and the cluster with it.
fn finished() -> Story {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.waits(Span::from_secs(5));
    story.passes(&Subject::Cluster);
    story.waits(Span::from_secs(5));
    story
}

#[test]
fn a_node_goes_through_every_state_of_the_domain_reference() {
    let story = finished();
    let (mut fleet, mut nodes, mut clusters) = (Fleet::default(), Vec::new(), Vec::new());
    let mut percent = 0;
    for (index, recorded) in story.log.iter().enumerate() {
        fleet.evolve(recorded).expect("the log follows");
        let log = &story.log[..=index];
        let seen = look(&fleet, log, recorded.at, &BTreeMap::new(), |view| {
            projection::status(view, None).clusters
        });
        let Some(cluster) = seen.into_iter().next() else { continue };
        let name = cluster.state.clone();
        if clusters.last() != Some(&name) {
            clusters.push(name);
        }
        let Some(row) = cluster.nodes.into_iter().next() else { continue };
        assert!(row.percent >= percent, "{} went back to {} %", row.state, row.percent);
        percent = row.percent;
        if nodes.last() != Some(&row.state) {
            nodes.push(row.state);
        }
    }
    assert_eq!(
        nodes,
        [
            "Planned",
            "PreflightPassed",
            "SnapshotTaken",
            "Cordoned",
            "Drained",
            "RemoveRequested",
            "RemoveRunning",
            "RemoveReported",
            "RemovalVerified",
            "ReinstallRequested",
            "ReinstallReported",
            "OsVerified",
            "JoinRequested",
            "JoinRunning",
            "JoinReported",
            "JoinVerified",
            "MetadataRestored",
            "Soaking",
            "Done"
        ]
    );
    assert_eq!(percent, 100);
    assert_eq!(clusters, ["Preflight", "BackedUp", "Canary", "Workers", "Finalize", "Completed"]);
}

#[test]
fn something_that_waits_always_says_for_what_until_when_and_what_helps() {
    for gate in Gate::ALL.into_iter().filter(|gate| gate.number().is_some()) {
        let mut story = Story::of(&["n1", "n2"]);
        story.reaches("n1", gate);
        let explained = explain(&story, "n1");
        let reached = match gate {
            Gate::Preflight => "Planned",
            Gate::Snapshot => "PreflightPassed",
            Gate::Drain => "Cordoned",
            Gate::RemoveAdmission => "Drained",
            Gate::Removal => "RemoveReported",
            Gate::Reinstall => "RemovalVerified",
            Gate::Os => "ReinstallReported",
            Gate::JoinAdmission => "OsVerified",
            Gate::Join => "JoinReported",
            Gate::Metadata => "JoinVerified",
            _ => "Soaking",
        };
        assert_eq!(explained.state, reached, "{gate:?}");
        assert!(explained.waits_for.contains(&format!("{gate:?}")), "{}", explained.waits_for);
        assert!(!explained.deadline.is_empty(), "{gate:?} waits without an end");
        let witnessed: usize = gate
            .needs()
            .iter()
            .map(|need| story.migration().bench(&on("n1")).witnesses(need).len())
            .sum();
        assert_eq!(explained.needs.len(), witnessed);
        assert!(explained.needs.iter().all(|need| need.verdict == "silent"), "{gate:?}");
        assert!(!explained.unblock.is_empty(), "nothing helps {gate:?}");
        let others = of(&story, "n2");
        assert_eq!(others.waits_for, "its turn: n1 is under way");
    }
}

#[test]
fn an_absence_counts_down() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    let subject = on("n1");
    let need = Gate::Removal.needs().iter().find(|need| need.check == Check::NodeAbsent);
    let answers = story.answers_to(&subject, need.expect("a need"), Verdict::pass("404"));
    story.hears(&subject, answers);
    story.now = story.now + Span::from_secs(20);
    let explained = explain(&story, "n1");
    let row = explained.needs.iter().find(|need| need.check == "NodeAbsent").expect("its row");
    assert_eq!(row.verdict, "waiting");
    assert!(row.seen.starts_with("404; "), "{}", row.seen);
    assert!(row.seen.ends_with("needs 1m 30s, 1m 10s to go"), "{}", row.seen);
}

#[test]
fn a_held_node_names_the_witness_and_the_commands() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Removal);
    let subject = on("n1");
    let needs = Gate::Removal.needs();
    let spoilt = needs.iter().position(|need| need.check == Check::NodeAbsent).expect("a need");
    let mut end = story.now + Span::from_mins(16);
    while story.now < end {
        story.all_but(&subject, spoilt, &Verdict::fail("Node n1 exists (uid 1234, Ready)"));
        story.waits(Span::from_secs(25));
        if matches!(story.phase(&subject), Phase::Held { .. }) {
            end = story.now;
        }
    }
    let row = of(&story, "n1");
    assert_eq!(row.state, "Held");
    assert!(
        row.waits_for.starts_with(
            "a person, to pass G5 Removal: NodeAbsent: API server 10.0.0.1:6443 saw: Node n1 exists"
        ),
        "{}",
        row.waits_for
    );
    let explained = explain(&story, "n1");
    for command in [
        "kubectl delete node n1",
        "ssh 10.0.0.20 systemctl stop kubelet  # if it runs, it registers the node again",
        "rehull migrate retry prod n1  # look again",
        "rehull migrate retry prod n1 --resubmit  # run the removal again",
        "rehull migrate resolve prod n1 --delete-node  # delete the Node that was recorded, and no \
         other, once its host is proved to be clean",
    ] {
        assert!(explained.unblock.iter().any(|line| line == command), "{:#?}", explained.unblock);
    }
    let fails = explained.needs.iter().filter(|need| need.verdict == "fail");
    assert_eq!(fails.count(), 2, "both API servers contradict");
    assert_eq!(status(&story).waits_for, "a person: n1 is held");
    assert!(explained.history.last().expect("history").contains("n1 is held"));
}

#[test]
fn a_closed_window_says_when_it_goes_on() {
    let mut plan = plan();
    plan.calendar.windows = vec![Window {
        cron: "0 22 * * *".to_owned(),
        duration: Span::from_mins(180),
        time_zone: "UTC".to_owned(),
    }];
    let mut story = Story::with(plan, &["n1"]);
    story.now = "2023-11-14T23:30:00Z".parse().expect("a time");
    story.passes(&Subject::Cluster);
    story.does_what_a_gate_needs("n1", Gate::Backup);
    story.passes(&Subject::Cluster);
    let words = "2023-11-15 22:00:00 UTC, when a node that takes 2h may begin";
    assert_eq!(
        (of(&story, "n1").waits_for.as_str(), status(&story).waits_for.as_str()),
        (words, words)
    );
    story.holds(Subject::Cluster);
    assert_eq!(status(&story).waits_for, "a person, to begin its nodes: ann holds it: lunch");
}

#[test]
fn a_hold_by_a_person_says_who_and_why_and_what_to_type() {
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Drain);
    story.holds(on("n1"));
    let waits = of(&story, "n1").waits_for;
    assert!(waits.contains("to be held at the next safe point: ann holds it: lunch"), "{waits}");
    story.passes(&on("n1"));
    let row = of(&story, "n1");
    assert_eq!(row.state, "Held");
    assert_eq!(row.waits_for, "a person, to pass G4 RemoveAdmission: ann holds it: lunch");
    let explained = explain(&story, "n1");
    for command in [
        "rehull migrate retry prod n1  # go on",
        "rehull migrate abort prod n1  # put it back, and go on without it",
    ] {
        assert!(explained.unblock.iter().any(|line| line == command), "{:#?}", explained.unblock);
    }
    story.aborts(on("n1"));
    assert_eq!(of(&story, "n1").state, "Compensating");
    story.passes(&on("n1"));
    assert_eq!(of(&story, "n1").state, "Aborted");
    story.aborts(Subject::Cluster);
    story.passes(&Subject::Cluster);
    assert_eq!(status(&story).state, "Aborted");
}

#[test]
fn a_manual_reinstall_says_what_to_type() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    let explained = explain(&story, "n1");
    assert_eq!(explained.state, "ReinstallRequested");
    assert_eq!(explained.waits_for, "a person to reinstall the host, and its new system to enrol");
    assert!(
        explained.unblock.contains(&"rehull migrate confirm-reinstalled prod n1".to_owned()),
        "{:#?}",
        explained.unblock
    );
    assert!(!explained.deadline.is_empty());
}

#[test]
fn trouble_with_the_world_is_shown_where_it_stops_the_work() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    let name = story.node("n1").operation().expect("an operation").intent.name.clone();
    let work = Work::RunOperation { node: node("n1"), name: name.clone() };
    let effect = Effect { cluster: prod(), work };
    let troubles = BTreeMap::from([(effect, "the webhook refuses: 406".to_owned())]);
    let explained = look(&story.fleet, &story.log, story.now, &troubles, |view| {
        projection::explain(view, &prod(), Some(&node("n1"))).expect("a node")
    });
    assert_eq!(
        explained.waits_for,
        format!("operation {name} to be created [trouble: the webhook refuses: 406]")
    );
    assert!(explained.unblock[0].contains("406"), "{:#?}", explained.unblock);
}

#[test]
fn what_is_paused_unsafe_or_unknown_is_said() {
    let mut careless: Plan = plan();
    careless.policy.soak = Span::from_secs(1);
    careless.unsafe_because = Some("a test bed".to_owned());
    let mut story = Story::with(careless, &["n1"]);
    story.asks(rehull::domain::command::Request::Pause { by: "bob".to_owned() });
    let cluster = status(&story);
    assert_eq!((cluster.state.as_str(), cluster.paused_by.as_str()), ("Paused", "bob"));
    assert_eq!(cluster.r#unsafe, "a test bed");
    let unknown = look(&story.fleet, &story.log, story.now, &BTreeMap::new(), |view| {
        projection::explain(view, &prod(), Some(&node("n9")))
    });
    assert!(unknown.is_none());
}

#[test]
fn every_blocker_is_told_in_words() {
    let (check, source) = (Check::PortsFree, Source::Agent(node("n1")));
    let at = Timestamp::from_millis(1_000);
    for (why, words) in [
        (
            Blocker::Contradicted { check, source: source.clone(), seen: "10250".to_owned() },
            "PortsFree: agent n1 saw: 10250",
        ),
        (
            Blocker::Unknown { check, source: source.clone(), why: "a timeout".to_owned() },
            "PortsFree: agent n1 cannot say: a timeout",
        ),
        (Blocker::Silent { check, source: source.clone() }, "PortsFree: agent n1 has not answered"),
        (
            Blocker::Stale { check, source: source.clone(), limit: Span::from_secs(30) },
            "PortsFree: the answer of agent n1 is older than 30s",
        ),
        (
            Blocker::TooShort { check, source, since: at, window: Span::from_secs(90) },
            "PortsFree: agent n1 has seen it since 00:00:01, needs 1m 30s, 1m to go",
        ),
    ] {
        assert_eq!(projection::blocker(&why, Some(at + Span::from_secs(30))), words);
    }
    for (extent, resubmitted, words) in [
        (Extent::Unknown, 0, "operation op says Failed: nobody knows how far it got"),
        (Extent::NotReset, 2, "before the reset of the host; 2 more attempts were made"),
        (Extent::Reset, 0, "the reset of the host had begun"),
        (Extent::NotStarted, 0, "nothing of it has ever run"),
    ] {
        let (name, outcome) = ("op".to_owned(), Outcome::Failed);
        let why = Blocker::Operation { name, outcome, extent, resubmitted };
        assert!(projection::blocker(&why, None).contains(words), "{extent:?}");
    }
    for announced in [true, false] {
        let words = projection::blocker(&Blocker::NotEnrolled { announced }, None);
        assert!(words.contains("enrolled"), "{words}");
    }
}

#[test]
fn an_old_look_at_etcd_is_not_shown_as_news() {
    let story = Story::of(&["n1"]);
    let health = EtcdResponse { voters: 3, tolerance: 1, ..EtcdResponse::default() };
    let looks = Looks::from([(prod(), (story.now, health))]);
    let told = |after: Span, etcd: &Looks| {
        let view = View {
            fleet: &story.fleet,
            sequence: 1,
            history: &History::default(),
            troubles: &BTreeMap::new(),
            connected: &BTreeMap::new(),
            refused: &BTreeMap::new(),
            etcd,
            readiness: &Default::default(),
            now: story.now + after,
        };
        projection::status(&view, None).clusters.remove(0).etcd
    };
    assert_eq!(told(Span::from_secs(120), &looks), "healthy: 3 voters, 1 could be lost");
    let old = format!("not looked at since {}", story.now);
    assert_eq!(told(Span::from_secs(121), &looks), old);
    assert_eq!(told(Span::from_secs(1), &Looks::new()), "", "no agent sees it");
}

#[test]
fn a_host_that_is_refused_is_told_of_with_what_helps_until_it_asks_no_more() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Os);
    let (at, why) = (story.now, "no token is open for it".to_owned());
    let one = Refused { at, from: "10.0.0.20".to_owned(), why };
    let refused = BTreeMap::from([((prod(), node("n1")), one)]);
    let told = |after: Span| {
        let view = View {
            fleet: &story.fleet,
            sequence: 1,
            history: &History::default(),
            troubles: &BTreeMap::new(),
            connected: &BTreeMap::new(),
            refused: &refused,
            etcd: &Default::default(),
            readiness: &Default::default(),
            now: at + after,
        };
        projection::explain(&view, &prod(), Some(&node("n1"))).expect("a node").unblock
    };
    let lines = told(Span::from_secs(60));
    assert!(lines[0].starts_with("10.0.0.20 asked at "), "{lines:#?}");
    assert!(lines[0].ends_with(": no token is open for it"), "{lines:#?}");
    assert!(lines[1].starts_with("rehull agent token prod n1  # "), "{lines:#?}");
    let later = told(Span::from_mins(6));
    assert!(later.iter().all(|line| !line.contains(" asked at ")), "{later:#?}");
}

#[test]
fn every_event_of_a_whole_migration_is_a_sentence() {
    let mut story = finished();
    // What a smooth migration does not show.
    let at = story.now;
    let subject = on("n1");
    for event in [
        Event::MigrationPaused { by: "bob".to_owned() },
        Event::MigrationResumed { by: "bob".to_owned() },
        Event::OperationWithdrawn { node: node("n1"), name: "op".to_owned() },
        Event::AbortRequested { subject: subject.clone(), by: "bob".to_owned() },
        Event::AbortRequested { subject: Subject::Cluster, by: "bob".to_owned() },
        Event::HoldRequested { subject: on("n1"), why: "lunch".into(), by: "bob".into() },
        Event::HoldWithdrawn { subject: on("n1"), by: "bob".into() },
        Event::RollbackRequested { node: node("n1"), by: "bob".into() },
        Event::NodeDeletionRequested { node: node("n1"), by: "bob".into() },
        Event::NodeDeletionOrdered { node: node("n1"), uid: "u".into(), by: "bob".into() },
        Event::NodeDeletionAnswered { node: node("n1"), uid: "u".into(), seen: "gone".into() },
        Event::NodeAborted { node: node("n1") },
        Event::MigrationAborted,
        Event::ProtectionIntended { on: false },
        Event::ProtectionAnswered { on: false, done: true, seen: "unlocked".to_owned() },
        Event::ProtectionAnswered { on: true, done: false, seen: "exits 3".to_owned() },
        Event::ForeignOperationSeen { node: node("n1"), name: "op".to_owned() },
        Event::Held { subject: subject.clone(), why: Vec::new(), resume: Step::Reinstall },
        Event::RetryRequested { subject, resubmit: true, by: "bob".to_owned() },
        Event::OperationArchived {
            node: node("n1"),
            name: "op".into(),
            seen: "all".into(),
            extent: Extent::Unknown,
        },
        Event::AcceptedByEvidence { node: node("n1"), name: "op".into(), outcome: Outcome::Failed },
        Event::OperationResubmitted { node: node("n1"), name: "op".into(), number: 1 },
        Event::LeftoversOrdered { node: node("n1"), order: "o".into(), processes: Vec::new() },
        Event::LeftoversAnswered { node: node("n1"), order: "o".into(), seen: "gone".into() },
        Event::InstallerProgressed { node: node("n1"), percent: 40, seen: "copying".to_owned() },
        Event::OperationEnded {
            node: node("n1"),
            name: "op".to_owned(),
            outcome: Outcome::Unknown,
            seen: "late".to_owned(),
            extent: Extent::Unknown,
        },
        Event::EvidenceRequested { subject: Subject::Cluster, gate: Gate::Backup, round: Round(1) },
        Event::ClusterIdentified { identity: ClusterIdentity::default() },
        Event::BackupRecorded {
            node: node("n1"),
            backup: BackupTaken {
                name: "prod/b".into(),
                snapshot_sha256: "ab".into(),
                snapshot_bytes: 9,
            },
        },
        Event::LeaderMoved { node: node("n1"), seen: "2 leads".into() },
        Event::Troubled {
            subject: on("n1"),
            work: "take-backup".into(),
            why: Some("the disk is full".into()),
        },
        Event::Troubled { subject: Subject::Cluster, work: "export".into(), why: None },
        Event::ChangeIntended {
            node: node("n1"),
            object: "cluster-info".into(),
            revision: "812".into(),
            change: "what leads to 10.0.0.1:6443 is to lead to 10.0.0.2:6443".into(),
        },
        Event::EndpointMoved {
            node: node("n1"),
            object: "cluster-info".into(),
            from: "10.0.0.1:6443".into(),
            to: "10.0.0.2:6443".into(),
        },
        Event::InventoryReordered {
            node: node("n1"),
            before_sha256: "ab".into(),
            after_sha256: "cd".into(),
        },
        Event::ApiServerSwitched { node: node("n1"), on: false, seen: "no process".into() },
        Event::ApiServerSwitched { node: node("n1"), on: true, seen: "it is in place".into() },
        Event::MemberRemovalOrdered {
            node: node("n1"),
            order: "o".into(),
            member: Member { id: "ab".into(), peer_url: "https://10.0.0.1:2380".into() },
        },
        Event::MemberRemovalAnswered { node: node("n1"), order: "o".into(), seen: "done".into() },
        Event::FragilityExceeded {
            node: node("n1"),
            since: at,
            limit: Span::from_mins(60),
            page: true,
        },
        Event::QuorumAtRisk { node: node("n1"), why: "m3 is silent".into() },
        Event::QuorumRestored { node: node("n1") },
        Event::BackupProved {
            proof: BackupProof {
                backup: "prod/b".into(),
                snapshot_sha256: "ab".into(),
                objects: 90,
                nodes: 5,
            },
            by: "ann".into(),
        },
    ] {
        let epoch = story.fleet.epoch;
        story.log.push(Recorded { at, epoch, cluster: Some(prod()), event });
    }
    for recorded in &story.log {
        let words = sentence(recorded);
        assert_ne!(words, recorded.event.name(), "{:?} has no sentence", recorded.event);
        assert!(words.len() > 5 && !words.contains('\n'), "{words:?}");
    }
}

#[test]
fn the_gate_table_is_whole() {
    let table = projection::table();
    for gate in Gate::ALL {
        assert!(table.contains(&format!("{gate:?}: ")), "{gate:?}");
        for need in gate.needs() {
            assert!(table.contains(&format!("`{}`", need.check)), "{}", need.check);
        }
    }
}

/// The documentation of the gates is made from the table that the judge reads.
#[test]
fn the_gates_are_documented_as_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../coordinator/GATES.md");
    let table = projection::table();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(path, &table).expect("the document can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == table,
        "coordinator/GATES.md is old: run `REGENERATE=1 cargo test -p rehull-tests --test projection`"
    );
}
