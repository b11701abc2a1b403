//! Whether an etcd is well, by what its members say through the agents of their hosts: every voter
//! answers a read of a quorum, all know the same members and the same leader, nobody lags, no alarm
//! is raised, and the stores are equal at one revision. Members are told by id and peer URL: names
//! are handed on when an inventory is reordered.

use std::collections::{BTreeMap, BTreeSet};

use rehull_proto::v1::{
    Authority, Certificates, ControlPlane, Etcd, EtcdMember, EtcdMemberStatus, EtcdResponse,
};
use rehull_shared::ids::{ClusterName, NodeName};

use crate::domain::state::ClusterIdentity;

mod ask;
mod seen;

pub use ask::{ask, compare, hear};
pub use seen::{Looks, Seen, watch};

/// Entries of the raft log that a member may be behind the foremost one.
const LAG_MAX: u64 = 100;

/// Share of its quota that a store may fill, in percent.
const FULL_MAX: i64 = 80;

/// What the agent of a control plane has brought of the member on its host.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its node.
    pub node: NodeName,
    /// What the member says; why there is nothing, in words.
    pub said: Result<Etcd, String>,
    /// What makes its host a control plane; why nobody knows, in words.
    pub control_plane: Result<ControlPlane, String>,
    /// The certificates on its host; why nobody knows them all, in words.
    pub certificates: Result<Certificates, String>,
    /// The addresses of its host; why nobody knows, in words.
    pub addresses: Result<Vec<String>, String>,
}

impl Heard {
    /// Whether its member says that it leads.
    pub fn leads(&self) -> bool {
        self.said.as_ref().is_ok_and(|said| said.leader == said.member_id)
    }
}

/// What tells the cluster of a control plane from any other.
///
/// # Errors
/// Which part of it nobody knows, in words.
pub fn identity(heard: &Heard) -> Result<ClusterIdentity, String> {
    let said = heard.said.as_ref().map_err(Clone::clone)?;
    let found = heard.control_plane.as_ref().map_err(Clone::clone)?;
    if found.authorities.is_empty() {
        return Err("it has no certificates of authorities".to_owned());
    }
    let authority = |one: &Authority| (one.name.clone(), one.sha256.clone());
    Ok(ClusterIdentity {
        etcd_cluster: hex(said.cluster_id),
        authorities: found.authorities.iter().map(authority).collect(),
    })
}

/// What the answers come to.
pub fn health(cluster: &ClusterName, heard: &[Heard]) -> EtcdResponse {
    let answers: Vec<(&NodeName, &Etcd)> =
        heard.iter().filter_map(|one| Some((&one.node, one.said.as_ref().ok()?))).collect();
    let mut problems = silent(heard.iter());
    let Some((_, first)) = answers.first() else {
        problems.push("no member has answered".to_owned());
        return EtcdResponse { cluster: cluster.to_string(), problems, ..Default::default() };
    };
    let mut members = first.members.clone();
    members.sort_by_key(|member| member.id);
    let speakers = speakers(&answers, &members, &mut problems);
    membership(&answers, &members, &mut problems);
    leadership(&answers, &mut problems);
    condition(&answers, &mut problems);
    let hash_revision = stores(&answers, &mut problems);

    let voters = members.iter().filter(|member| !member.learner).count();
    let well = members.iter().filter(|one| !one.learner && speakers.contains_key(&one.id)).count();
    let member = |member: EtcdMember| {
        let speaks = speakers.get(&member.id);
        let role = match speaks {
            None => "silent",
            Some(_) if member.learner => "learner",
            Some((_, said)) if said.leader == member.id => "leader",
            Some(_) => "follower",
        };
        let said = speaks.map(|(_, said)| *said);
        EtcdMemberStatus {
            id: hex(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            role: role.to_owned(),
            node: speaks.map(|(node, _)| node.to_string()).unwrap_or_default(),
            version: said.map(|said| said.version.clone()).unwrap_or_default(),
            db_bytes: said.map_or(0, |said| said.db_bytes),
            raft_index: said.map_or(0, |said| said.raft_index),
            hash: said.and_then(|said| said.hash).map_or(0, |hash| hash.hash),
        }
    };
    EtcdResponse {
        cluster: cluster.to_string(),
        cluster_id: hex(first.cluster_id),
        members: members.into_iter().map(member).collect(),
        voters: u32::try_from(voters).unwrap_or(u32::MAX),
        tolerance: u32::try_from(well.saturating_sub(voters / 2 + 1)).unwrap_or(u32::MAX),
        hash_revision,
        problems,
        raft_term: answers.iter().map(|(_, said)| said.raft_term).max().unwrap_or_default(),
    }
}

/// What ails these members, whoever else is one: for when another is away, or comes or goes.
pub fn ailments(heard: &[&Heard]) -> Vec<String> {
    let answers: Vec<(&NodeName, &Etcd)> =
        heard.iter().filter_map(|one| Some((&one.node, one.said.as_ref().ok()?))).collect();
    let mut ailments = silent(heard.iter().copied());
    leadership(&answers, &mut ailments);
    condition(&answers, &mut ailments);
    ailments
}

/// One line about it.
pub fn summary(health: &EtcdResponse) -> String {
    let EtcdResponse { voters, tolerance, members, problems, .. } = health;
    let leader = members.iter().find(|member| member.role == "leader");
    let leads = leader.map(|leader| format!(", {} leads", leader.node)).unwrap_or_default();
    let how = format!("{}, {tolerance} could be lost{leads}", voters_in_words(*voters));
    match problems.as_slice() {
        [] => format!("healthy: {how}"),
        [first] => format!("NOT healthy: {first}; {how}"),
        [first, more @ ..] => format!("NOT healthy: {first} (and {} more); {how}", more.len()),
    }
}

/// As in `3 voters`.
pub fn voters_in_words(voters: u32) -> String {
    if voters == 1 { "1 voter".to_owned() } else { format!("{voters} voters") }
}

/// Who does not speak, and why.
fn silent<'a>(heard: impl Iterator<Item = &'a Heard>) -> Vec<String> {
    let silent = heard.filter_map(|one| Some((&one.node, one.said.as_ref().err()?)));
    silent.map(|(node, why)| format!("{node}: {why}")).collect()
}

