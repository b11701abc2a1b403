//! Wherever something waits, an operator is told what to type: in every state, at every gate, for
//! every reason, and in every hold.

use std::collections::{BTreeMap, BTreeSet};

use rehull::{
    domain::{
        command::{Report, Request},
        gate::Gate,
        plan::{Access, Installer},
        state::{Extent, Outcome, Phase, Step, Subject},
    },
    history::History,
    projection::{self, View},
};
use rehull_proto::v1::ExplainResponse;
use rehull_shared::{
    evidence::{Check, Verdict},
    time::Span,
};
use rehull_tests::story::{Story, node, on, plan, prod};

/// Programs that an operator has.
const PROGRAMS: [&str; 5] = ["rehull ", "kubectl ", "ssh ", "df ", "journalctl "];

#[track_caller]
fn explain(story: &Story, subject: &Subject) -> ExplainResponse {
    let view = View {
        fleet: &story.fleet,
        sequence: story.log.len() as u64,
        history: &History::default(),
        troubles: &BTreeMap::new(),
        connected: &BTreeMap::new(),
        refused: &BTreeMap::new(),
        etcd: &Default::default(),
        readiness: &Default::default(),
        now: story.now,
    };
    projection::explain(&view, &prod(), subject.node()).expect("a subject of the story")
}

/// What helps a subject. Every line is whole: a command that can be typed as it stands, or words.
#[track_caller]
fn help(story: &Story, subject: &Subject) -> Vec<String> {
    let explained = explain(story, subject);
    let state = &explained.state;
    assert!(!explained.unblock.is_empty(), "nothing helps {subject} in {state}");
    for line in &explained.unblock {
        let whole = !line.contains(['<', '{']) || line.contains("jsonpath='{");
        assert!(whole && !line.trim().is_empty(), "{subject} in {state}: {line:?}");
    }
    explained.unblock
}

fn is_command(line: &str) -> bool {
    PROGRAMS.iter().any(|program| line.starts_with(program))
}

#[track_caller]
fn commands(story: &Story, subject: &Subject) -> Vec<String> {
    let help = help(story, subject);
    let commands: Vec<String> = help.iter().filter(|line| is_command(line)).cloned().collect();
    assert!(!commands.is_empty(), "no command helps {subject}: {help:#?}");
    commands
}

#[test]
fn every_gate_and_every_reason_names_a_command() {
    let mut told: BTreeSet<Check> = BTreeSet::new();
    for (gate, role) in Story::cases() {
        let (story, subject) = Story::at_role(gate, role);
        assert_eq!(story.gate(&subject), Some(gate));
        commands(&story, &subject); // nobody has answered
        for (index, need) in story.needs(&subject).into_iter().enumerate() {
            for verdict in [Verdict::fail("it is not so"), Verdict::unknown("a timeout")] {
                let mut story = story.clone();
                // Answers of an agent that is not asked, as none of the others is: all but this one.
                story.all_but(&subject, index, &verdict);
                let commands = commands(&story, &subject);
                let about = explain(&story, &subject);
                let row = about.needs.iter().find(|row| row.check == need.check.to_string());
                assert_eq!(row.map(|row| row.verdict.as_str()), Some(verdict.word()), "{gate:?}");
                assert!(!commands.is_empty(), "{gate:?} {need:?}");
                told.insert(need.check);
            }
        }
    }
    assert!(told.len() > 40, "{} checks", told.len());
}

