//! Control planes that say this and that, and what it comes to.

use rehull_proto::v1::{
    Authority, Certificate, Certificates, ControlPlane as Found, Etcd, EtcdMember,
};

use super::*;
use crate::effects::testing::{member_heard, plane, says};

const URL: &str = "https://127.0.0.1:2379";

fn member(number: u8) -> EtcdMember {
    EtcdMember {
        id: number.into(),
        name: format!("etcd{number}"),
        peer_urls: vec![format!("https://10.0.0.{number}:2380")],
        ..EtcdMember::default()
    }
}

/// What the control planes of these numbers say of members of these; the highest leads.
fn heard(planes: &[u8], members: &[u8]) -> Vec<Heard> {
    let leader = planes.iter().max().copied().unwrap_or_default().into();
    let one = |number: &u8| {
        let said = Etcd {
            cluster_id: 0xab,
            member_id: (*number).into(),
            leader,
            raft_term: 2,
            members: members.iter().copied().map(member).collect(),
            ..Etcd::default()
        };
        let found = Found {
            authorities: vec![Authority { name: "ca.crt".into(), sha256: "aa".into() }],
            etcd_servers: vec![URL.into()],
            etcd_initial_state: "existing".into(),
            etcd_servers_overrides: String::new(),
        };
        Heard {
            control_plane: Ok(found),
            certificates: Ok(Certificates::default()),
            addresses: Ok(vec![format!("10.0.0.{number}"), format!("fd00::{number}")]),
            ..member_heard(*number, Ok(said))
        }
    };
    planes.iter().map(one).collect()
}

/// Of a plan that has these and the target.
fn judge(check: Check, heard: &[Heard], standing: &[u8], target: u8) -> Verdict {
    judge_compared(check, heard, standing, target, (Comparison::Now, false))
}

fn judge_compared(
    check: Check,
    heard: &[Heard],
    standing: &[u8],
    target: u8,
    (comparison, again): (Comparison, bool),
) -> Verdict {
    let planned: Vec<ControlPlane> = standing.iter().chain([&target]).copied().map(plane).collect();
    let recorded = ClusterIdentity {
        etcd_cluster: "ab".into(),
        authorities: [("ca.crt".to_owned(), "aa".to_owned())].into(),
    };
    let looked = Looked {
        heard,
        health: etcd::health(&"prod".parse().unwrap(), heard),
        comparison,
        standing: planned[..standing.len()].iter().collect(),
        again: again.then(|| &planned[standing.len()]),
        planned: &planned,
        recorded: Some(&recorded),
        leader_steady: Verdict::pass("no election for 10m"),
        certificates_to: Timestamp::from_millis(1_000),
        endpoint: None,
    };
    looked.judge(check, Some(&plane(target)))
}

#[tokio::test]
async fn an_address_that_moves_between_hosts_must_have_left_the_one_that_goes() {
    let mut all = heard(&[1, 2, 3], &[1, 2, 3]);
    let ip = async |host| Some((host, resolved(host).await));
    let judge = |heard: &[Heard], endpoint, target| {
        let health = etcd::health(&"prod".parse().unwrap(), heard);
        let looked = Looked {
            heard,
            health,
            comparison: Comparison::Left,
            standing: Vec::new(),
            again: None,
            planned: &[],
            recorded: None,
            leader_steady: Verdict::unknown("not asked"),
            certificates_to: Timestamp::default(),
            endpoint,
        };
        looked.judge(Check::EndpointNotHere, Some(&plane(target)))
    };
    says(&judge(&all, None, 1), "pass", "spec.workload.endpoint is not given");
    let vip = ip("10.0.0.100").await;
    says(&judge(&all, vip.clone(), 1), "pass", "10.0.0.100 is on no control plane");
    all[1].addresses.as_mut().unwrap().push("10.0.0.100".into());
    says(&judge(&all, vip.clone(), 1), "pass", "10.0.0.100 is on m2");
    says(&judge(&all, vip.clone(), 2), "fail", "10.0.0.100 is on m2, which goes");
    // By what it is, not by how it is written.
    says(&judge(&all, ip("[fd00:0::3]").await, 3), "fail", "is on m3, which goes");
    all[0].addresses = Err("no agent".into());
    says(&judge(&all, vip.clone(), 1), "unknown", "m1: no agent");
    says(&judge(&all, vip.clone(), 3), "pass", "10.0.0.100 is on m2");
    let unknown = Some(("lb.example", Err("no such host".to_owned())));
    says(&judge(&all, unknown, 3), "unknown", "lb.example: no such host");
}

