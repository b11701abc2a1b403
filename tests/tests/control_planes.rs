//! Control planes: one at a time behind all workers, the first of the inventory last and handed over
//! before, and none of them while etcd could not bear it.

use rehull::domain::{
    command::{Command, Report, Request},
    event::Event,
    gate::{Blocker, Gate},
    plan::Role,
    state::{
        Extent, Kind, Leftovers, Member, MemberRemoval, Outcome, Phase, Process, Step, Subject,
    },
};
use rehull_shared::{
    evidence::{Check, Source, Verdict, Witness},
    time::Span,
};
use rehull_tests::story::{Story, WITH_CONTROL_PLANES, node, on, plan_with_control_planes, prod};

fn story() -> Story {
    Story::with(plan_with_control_planes(), &WITH_CONTROL_PLANES)
}

fn gates_of(story: &Story, name: &str) -> Vec<Gate> {
    let passed = story.log.iter().filter_map(|recorded| match &recorded.event {
        Event::GatePassed { subject, proof } if *subject == on(name) => Some(proof.gate()),
        _ => None,
    });
    passed.collect()
}

#[test]
fn a_whole_cluster_goes_one_by_one_and_the_first_control_plane_last() {
    let mut story = story();
    for name in WITH_CONTROL_PLANES {
        story.finishes(name);
    }
    story.waits(Span::from_secs(5));
    story.passes(&Subject::Cluster);
    story.waits(Span::from_secs(5));
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Done);
    story.keeps_the_invariants();
    let began: Vec<String> = story
        .log
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::NodeStarted { node } => Some(node.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(began, WITH_CONTROL_PLANES);
    let before_removal = |name: &str| -> Vec<Gate> {
        let gates = gates_of(&story, name);
        gates.into_iter().take_while(|gate| *gate != Gate::RemoveAdmission).collect()
    };
    use Gate::{
        Cordon, Drain, Kubeconfig, KubeconfigAdmission, Preflight, Quorum, Reorder,
        ReorderAdmission, Reordered, Snapshot, Withdraw,
    };
    assert_eq!(before_removal("n1"), [Preflight, Snapshot, Cordon, Drain]);
    assert_eq!(before_removal("m2"), [Preflight, Snapshot, Cordon, Drain, Quorum, Withdraw]);
    let hand_over = [KubeconfigAdmission, Kubeconfig, Reorder, ReorderAdmission, Reordered];
    let (begin, end) = ([Preflight, Snapshot], [Cordon, Drain, Quorum, Withdraw]);
    assert_eq!(before_removal("m1"), [&begin[..], &hand_over, &end].concat());
}

#[test]
fn nobody_begins_beside_a_control_plane_and_none_beside_another_node() {
    let mut plan = plan_with_control_planes();
    plan.policy.max_out = 3;
    let mut story = Story::with(plan, &["n1", "n2", "n3", "m2", "m3", "m1"]);
    story.finishes("n1");
    story.waits(Span::from_secs(10));
    let begun = |story: &Story, name: &str| *story.phase(&on(name)) != Phase::Planned;
    assert!(begun(&story, "n2") && begun(&story, "n3") && !begun(&story, "m2"));
    story.finishes("n2");
    story.waits(Span::from_secs(10));
    assert!(!begun(&story, "m2"), "n3 is still under way");
    story.finishes("n3");
    story.waits(Span::from_secs(10));
    assert!(begun(&story, "m2") && !begun(&story, "m3"));
    story.keeps_the_invariants();
}