#[test]
fn every_hold_names_the_command_that_ends_it() {
    for gate in Gate::ALL {
        let (mut story, subject) = Story::at(gate);
        let mut patience = 0;
        while !matches!(story.phase(&subject), Phase::Held { .. }) {
            story.waits(Span::from_mins(30));
            patience += 1;
            assert!(patience < 100, "{gate:?} is never held");
        }
        let retry = match &subject {
            Subject::Cluster => "rehull migrate retry prod  # look again".to_owned(),
            Subject::Node(name) => format!("rehull migrate retry prod {name}  # look again"),
        };
        let commands = commands(&story, &subject);
        assert!(commands.contains(&retry), "{gate:?}: {commands:#?}");
        let again = commands.iter().any(|line| line.contains(" --resubmit  # "));
        let can = Step::Ask(gate).retried(true) != Step::Ask(gate);
        assert!(again || !can, "{gate:?} can be done again: {commands:#?}");
    }
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Reinstall);
    story.does_what_a_gate_needs("n1", Gate::Reinstall);
    story.passes(&on("n1"));
    story.waits(Span::from_mins(91));
    assert!(matches!(story.phase(&on("n1")), Phase::Held { resume: Step::Reinstall, .. }));
    let commands = commands(&story, &on("n1"));
    assert!(commands[0].starts_with("rehull agent token prod n1"), "{commands:#?}");
}

#[test]
fn what_rehull_itself_could_not_do_is_told_in_the_hold_that_came_of_it() {
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::RemoveAdmission);
    let trouble = |why: Option<&str>| {
        let (work, why) = ("prepare-inputs".to_owned(), why.map(str::to_owned));
        Report::Trouble { subject: on("n1"), work, why }
    };
    let is_held = |story: &Story| matches!(story.phase(&on("n1")), Phase::Held { .. });
    assert_eq!(story.reports(trouble(Some("line 7 has an anchor"))).len(), 1);
    assert!(story.reports(trouble(Some("line 7 has an anchor"))).is_empty(), "it is known");
    assert!(story.reports(trouble(Some("a timeout"))).is_empty(), "not twice within a minute");
    while !is_held(&story) {
        story.waits(Span::from_mins(1));
    }
    let told = explain(&story, &on("n1"));
    let words = "rehull itself could not prepare inputs: line 7 has an anchor";
    assert_eq!(told.unblock[0], words);
    assert!(told.waits_for.contains(words), "{}", told.waits_for);
    assert!(story.reports(trouble(None)).is_empty(), "a hold keeps what it was for");
    // Another try has its own troubles, and may end them.
    story.retries(on("n1"), false);
    story.reaches("n1", Gate::RemoveAdmission);
    assert_eq!(story.reports(trouble(Some("the disk is full"))).len(), 1);
    story.waits(Span::from_mins(1));
    assert_eq!(story.reports(trouble(Some("a timeout"))).len(), 1);
    assert_eq!(story.reports(trouble(None)).len(), 1);
    while !is_held(&story) {
        story.waits(Span::from_mins(1));
    }
    let told = explain(&story, &on("n1")).unblock;
    assert!(!told.iter().any(|line| line.contains("rehull itself")), "{told:#?}");
}