#[test]
fn members_are_exactly_those_of_the_control_planes_that_are_there() {
    let check = Check::EtcdHealthy;
    says(&judge(check, &heard(&[1, 2, 3], &[1, 2, 3]), &[1, 2, 3], 1), "pass", "3 voters");
    let two = judge(check, &heard(&[2, 3], &[2, 3]), &[1, 2, 3], 1);
    says(&two, "fail", "no member has address 10.0.0.1");
    let left = judge(check, &heard(&[2, 3], &[1, 2, 3]), &[2, 3], 1);
    says(&left, "fail", "where none is to be");
    let mut silent = heard(&[1, 2, 3], &[1, 2, 3]);
    silent[1].said = Err("no agent".into());
    says(&judge(check, &silent, &[1, 2, 3], 1), "unknown", "m2: no agent");
    says(&judge(check, &[], &[], 1), "unknown", "no control plane");
}

#[test]
fn one_whose_removal_is_tried_again_may_be_a_member_or_not() {
    let judge =
        |check, heard: &[Heard]| judge_compared(check, heard, &[2, 3], 1, (Comparison::Now, true));
    let (healthy, kept) = (Check::EtcdHealthy, Check::QuorumKept);
    let there = heard(&[1, 2, 3], &[1, 2, 3]);
    says(&judge(healthy, &there), "pass", "3 voters, 1 could be lost");
    says(&judge(kept, &there), "pass", "3 voters, 1 could be lost");
    let gone = heard(&[2, 3], &[2, 3]);
    says(&judge(healthy, &gone), "pass", "2 voters, 0 could be lost");
    says(&judge(kept, &gone), "pass", "2 voters, and m1 is none of them any more");
    // A vote of its own that nobody speaks for is one that the others would need.
    let silent = heard(&[2, 3], &[1, 2, 3]);
    says(&judge(healthy, &silent), "fail", "nobody speaks for member 1");
    says(&judge(kept, &silent), "fail", "3 voters, 0 could be lost");
    let fourth = heard(&[2, 3], &[2, 3, 4]);
    says(&judge(healthy, &fourth), "fail", "address 10.0.0.4, where none is to be");
}

#[test]
fn stores_are_compared_once_a_round_and_not_while_clients_would_pay_for_it() {
    let all = heard(&[1, 2, 3], &[1, 2, 3]); // 3 leads
    let (first, leader) = (plane(1), plane(3));
    let compared = |gate, target, wanted| comparison(gate, Some(target), &all, wanted);
    assert_eq!(compared(Gate::Quorum, &first, true), Comparison::Now);
    assert_eq!(compared(Gate::Quorum, &first, false), Comparison::Left);
    assert_eq!(compared(Gate::Withdraw, &first, true), Comparison::Left);
    assert_eq!(compared(Gate::RemoveAdmission, &first, true), Comparison::Now);
    assert_eq!(compared(Gate::Soak, &leader, true), Comparison::Now, "it stays");
    assert_eq!(comparison(Gate::Finalize, None, &all, true), Comparison::Now);

    let waits = compared(Gate::Quorum, &leader, true);
    assert_eq!(waits, Comparison::Later);
    let healthy = judge_compared(Check::EtcdHealthy, &all, &[1, 2, 3], 3, (waits, false));
    says(&healthy, "unknown", "compared when the leadership is handed on");
}

#[test]
fn a_member_may_go_only_if_three_are_well() {
    let check = Check::QuorumKept;
    says(&judge(check, &heard(&[1, 2, 3], &[1, 2, 3]), &[1, 2, 3], 1), "pass", "1 could be lost");
    says(&judge(check, &heard(&[1, 2], &[1, 2]), &[1, 2], 1), "fail", "2 voters");
    says(&judge(check, &heard(&[1], &[1]), &[1], 1), "fail", "1 voter");
    let mut ill = heard(&[1, 2, 3], &[1, 2, 3]);
    ill[2].said.as_mut().unwrap().errors = vec!["no space".into()];
    says(&judge(check, &ill, &[1, 2, 3], 1), "fail", "3 voters");
}

#[test]
fn the_leader_and_members_are_told_by_address_alone() {
    let all = heard(&[1, 2, 3], &[1, 2, 3]);
    says(&judge(Check::LeaderElsewhere, &all, &[1, 2, 3], 3), "fail", "m3 leads");
    says(&judge(Check::LeaderElsewhere, &all, &[1, 2, 3], 1), "pass", "m3 leads");
    says(&judge(Check::LeaderSteady, &all, &[1, 2, 3], 1), "pass", "no election");
    // Of 10.0.0.1 and 10.0.0.11 one is a prefix of the other (F7).
    let prefix = heard(&[2, 3], &[2, 3, 11]);
    says(&judge(Check::MemberAbsent, &prefix, &[2, 3], 1), "pass", "none of them at 10.0.0.1");
    let there = judge(Check::MemberAbsent, &heard(&[2, 3], &[2, 3, 11]), &[2, 3], 11);
    says(&there, "fail", "m2 knows member b (https://10.0.0.11:2380)");
}