#[test]
fn an_api_server_that_is_away_is_no_witness_and_its_own_node_waits_for_it() {
    let mut story = story();
    story.finishes("n1");
    let witnesses = |story: &Story, of: Witness| -> Vec<Source> {
        let subject = on("m2");
        let needs = story.needs(&subject);
        let need = needs.iter().find(|need| need.witness == of);
        need.map(|need| story.migration().bench(&subject).witnesses(need)).unwrap_or_default()
    };
    let server = |number: u32| Source::ApiServer(format!("10.0.0.{number}:6443"));
    story.reaches("m2", Gate::Quorum);
    assert_eq!(witnesses(&story, Witness::ApiServers), [server(1), server(2), server(3)]);
    for gate in [Gate::Withdraw, Gate::Removal, Gate::Os, Gate::JoinAdmission, Gate::Join] {
        story.reaches("m2", gate);
        assert_eq!(witnesses(&story, Witness::ApiServers), [server(1), server(3)], "{gate:?}");
    }
    assert_eq!(witnesses(&story, Witness::OwnApiServer), [server(2)]);
    story.reaches("m2", Gate::Soak);
    assert_eq!(witnesses(&story, Witness::ApiServers), [server(1), server(2), server(3)]);
}

#[test]
fn members_of_etcd_that_are_to_be_there_follow_the_removal_and_the_join() {
    let mut story = story();
    story.finishes("n1");
    let (standing, serving) = (
        |story: &Story| -> Vec<String> {
            story.migration().standing().map(|one| one.name.to_string()).collect()
        },
        |story: &Story| -> Vec<String> {
            story.migration().serving().map(|one| one.name.to_string()).collect()
        },
    );
    let (all, others) = (["m1", "m2", "m3"], ["m1", "m3"]);
    story.reaches("m2", Gate::Quorum);
    assert_eq!(
        (standing(&story), serving(&story)),
        (all.map(Into::into).into(), all.map(Into::into).into())
    );
    story.reaches("m2", Gate::RemoveAdmission);
    assert_eq!(
        (standing(&story), serving(&story)),
        (all.map(Into::into).into(), others.map(Into::into).into())
    );
    for gate in [Gate::Removal, Gate::Os, Gate::JoinAdmission] {
        story.reaches("m2", gate);
        assert_eq!(standing(&story), others, "{gate:?}");
        assert_eq!(serving(&story), others, "{gate:?}");
    }
    story.reaches("m2", Gate::Join);
    assert_eq!(
        (standing(&story), serving(&story)),
        (all.map(Into::into).into(), all.map(Into::into).into())
    );
}

#[test]
fn a_second_ailing_member_stops_everything_until_it_is_well_and_a_person_says_so() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::JoinAdmission);
    let subject = on("m2");
    let needs = story.needs(&subject);
    let healthy = needs.iter().position(|need| need.check == Check::EtcdHealthy).expect("a need");
    story.does_what_a_gate_needs("m2", Gate::JoinAdmission);
    while story.gate(&subject) == Some(Gate::JoinAdmission) {
        story.all_but(&subject, healthy, &Verdict::fail("m3: no answer within 2 s"));
        story.waits(Span::from_secs(20));
    }
    assert!(matches!(story.phase(&subject), Phase::Held { .. }));
    assert_eq!(story.intended("m2", Kind::Join), 0);
    // It is well again: that alone lets nothing go on.
    story.waits(Span::from_mins(30));
    assert!(matches!(story.phase(&subject), Phase::Held { .. }));
    assert!(WITH_CONTROL_PLANES[2..].iter().all(|name| *story.phase(&on(name)) == Phase::Planned));
    story.retries(subject.clone(), false);
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn a_pause_lets_no_control_plane_rest_with_its_api_server_out_of_service() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Withdraw);
    story.does_what_a_gate_needs("m2", Gate::Withdraw);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("m2"));
    assert_eq!(story.gate(&on("m2")), Some(Gate::RemoveAdmission));
    story.reaches("m2", Gate::Removal);
    story.passes(&on("m2"));
    let rests = Phase::Ready { next: Step::Ask(Gate::Reinstall) };
    assert_eq!(*story.phase(&on("m2")), rests, "behind the removal");
    // Before it was taken out of service, it may rest.
    let mut story = self::story();
    story.finishes("n1");
    story.reaches("m2", Gate::Quorum);
    story.does_what_a_gate_needs("m2", Gate::Quorum);
    story.asks(Request::Pause { by: "ann".into() });
    story.passes(&on("m2"));
    assert_eq!(*story.phase(&on("m2")), Phase::Ready { next: Step::Ask(Gate::Withdraw) });
}