#[test]
fn every_state_says_what_helps_or_that_nobody_need_do_anything() {
    // Before its turn: the cluster, then another node, then a pause.
    let story = Story::of(&["n1", "n2"]);
    assert_eq!(
        help(&story, &on("n2")),
        ["rehull explain prod  # the cluster comes before its nodes"]
    );
    let mut story = Story::of(&["n1", "n2"]);
    story.reaches("n1", Gate::Drain);
    assert_eq!(help(&story, &on("n2")), ["rehull explain prod n1"]);
    assert_eq!(help(&story, &Subject::Cluster), ["rehull explain prod n1"]);
    story.asks(Request::Pause { by: "ann".into() });
    assert!(help(&story, &on("n2")).contains(&"rehull migrate resume prod".to_owned()));

    // Resting in a pause.
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Removal);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("n1"));
    assert!(matches!(story.phase(&on("n1")), Phase::Ready { .. }));
    assert_eq!(help(&story, &on("n1")), ["rehull migrate resume prod"]);

    // An operation, however far it is.
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::RemoveAdmission);
    story.does_what_a_gate_needs("n1", Gate::RemoveAdmission);
    story.passes(&on("n1"));
    let name = "prod-rm-n1-a1".to_owned();
    let (uid, others) = ("u".to_owned(), 0);
    commands(&story, &on("n1"));
    story.reports(Report::Submitted { node: node("n1"), name: name.clone(), uid, others });
    commands(&story, &on("n1"));
    let mut stuck = story.clone();
    stuck.waits(Span::from_mins(30));
    commands(&stuck, &on("n1"));
    let (pod, pod_node, image_id) = ("p".into(), "m".into(), "i".into());
    story.reports(Report::Started {
        node: node("n1"),
        name: name.clone(),
        pod,
        pod_node,
        image_id,
    });
    let running = commands(&story, &on("n1"));
    assert!(
        running.contains(&format!(
            "kubectl -n kubean-system logs job/kubean-{name}-job  # in the management cluster"
        )),
        "{running:#?}"
    );
    let (outcome, extent, seen) = (Outcome::Failed, Extent::Unknown, "rc=2".to_owned());
    story.reports(Report::Ended { node: node("n1"), name, outcome, extent, seen });
    commands(&story, &on("n1"));

    // Given up.
    let (mut story, subject) = Story::at(Gate::ClusterAbort);
    assert_eq!(help(&story, &on("n1")), ["nothing: it was given up"]);
    story.passes(&subject);
    assert_eq!(help(&story, &subject), ["nothing: it was given up"]);

    // The end.
    let mut story = Story::of(&["n1"]);
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    story.waits(Span::from_secs(5));
    assert_eq!(help(&story, &on("n1")), ["nothing: it is done"]);
    story.passes(&Subject::Cluster);
    story.waits(Span::from_secs(5));
    assert_eq!(help(&story, &Subject::Cluster), ["nothing: it is done"]);
}

#[test]
fn a_reinstall_says_what_to_type_whoever_does_it() {
    let command = Installer::Command { program: "/opt/reinstall".into(), args: Vec::new() };
    for installer in [Installer::Manual, command] {
        let mut plan = plan();
        plan.installer = installer.clone();
        let mut story = Story::with(plan, &["n1"]);
        story.reaches("n1", Gate::Reinstall);
        story.does_what_a_gate_needs("n1", Gate::Reinstall);
        story.passes(&on("n1"));
        assert!(matches!(story.phase(&on("n1")), Phase::Reinstalling(_)));
        commands(&story, &on("n1"));
        if installer == Installer::Manual {
            story.asks(Request::ConfirmReinstalled { node: node("n1"), by: "ann".into() });
        } else {
            let (percent, seen, done) = (100, "installed".to_owned(), true);
            story.reports(Report::Installer { node: node("n1"), percent, seen, done });
        }
        let waiting = commands(&story, &on("n1"));
        assert!(waiting.iter().any(|line| line.starts_with("ssh 10.0.0.20 ")), "{waiting:#?}");
    }
}

#[test]
fn commands_reach_the_clusters_as_the_document_does() {
    let mut plan = plan();
    let access = |file: &str, context: Option<&str>| Access {
        kubeconfig: Some(file.to_owned()),
        context: context.map(str::to_owned),
    };
    plan.management = access("/etc/rehull/management.yaml", None);
    plan.workload = access("/etc/rehull/prod.yaml", Some("admin"));
    let mut story = Story::with(plan, &["n1"]);
    story.reaches("n1", Gate::Removal);
    let needs = Gate::Removal.needs();
    let spoilt = |check| needs.iter().position(|need| need.check == check).expect("a need");
    let fail = Verdict::fail("no");
    story.all_but(&on("n1"), spoilt(Check::NodeAbsent), &fail);
    let lines = commands(&story, &on("n1"));
    let meant = "kubectl --kubeconfig /etc/rehull/prod.yaml --context admin delete node n1";
    assert!(lines.contains(&meant.to_owned()), "{lines:#?}");
    story.all_but(&on("n1"), spoilt(Check::NoForeignOperation), &fail);
    let lines = commands(&story, &on("n1"));
    let meant = "kubectl --kubeconfig /etc/rehull/management.yaml get clusteroperations \
                 -l clusterName=prod";
    assert!(lines.contains(&meant.to_owned()), "{lines:#?}");
}