type Speakers<'a> = BTreeMap<u64, (&'a NodeName, &'a Etcd)>;

/// Who speaks for which member.
fn speakers<'a>(
    answers: &[(&'a NodeName, &'a Etcd)],
    members: &[EtcdMember],
    problems: &mut Vec<String>,
) -> Speakers<'a> {
    let mut speakers = Speakers::new();
    for (node, said) in answers {
        if let Some((other, _)) = speakers.insert(said.member_id, (node, said)) {
            let id = hex(said.member_id);
            problems.push(format!("{other} and {node} both speak for member {id}"));
        }
    }
    for member in members {
        let who = named(member);
        match (member.learner, speakers.contains_key(&member.id)) {
            (true, _) => problems.push(format!("{who} is a learner: it has no vote yet")),
            (false, false) if member.name.is_empty() => {
                problems.push(format!("{who} has never started"));
            }
            (false, false) => problems.push(format!("nobody speaks for {who}")),
            (false, true) => (),
        }
    }
    speakers
}

/// All are of one cluster, and know the same members.
fn membership(answers: &[(&NodeName, &Etcd)], members: &[EtcdMember], problems: &mut Vec<String>) {
    let known = |members: &[EtcdMember]| -> BTreeSet<(u64, Vec<String>, bool)> {
        members.iter().map(|one| (one.id, one.peer_urls.clone(), one.learner)).collect()
    };
    let Some((first, foremost)) = answers.first() else { return };
    for (node, said) in answers {
        if said.cluster_id != foremost.cluster_id {
            let (one, other) = (hex(said.cluster_id), hex(foremost.cluster_id));
            problems.push(format!("{node} is of cluster {one}, {first} of cluster {other}"));
        } else if known(&said.members) != known(members) {
            problems.push(format!("{node} knows other members than {first}"));
        }
    }
}

/// All know one leader, in one term.
fn leadership(answers: &[(&NodeName, &Etcd)], problems: &mut Vec<String>) {
    for (node, _) in answers.iter().filter(|(_, said)| said.leader == 0) {
        problems.push(format!("{node} knows no leader"));
    }
    let leaders: BTreeSet<(u64, u64)> =
        answers.iter().map(|(_, said)| (said.leader, said.raft_term)).collect();
    if leaders.len() > 1 {
        let each = answers
            .iter()
            .map(|(node, said)| format!("{node} {} in term {}", hex(said.leader), said.raft_term));
        let each = each.collect::<Vec<_>>().join(", ");
        problems.push(format!("members follow different leaders: {each}"));
    }
}