#[test]
fn one_that_is_given_up_before_its_removal_serves_again() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Withdraw);
    story.does_what_a_gate_needs("m2", Gate::Withdraw);
    assert_eq!(story.node("m2").api_server_on, Some(false));
    story.aborts(on("m2"));
    assert_eq!(story.gate(&on("m2")), Some(Gate::Abort));
    let serves =
        story.needs(&on("m2")).into_iter().any(|need| need.check == Check::ApiServerServes);
    assert!(serves, "it must be seen to serve");
    story.does_what_a_gate_needs("m2", Gate::Abort);
    assert_eq!(story.node("m2").api_server_on, Some(true));
    story.passes(&on("m2"));
    assert_eq!(*story.phase(&on("m2")), Phase::Aborted);
    story.keeps_the_invariants();
}

#[test]
fn a_hand_over_can_be_given_up_for_nothing_was_removed() {
    let mut story = story();
    ["n1", "m2", "m3"].iter().for_each(|name| story.finishes(name));
    story.reaches("m1", Gate::ReorderAdmission);
    assert_eq!(story.intended("m1", Kind::Kubeconfig), 1);
    assert!(!story.node("m1").is_out());
    story.aborts(on("m1"));
    story.does_what_a_gate_needs("m1", Gate::Abort);
    story.passes(&on("m1"));
    assert_eq!(*story.phase(&on("m1")), Phase::Aborted);
    story.keeps_the_invariants();
}

#[test]
fn a_hand_over_is_given_up_when_its_operation_has_ended_and_not_before() {
    let of_node = || {
        let mut story = story();
        ["n1", "m2", "m3"].iter().for_each(|name| story.finishes(name));
        story.reaches("m1", Gate::KubeconfigAdmission);
        story.does_what_a_gate_needs("m1", Gate::KubeconfigAdmission);
        story.passes(&on("m1"));
        assert_eq!(*story.phase(&on("m1")), Phase::Operating);
        story
    };
    let mut story = of_node();
    let abort = |subject| Command::Of(prod(), Request::Abort { subject, by: "ann".into() });
    let refused = story.tries(abort(on("m1"))).unwrap_err().to_string();
    assert!(refused.contains("its operation runs"), "{refused}");
    // The whole migration may be given up at any time: its nodes follow when they can.
    story.aborts(Subject::Cluster);
    story.waits(Span::from_secs(10));
    assert_eq!(*story.phase(&on("m1")), Phase::Operating);
    story.operation_ends("m1", Outcome::Succeeded);
    assert_eq!(story.gate(&on("m1")), Some(Gate::Abort));
    story.keeps_the_invariants();
}

#[test]
fn a_backup_is_taken_for_each_removal_and_after_each_hold() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Quorum);
    assert!(story.node("m2").backup.is_none());
    story.does_what_a_gate_needs("m2", Gate::Quorum);
    assert!(story.node("m2").backup.is_some());
    while !matches!(story.phase(&on("m2")), Phase::Held { .. }) {
        story.waits(Span::from_mins(1));
    }
    story.retries(on("m2"), false);
    assert!(story.node("m2").backup.is_none(), "the old one may be hours old");
    // Held behind the gate that took it, it is as old.
    story.reaches("m2", Gate::RemoveAdmission);
    assert!(story.node("m2").backup.is_some());
    while !matches!(story.phase(&on("m2")), Phase::Held { .. }) {
        story.waits(Span::from_mins(1));
    }
    story.retries(on("m2"), false);
    assert_eq!(story.gate(&on("m2")), Some(Gate::RemoveAdmission));
    assert!(story.node("m2").backup.is_none());
}

#[test]
fn a_change_is_in_the_log_once_for_each_revision_that_it_may_be_made_from() {
    let mut story = story();
    story.finishes("n1");
    let changing = |revision: &str| Report::Changing {
        node: node("m2"),
        object: "ConfigMap kube-public/cluster-info".into(),
        revision: revision.into(),
        change: "it is to lead to m1".into(),
    };
    story.reaches("m2", Gate::Quorum);
    assert_eq!(story.reports(changing("1")).len(), 1);
    assert_eq!(story.node("m2").changing["ConfigMap kube-public/cluster-info"], "1");
    assert!(story.reports(changing("1")).is_empty(), "it is known");
    assert_eq!(story.reports(changing("2")).len(), 1, "somebody has changed it meanwhile");
    assert_eq!(story.node("m2").changing["ConfigMap kube-public/cluster-info"], "2");
}