#[test]
fn another_authority_or_etcd_is_told() {
    let check = Check::IdentityKept;
    let mut all = heard(&[1, 2, 3], &[1, 2, 3]);
    says(&judge(check, &all, &[1, 2, 3], 1), "pass", "the 1 recorded authorities");
    all[1].control_plane.as_mut().unwrap().authorities[0].sha256 = "bb".into();
    says(&judge(check, &all, &[1, 2, 3], 1), "fail", "ca.crt of m2 is not the one");
    all[1].control_plane = Err("too old".into());
    says(&judge(check, &all, &[1, 2, 3], 1), "unknown", "m2: too old");
    let mut all = heard(&[1, 2, 3], &[1, 2, 3]);
    all[2].said.as_mut().unwrap().cluster_id = 0xac;
    says(&judge(check, &all, &[1, 2, 3], 1), "fail", "m3 is of etcd ac, recorded was ab");
}

#[test]
fn api_servers_ask_their_own_member_or_all_that_are_there() {
    let check = Check::EtcdServersRight;
    let mut all = heard(&[1, 2], &[1, 2]);
    says(&judge(check, &all, &[1, 2], 3), "pass", "2 API servers");
    let set = |heard: &mut Heard, urls: &[&str]| {
        heard.control_plane.as_mut().unwrap().etcd_servers =
            urls.iter().map(|&url| url.to_owned()).collect();
    };
    set(&mut all[0], &["https://10.0.0.1:2379", "https://10.0.0.2:2379"]);
    says(&judge(check, &all, &[1, 2], 3), "pass", "2 API servers");
    set(&mut all[0], &["https://10.0.0.1:2379", "https://10.0.0.3:2379"]);
    says(&judge(check, &all, &[1, 2], 3), "fail", "of m1 asks etcd at 10.0.0.1, 10.0.0.3");
    // Whoever is away is named until the next deployment; who was never there, is no member.
    set(&mut all[0], &["https://10.0.0.1:2379", "https://10.0.0.2:2379", "https://10.0.0.3:2379"]);
    says(&judge(check, &all, &[1, 2], 3), "pass", "2 API servers");
    says(&judge(check, &all, &[1, 2], 4), "fail", "asks etcd at 10.0.0.1, 10.0.0.2, 10.0.0.3");
    says(&judge(check, &all, &[1, 2, 4], 3), "fail", "asks etcd at 10.0.0.1, 10.0.0.2, 10.0.0.3");
    set(&mut all[0], &[URL, "https://10.0.0.3:2379"]);
    says(&judge(check, &all, &[1, 2], 3), "fail", "asks etcd at 10.0.0.3, 127.0.0.1");
    set(&mut all[0], &[]);
    says(&judge(check, &all, &[1, 2], 3), "fail", "no API server runs on m1");
    set(&mut all[0], &[URL]);
    all[1].control_plane.as_mut().unwrap().etcd_servers_overrides = "/events#https://x:2381".into();
    let words = "of m2 keeps a part in another etcd, which is not migrated";
    says(&judge(check, &all, &[1, 2], 3), "fail", words);
}

#[test]
fn certificates_of_those_that_stay_must_last_too() {
    let check = Check::ControlPlaneCertificatesValid;
    let mut all = heard(&[1, 2, 3], &[1, 2, 3]);
    let mut until = |not_after_ms| {
        let path = "/etc/kubernetes/ssl/etcd/peer.crt".to_owned();
        let found = vec![Certificate { path, not_after_ms, ..Certificate::default() }];
        all[2].certificates = Ok(Certificates { found });
        judge(check, &all, &[1, 2, 3], 1)
    };
    says(&until(1_000), "pass", "those of 3 control planes");
    says(
        &until(999),
        "fail",
        "m3: /etc/kubernetes/ssl/etcd/peer.crt expires at 1970-01-01T00:00:00.999Z",
    );
    all[1].certificates = Err("peer.crt: no certificate".into());
    says(&judge(check, &all, &[1, 2, 3], 1), "unknown", "m2: peer.crt: no certificate");
}

#[test]
fn a_member_was_started_to_join_and_to_make_nothing_new() {
    let check = Check::EtcdJoinsOnly;
    let mut all = heard(&[1, 2, 3], &[1, 2, 3]);
    let mut state = |state: &str| {
        all[1].control_plane.as_mut().unwrap().etcd_initial_state = state.into();
        (judge(check, &all, &[1, 2, 3], 2), judge(check, &all, &[1, 2, 3], 1))
    };
    says(&state("existing").0, "pass", "its initial cluster state is existing");
    let (own, others) = state("new");
    says(&own, "fail", "its initial cluster state is new");
    says(&others, "pass", "existing");
    says(&state("").0, "unknown", "knows of no etcd");
    all[1].control_plane = Err("too old".into());
    says(&judge(check, &all, &[1, 2, 3], 2), "unknown", "m2: too old");
    says(&judge(check, &all, &[1, 2, 3], 4), "unknown", "m4 was not asked");
}