/// No member ails, and none is far behind.
fn condition(answers: &[(&NodeName, &Etcd)], problems: &mut Vec<String>) {
    let foremost = answers.iter().map(|(_, said)| said.raft_index).max().unwrap_or_default();
    let mut alarms = BTreeSet::new();
    for (node, said) in answers {
        problems.extend(said.errors.iter().map(|error| format!("{node}: {error}")));
        alarms.extend(said.alarms.iter().map(|alarm| (alarm.member_id, alarm.kind.as_str())));
        let behind = foremost.saturating_sub(said.raft_applied_index);
        if behind > LAG_MAX {
            problems.push(format!("{node} is {behind} entries behind"));
        }
        let (is, quota) = (said.db_bytes, said.db_quota_bytes);
        if quota > 0 && is / quota.div_euclid(100).max(1) >= FULL_MAX {
            problems.push(format!("{node}: the store has {is} bytes of {quota} that it may have"));
        }
    }
    for (member, kind) in alarms {
        problems.push(format!("alarm {kind} of member {}", hex(member)));
    }
}

/// The stores have the same content. Gives the revision at which they were compared, or 0.
fn stores(answers: &[(&NodeName, &Etcd)], problems: &mut Vec<String>) -> i64 {
    let hashes: Vec<_> =
        answers.iter().filter_map(|(node, said)| Some((*node, said.hash?))).collect();
    let Some((_, first)) = hashes.first() else { return 0 };
    let each = |seen: &dyn Fn(&(&NodeName, rehull_proto::v1::EtcdHash)) -> String| {
        hashes.iter().map(seen).collect::<Vec<_>>().join(", ")
    };
    if hashes.iter().any(|(_, hash)| hash.compact_revision != first.compact_revision) {
        let each = each(&|(node, hash)| format!("{node} at {}", hash.compact_revision));
        problems.push(format!("the stores were compacted between two looks, ask again: {each}"));
        return 0;
    }
    if hashes.iter().any(|(_, hash)| hash.hash != first.hash) {
        let each = each(&|(node, hash)| format!("{node} {:08x}", hash.hash));
        let revision = first.revision;
        problems.push(format!("the stores differ at revision {revision}: {each}"));
    }
    first.revision
}

fn named(member: &EtcdMember) -> String {
    format!("member {} ({})", hex(member.id), member.peer_urls.join(", "))
}