#[test]
fn a_member_that_outlived_its_host_is_removed_by_id_once_the_host_is_clean() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Removal);
    let subject = on("m2");
    let member = Member { id: "b2".into(), peer_url: "https://10.0.0.2:2380".into() };
    let left = Report::MemberLeft { node: node("m2"), member: member.clone() };
    story.reports(left.clone());
    assert_eq!(story.node("m2").member, MemberRemoval::Untouched, "nobody has looked yet");
    let needs = story.needs(&subject);
    let absent = needs.iter().position(|need| need.check == Check::MemberAbsent).expect("a need");
    let spoilt = Verdict::fail("m1 knows member b2");
    story.all_but(&subject, absent, &spoilt);
    let round = story.migration().track(&subject).expect("a subject").round;
    story.reports(left.clone());
    let MemberRemoval::Ordered { order, member: ordered } = story.node("m2").member.clone() else {
        panic!("{:?}", story.node("m2").member);
    };
    assert_eq!(ordered, member);
    story.reports(left.clone());
    let seen = "done: b2 is no member any more".to_owned();
    story.reports(Report::MemberAnswered { node: node("m2"), order, seen });
    let asked = story.migration().track(&subject).expect("a subject").round;
    assert!(asked > round, "what was seen before proves nothing");
    story.reports(left);
    assert_eq!(story.node("m2").member, MemberRemoval::Answered, "once an attempt");
    story.passes(&subject);
    assert_ne!(story.gate(&subject), Some(Gate::Removal));
    story.keeps_the_invariants();
}

/// At G5 of m2, where every witness confirms but of one check.
fn removed_but_for(check: Check) -> Story {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Removal);
    let needs = story.needs(&on("m2"));
    let spoilt = needs.iter().position(|need| need.check == check).expect("a need");
    story.all_but(&on("m2"), spoilt, &Verdict::fail("it is not so"));
    story
}

#[test]
fn an_etcd_that_outlived_its_removal_is_killed_only_while_the_others_are_well() {
    let well = || removed_but_for(Check::NoLeftovers);
    let mut ails = well();
    let ailing = Some("m3: no answer".to_owned());
    ails.reports(Report::Others { node: node("m2"), ailing });
    for (mut story, meant) in
        [(well(), true), (removed_but_for(Check::IdentityKept), false), (ails, false)]
    {
        let (comm, exe) = ("etcd".to_owned(), "/usr/local/bin/etcd".to_owned());
        let processes = vec![Process { pid: 7, start_ticks: 1, comm, exe }];
        story.reports(Report::Leftovers { node: node("m2"), processes });
        let ordered = matches!(story.node("m2").leftovers, Leftovers::Ordered { .. });
        assert_eq!(ordered, meant);
        story.keeps_the_invariants();
    }
}

#[test]
fn the_host_of_a_member_that_is_left_must_be_clean_and_the_others_well() {
    for spoilt in [
        Check::KubeletStopped,
        Check::NoLeftovers,
        Check::PortsFree,
        Check::NodeAbsent,
        Check::IdentityKept,
    ] {
        let mut story = removed_but_for(spoilt);
        let member = Member { id: "b2".into(), peer_url: "https://10.0.0.2:2380".into() };
        story.reports(Report::MemberLeft { node: node("m2"), member });
        assert_eq!(story.node("m2").member, MemberRemoval::Untouched, "{spoilt}");
    }
}

#[test]
fn the_first_is_not_asked_to_go_while_another_control_plane_was_given_up() {
    let mut story = story();
    story.finishes("n1");
    story.finishes("m2");
    story.reaches("m3", Gate::Preflight);
    story.aborts(on("m3"));
    story.waits(Span::from_secs(10));
    assert_eq!(*story.phase(&on("m3")), Phase::Aborted);
    assert_eq!(story.gate(&on("m1")), Some(Gate::Preflight));
    let needs = story.needs(&on("m1"));
    let done = needs.iter().find(|need| need.check == Check::OtherControlPlanesDone);
    assert!(done.is_some(), "it is for this to be seen that the check is there");
    assert_eq!(story.migration().bench(&on("m1")).role, Role::FirstControlPlane);
}

#[test]
fn people_are_warned_and_then_paged_once_each_while_etcd_bears_no_loss() {
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Quorum);
    assert_eq!(story.migration().fragile(), None);
    story.reaches("m2", Gate::Reinstall);
    let (node, from) = story.migration().fragile().expect("m2 is away");
    assert_eq!(node.planned.name, self::node("m2"));
    let told = |story: &Story| -> Vec<bool> {
        let told = story.log.iter().filter_map(|recorded| match recorded.event {
            Event::FragilityExceeded { page, .. } => Some(page),
            _ => None,
        });
        told.collect()
    };
    let policy = story.migration().plan.policy.clone();
    story.waits((from + policy.fragility_warning).since(story.now));
    assert_eq!(told(&story), [false]);
    story.waits(Span::from_mins(10));
    assert_eq!(told(&story), [false], "once");
    story.waits((from + policy.fragility_page).since(story.now));
    assert_eq!(told(&story), [false, true]);
    story.waits(Span::from_mins(10));
    assert_eq!(told(&story), [false, true]);
    story.retries(on("m2"), false);
    story.finishes("m2");
    assert_eq!(story.migration().fragile(), None);
    let (name, span) = story.migration().fragility(story.now)[0];
    assert!(*name == self::node("m2") && span >= policy.fragility_page, "{name} {span}");
}

#[test]
fn five_voters_bear_a_loss_while_one_is_away() {
    use rehull::domain::fragility::bears_no_loss_with_one_away;
    assert_eq!([2, 3, 4, 5, 7].map(bears_no_loss_with_one_away), [true, true, false, false, false]);
}

#[test]
fn a_kubeconfig_operation_that_did_nothing_is_seen_and_made_again_on_request() {
    let mut story = story();
    ["n1", "m2", "m3"].iter().for_each(|name| story.finishes(name));
    story.reaches("m1", Gate::KubeconfigAdmission);
    story.does_what_a_gate_needs("m1", Gate::KubeconfigAdmission);
    story.passes(&on("m1"));
    story.operation_ends("m1", Outcome::Succeeded);
    assert_eq!(story.gate(&on("m1")), Some(Gate::Kubeconfig), "Succeeded alone moves nothing");
    while !matches!(story.phase(&on("m1")), Phase::Held { .. }) {
        let needs = story.needs(&on("m1"));
        let elsewhere =
            needs.iter().position(|need| need.check == Check::KubeconfigElsewhere).expect("a need");
        story.all_but(&on("m1"), elsewhere, &Verdict::fail("10.0.0.1:6443 is m1, which goes"));
        story.waits(Span::from_secs(20));
    }
    story.retries(on("m1"), true);
    assert_eq!(story.gate(&on("m1")), Some(Gate::KubeconfigAdmission));
    story.finishes("m1");
    assert_eq!(story.intended("m1", Kind::Kubeconfig), 2);
    story.keeps_the_invariants();
    let done = story.fleet.migrations[&prod()].nodes.iter().all(|it| it.track.phase == Phase::Done);
    assert!(done);
}