/// An id as etcdctl shows it.
pub fn hex(id: u64) -> String {
    format!("{id:x}")
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::{EtcdAlarm, EtcdHash};

    use super::*;
    use crate::effects::testing::member_heard;

    fn member(id: u64) -> EtcdMember {
        EtcdMember {
            id,
            name: format!("etcd{id}"),
            peer_urls: vec![format!("https://10.0.0.{id}:2380")],
            client_urls: Vec::new(),
            learner: false,
        }
    }

    /// Three members that are well; the second leads.
    fn three() -> Vec<Heard> {
        let said = |id| Etcd {
            cluster_id: 0xab,
            member_id: id,
            leader: 2,
            raft_term: 7,
            raft_index: 1_000,
            raft_applied_index: 1_000,
            members: vec![member(3), member(1), member(2)],
            hash: Some(EtcdHash { revision: 90, hash: 5, compact_revision: 40 }),
            ..Etcd::default()
        };
        (1..=3).map(|number| member_heard(number, Ok(said(number.into())))).collect()
    }

    fn of(heard: &[Heard]) -> EtcdResponse {
        health(&"prod".parse().unwrap(), heard)
    }

    /// What is wrong after a change of what the members say.
    fn wrong(change: impl FnOnce(&mut [Etcd; 3])) -> Vec<String> {
        let heard = three();
        let said: Vec<Etcd> = heard.iter().map(|one| one.said.clone().unwrap()).collect();
        let mut said: [Etcd; 3] = said.try_into().unwrap();
        change(&mut said);
        let changed = heard.into_iter().zip(said);
        of(&changed.map(|(one, said)| Heard { said: Ok(said), ..one }).collect::<Vec<_>>()).problems
    }

    #[test]
    fn three_that_agree_are_well_and_bear_the_loss_of_one() {
        let seen = of(&three());
        assert!(seen.problems.is_empty(), "{:?}", seen.problems);
        assert_eq!((seen.voters, seen.tolerance, seen.hash_revision), (3, 1, 90));
        let row = |one: &EtcdMemberStatus| [&one.id, &one.role, &one.node].map(String::clone);
        let rows: Vec<_> = seen.members.iter().map(row).collect();
        assert_eq!(rows, [["1", "follower", "m1"], ["2", "leader", "m2"], ["3", "follower", "m3"]]);
    }

    #[test]
    fn of_some_members_only_their_own_ailments_count() {
        let mut heard = three();
        heard[2].said = Err("away".to_owned());
        let of = |heard: &[Heard], count| ailments(&heard.iter().take(count).collect::<Vec<_>>());
        assert_eq!(of(&heard, 2), Vec::<String>::new(), "the third is not asked about");
        assert_eq!(of(&heard, 3), ["m3: away"]);
        heard[0].said.as_mut().unwrap().errors = vec!["no space".to_owned()];
        heard[1].said.as_mut().unwrap().leader = 0;
        let words = of(&heard, 2).join("; ");
        assert!(words.starts_with("m2 knows no leader; members follow different"), "{words}");
        assert!(words.ends_with("m1: no space"), "{words}");
    }

    #[test]
    fn one_line_says_what_matters() {
        assert_eq!(summary(&of(&three())), "healthy: 3 voters, 1 could be lost, m2 leads");
        let mut heard = three();
        heard[1].said = Err("away".to_owned());
        let words = "NOT healthy: m2: away (and 1 more); 3 voters, 0 could be lost";
        assert_eq!(summary(&of(&heard)), words);
    }

    #[test]
    fn who_is_silent_counts_as_lost() {
        let mut heard = three();
        heard[2].said = Err("KV/Range: no answer within 2 s".to_owned());
        let seen = of(&heard);
        assert_eq!((seen.voters, seen.tolerance), (3, 0));
        assert_eq!(
            seen.problems,
            [
                "m3: KV/Range: no answer within 2 s",
                "nobody speaks for member 3 (https://10.0.0.3:2380)"
            ]
        );
        heard[1].said = Err("away".to_owned());
        assert_eq!(of(&heard).tolerance, 0);
        let none = of(&[]);
        assert_eq!((none.voters, none.problems.len()), (0, 1));
    }

    #[test]
    fn each_ailment_has_its_words() {
        type Change<'a> = &'a dyn Fn(&mut [Etcd; 3]);
        let cases: [(&str, Change<'_>); 12] = [
            ("m2 is of cluster ac, m1 of cluster ab", &|said| said[1].cluster_id = 0xac),
            ("m3 knows other members than m1", &|said| said[2].members.truncate(2)),
            ("m3 knows other members than m1", &|said| {
                said[2].members[0].peer_urls = vec!["https://10.0.0.9:2380".to_owned()];
            }),
            ("m1 and m2 both speak for member 1", &|said| said[1].member_id = 1),
            ("m3 knows no leader", &|said| said[2].leader = 0),
            ("members follow different leaders: m1 2 in term 7, m2 2 in term 8", &|said| {
                said[1].raft_term = 8;
            }),
            ("m1 is 101 entries behind", &|said| said[0].raft_applied_index = 899),
            ("m1: the store has 80 bytes of 100", &|said| {
                (said[0].db_bytes, said[0].db_quota_bytes) = (80, 100);
            }),
            ("alarm NOSPACE of member 3", &|said| {
                said[0].alarms = vec![EtcdAlarm { member_id: 3, kind: "NOSPACE".to_owned() }];
            }),
            ("m2: etcdserver: no space", &|said| {
                said[1].errors = vec!["etcdserver: no space".to_owned()];
            }),
            ("the stores differ at revision 90: m1 00000005, m2 00000006", &|said| {
                said[1].hash.as_mut().unwrap().hash = 6;
            }),
            ("the stores were compacted between two looks", &|said| {
                said[1].hash.as_mut().unwrap().compact_revision = 41;
            }),
        ];
        for (words, change) in cases {
            let problems = wrong(change);
            assert!(problems.iter().any(|why| why.starts_with(words)), "{words}: {problems:?}");
        }
    }

    #[test]
    fn a_member_that_never_started_and_a_learner_are_told() {
        let fourth = EtcdMember { name: String::new(), ..member(4) };
        let problems =
            wrong(|said| said.iter_mut().for_each(|one| one.members.push(fourth.clone())));
        assert_eq!(problems, ["member 4 (https://10.0.0.4:2380) has never started"]);
        let fourth = EtcdMember { learner: true, ..member(4) };
        let problems =
            wrong(|said| said.iter_mut().for_each(|one| one.members.push(fourth.clone())));
        let words = "member 4 (https://10.0.0.4:2380) is a learner: it has no vote yet";
        assert_eq!(problems, [words]);
    }
}