#[test]
fn the_first_control_plane_hands_over_and_goes_only_on_the_word_of_a_person() {
    for gate in [Gate::KubeconfigAdmission, Gate::Quorum] {
        let mut story = story();
        ["n1", "m2", "m3"].iter().for_each(|name| story.finishes(name));
        story.reaches("m1", gate);
        let operations = story.node("m1").operations.len();
        let needs = story.needs(&on("m1"));
        let approved = needs.iter().position(|need| need.check == Check::FirstControlPlaneApproved);
        let approved = approved.unwrap_or_else(|| panic!("{gate:?} does not ask for it"));
        story.does_what_a_gate_needs("m1", gate);
        while story.gate(&on("m1")) == Some(gate) {
            story.all_but(&on("m1"), approved, &Verdict::fail("nobody has approved it"));
            story.waits(Span::from_secs(20));
        }
        assert!(matches!(story.phase(&on("m1")), Phase::Held { .. }), "{gate:?}");
        assert_eq!(story.node("m1").operations.len(), operations);
        assert_ne!(story.node("m1").api_server_on, Some(false), "it serves while it waits");
        story.retries(on("m1"), false);
        story.finishes("m1");
        story.keeps_the_invariants();
    }
    let mut story = story();
    story.finishes("n1");
    story.reaches("m2", Gate::Quorum);
    let needs = story.needs(&on("m2"));
    assert!(needs.iter().all(|need| need.check != Check::FirstControlPlaneApproved), "m2 is not");
}

#[test]
fn a_second_member_that_ails_while_one_is_away_is_told_at_once_and_holds_until_a_person_has_looked()
{
    let mut story = story();
    story.finishes("n1");
    let others = |ailing: Option<&str>| {
        let ailing = ailing.map(str::to_owned);
        Report::Others { node: node("m2"), ailing }
    };
    story.reaches("m2", Gate::Withdraw);
    assert_eq!(story.reports(others(Some("m3: no answer"))), [], "m2 is still a member");
    story.reaches("m2", Gate::Os);
    assert_eq!(story.reports(others(None)), [], "nobody was told of anything");
    let told = story.reports(others(Some("m3: no answer")));
    assert!(
        matches!(&told[..], [Event::QuorumAtRisk { why, .. }] if why == "m3: no answer"),
        "{told:?}"
    );
    assert_eq!(story.reports(others(Some("m3: no answer within 2 s"))), [], "once");
    let told = story.reports(others(None));
    assert!(matches!(&told[..], [Event::QuorumRestored { .. }]), "{told:?}");
    story.passes(&on("m2"));
    let Phase::Held { why, resume } = story.phase(&on("m2")) else {
        panic!("it went on by itself: {:?}", story.phase(&on("m2")));
    };
    assert_eq!(*resume, Step::Ask(Gate::JoinAdmission));
    assert!(matches!(&why[..], [Blocker::QuorumAtRisk { seen }] if seen == "m3: no answer"));
    story.reports(others(Some("m1: no leader")));
    assert!(
        story.node("m2").at_risk && story.node("m2").track.hold.is_none(),
        "it is held already"
    );
    story.retries(on("m2"), false);
    story.finishes("m2");
    story.keeps_the_invariants();
}

#[test]
fn not_even_a_removal_that_did_nothing_is_tried_again_while_a_second_member_ails() {
    for at_risk in [false, true] {
        let mut story = story();
        story.finishes("n1");
        story.reaches("m2", Gate::RemoveAdmission);
        story.does_what_a_gate_needs("m2", Gate::RemoveAdmission);
        story.passes(&on("m2"));
        story.operation_ends_after("m2", Outcome::Failed, Extent::NotStarted);
        if at_risk {
            let ailing = Some("m3: no answer".to_owned());
            story.reports(Report::Others { node: node("m2"), ailing });
        }
        let end = story.now + Span::from_mins(6);
        while story.now < end && story.gate(&on("m2")) == Some(Gate::Removal) {
            for need in story.needs(&on("m2")) {
                let answers = story.answers_to(&on("m2"), need, Verdict::fail("no"));
                story.hears(&on("m2"), answers);
            }
            story.waits(Span::from_secs(20));
        }
        let rests = matches!(story.phase(&on("m2")), Phase::Held { why, .. }
            if matches!(&why[..], [Blocker::QuorumAtRisk { .. }]));
        assert_eq!(rests, at_risk, "{:?}", story.phase(&on("m2")));
        assert_eq!(story.gate(&on("m2")) == Some(Gate::RemoveAdmission), !at_risk);
        story.keeps_the_invariants();
    }
}
