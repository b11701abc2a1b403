//! What the agents of control planes say together: of etcd, of their authorities, and of whom their
//! API servers ask.

use std::{collections::BTreeSet, net::IpAddr};

use rehull_proto::v1::EtcdResponse;
use rehull_shared::{
    evidence::{Check, Source, Verdict, Witness},
    ids::NodeName,
    time::Timestamp,
};

use super::{
    super::{
        Pass,
        api::few,
        control_planes::{host_of, members_at},
    },
    Answers, checks,
    fitness::ending,
};
use crate::{
    domain::{
        command::{Report, Request},
        gate::Gate,
        plan::ControlPlane,
        state::{ClusterIdentity, Member, Node, Phase, Subject},
    },
    etcd::{self, Heard, hex},
};

/// What was heard of all control planes that are to be there, in one look.
struct Looked<'a> {
    heard: &'a [Heard],
    health: EtcdResponse,
    comparison: Comparison,
    /// Who is to be there.
    standing: Vec<&'a ControlPlane>,
    /// Who may be there beside them: its removal is to be tried once more.
    again: Option<&'a ControlPlane>,
    /// Them, and those that are away.
    planned: &'a [ControlPlane],
    recorded: Option<&'a ClusterIdentity>,
    /// Whether it has elected no leader for a while.
    leader_steady: Verdict,
    /// Until when certificates must be valid.
    certificates_to: Timestamp,
    /// What stands before the API servers, and its addresses; why nobody knows them, in words.
    endpoint: Option<(&'a str, Result<Vec<IpAddr>, String>)>,
}

/// Whether the stores of etcd are compared, for which every member must read all of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Now,
    /// They must be, but the leadership is to be handed on before.
    Later,
    /// Another look has compared them, or will.
    Left,
}

impl Pass<'_> {
    /// Asks them once for all checks of a gate; at a removal, a member that was left is reported, too.
    pub(super) async fn ask_control_planes(
        &self,
        subject: &Subject,
        gate: Gate,
        node: Option<&Node>,
    ) -> (Answers, Option<Request>) {
        let bench = self.migration.bench(subject);
        let wanted: BTreeSet<Check> = checks(&bench, gate, Witness::ControlPlanes).collect();
        if wanted.is_empty() {
            return (Answers::new(), None);
        }
        let now = self.now();
        let target = node.and_then(|node| self.migration.plan.control_plane(&node.planned.name));
        let mut heard = self.control_planes().await;
        let of_stores = wanted.contains(&Check::EtcdHealthy) && !self.found_equal(subject);
        let comparison = comparison(gate, target, &heard, of_stores);
        if comparison == Comparison::Now {
            heard = self.compared(heard).await;
        }
        let health = etcd::health(&self.effect.cluster, &heard);
        let (cluster, quiet) = (&self.effect.cluster, self.migration.plan.policy.etcd_quiet);
        let leader_steady = self.context.etcd.steady(cluster, health.raft_term, now, quiet);
        let standing = self.migration.standing().collect();
        let recorded = self.migration.identity.as_ref();
        let endpoint = match &self.migration.plan.endpoint {
            Some(host) if wanted.contains(&Check::EndpointNotHere) => {
                Some((host.as_str(), resolved(host).await))
            }
            _ => None,
        };
        let planned = &self.migration.plan.control_planes;
        let heard = heard.as_slice();
        let looked = Looked {
            heard,
            health,
            comparison,
            standing,
            again: self.migration.going_again(),
            planned,
            recorded,
            leader_steady,
            certificates_to: now + self.migration.plan.policy.certificate_horizon,
            endpoint,
        };
        let answer = |check| {
            let verdict = looked.judge(check, target);
            ((check, Source::ControlPlanes), (now, verdict))
        };
        let left = match (gate, target) {
            (Gate::Removal, Some(target)) => looked.left(target),
            _ => None,
        };
        (wanted.into_iter().map(answer).collect(), left)
    }

    /// Whether this round has compared the stores.
    fn found_equal(&self, subject: &Subject) -> bool {
        let Some(Phase::Asking { dossier, .. }) =
            self.migration.track(subject).map(|track| &track.phase)
        else {
            return false;
        };
        dossier.passes(Check::EtcdHealthy, &Source::ControlPlanes)
    }
}

/// Whether the stores are to be compared now: once a round where a gate asks for it, and in no moment in
/// which that would cost clients their requests.
fn comparison(
    gate: Gate,
    target: Option<&ControlPlane>,
    heard: &[Heard],
    wanted: bool,
) -> Comparison {
    let goes = |one: &Heard| target.is_some_and(|target| target.name == one.node);
    match gate {
        _ if !wanted => Comparison::Left,
        // Quorum has compared them, G4 does it again, and in between an API server ends.
        Gate::Withdraw => Comparison::Left,
        // G5 has compared them, and G8 does it again.
        Gate::Reinstall => Comparison::Left,
        Gate::Quorum if heard.iter().any(|one| goes(one) && one.leads()) => Comparison::Later,
        _ => Comparison::Now,
    }
}

impl Looked<'_> {
    fn judge(&self, check: Check, target: Option<&ControlPlane>) -> Verdict {
        let aimed = || target.ok_or_else(|| Verdict::unknown("it is asked of no control plane"));
        let verdict = match check {
            Check::EtcdHealthy => Ok(self.healthy()),
            Check::QuorumKept => Ok(self.quorum_kept()),
            Check::LeaderSteady => Ok(self.silent().unwrap_or_else(|| self.leader_steady.clone())),
            Check::IdentityKept => Ok(self.identity_kept()),
            Check::EtcdServersRight => Ok(self.etcd_servers()),
            Check::ControlPlaneCertificatesValid => Ok(self.certificates_valid()),
            Check::LeaderElsewhere => aimed().map(|target| self.leader_elsewhere(target)),
            Check::EndpointNotHere => aimed().map(|target| self.endpoint_not_here(target)),
            Check::EtcdJoinsOnly => aimed().map(|target| self.joins_only(target)),
            Check::MemberAbsent => aimed().map(|target| self.member_absent(target)),
            other => Err(Verdict::unknown(format!("control planes cannot answer {other}"))),
        };
        verdict.unwrap_or_else(|unknown| unknown)
    }

    /// Who says nothing, and why.
    fn silent(&self) -> Option<Verdict> {
        let silent = self.heard.iter().filter_map(|one| {
            let why = one.said.as_ref().err()?;
            Some(format!("{}: {why}", one.node))
        });
        let silent: Vec<String> = silent.collect();
        let nobody = self.heard.is_empty().then(|| "the plan has no control plane".to_owned());
        let silent: Vec<String> = silent.into_iter().chain(nobody).collect();
        (!silent.is_empty()).then(|| Verdict::unknown(few(silent)))
    }

    fn healthy(&self) -> Verdict {
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        let mut problems = self.health.problems.clone();
        let members: BTreeSet<String> = self
            .health
            .members
            .iter()
            .flat_map(|one| &one.peer_urls)
            .map(|url| host_of(url))
            .collect();
        let expected: BTreeSet<String> =
            self.standing.iter().map(|one| one.address.clone()).collect();
        problems.extend(
            expected.difference(&members).map(|address| format!("no member has address {address}")),
        );
        let again = self.again.map(|one| &one.address);
        problems.extend(
            members
                .difference(&expected)
                .filter(|address| Some(*address) != again)
                .map(|address| format!("a member has address {address}, where none is to be")),
        );
        match (problems.is_empty(), self.comparison) {
            (false, _) => Verdict::fail(few(problems)),
            (true, Comparison::Later) => {
                Verdict::unknown("the stores are compared when the leadership is handed on")
            }
            (true, _) => Verdict::pass(etcd::summary(&self.health)),
        }
    }

    fn quorum_kept(&self) -> Verdict {
        let EtcdResponse { voters, tolerance, problems, .. } = &self.health;
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        let voters = etcd::voters_in_words(*voters);
        // Who has no vote any more takes none away.
        if let Some(gone) = self.again.filter(|one| members_at(self.heard, one).is_empty()) {
            let words = format!("{voters}, and {} is none of them any more", gone.name);
            return Verdict::when(problems.is_empty(), words);
        }
        let words = format!("{voters}, {tolerance} could be lost");
        Verdict::when(*tolerance >= 1 && problems.is_empty(), words)
    }

    fn leader_elsewhere(&self, target: &ControlPlane) -> Verdict {
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        let leader = self.health.members.iter().find(|member| member.role == "leader");
        match leader {
            None => Verdict::fail("no member leads"),
            Some(leader) if leader.peer_urls.iter().any(|url| host_of(url) == target.address) => {
                Verdict::fail(format!("{} leads etcd (member {})", target.name, leader.id))
            }
            Some(leader) => Verdict::pass(format!("{} leads (member {})", leader.node, leader.id)),
        }
    }

    /// An address that moves between the hosts must have left this one before its API server goes:
    /// whoever moves it may notice that late, or not at all.
    fn endpoint_not_here(&self, target: &ControlPlane) -> Verdict {
        let Some((host, addresses)) = &self.endpoint else {
            return Verdict::pass("spec.workload.endpoint is not given");
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(why) => return Verdict::unknown(format!("{host}: {why}")),
        };
        let carries = |one: &Heard| -> Result<bool, String> {
            let own = one.addresses.as_ref().map_err(|why| format!("{}: {why}", one.node))?;
            let mut own = own.iter().filter_map(|own| own.parse().ok());
            Ok(own.any(|own| addresses.contains(&own)))
        };
        let Some(own) = self.heard.iter().find(|one| one.node == target.name) else {
            return Verdict::unknown(format!("{} was not asked", target.name));
        };
        match carries(own) {
            Err(why) => Verdict::unknown(why),
            Ok(true) => Verdict::fail(format!("{host} is on {}, which goes", target.name)),
            Ok(false) => {
                let there = self.heard.iter().find(|one| carries(one) == Ok(true));
                let there = there.map_or("no control plane", |one| one.node.as_str());
                Verdict::pass(format!("{host} is on {there}"))
            }
        }
    }

    /// Etcd that was started to make a new cluster would make one of its own as soon as its data is lost.
    fn joins_only(&self, target: &ControlPlane) -> Verdict {
        let Some(own) = self.heard.iter().find(|one| one.node == target.name) else {
            return Verdict::unknown(format!("{} was not asked", target.name));
        };
        let state = match &own.control_plane {
            Ok(found) => found.etcd_initial_state.as_str(),
            Err(why) => return Verdict::unknown(format!("{}: {why}", own.node)),
        };
        match state {
            "" => Verdict::unknown(format!("the agent of {} knows of no etcd that runs", own.node)),
            state => {
                Verdict::when(state == "existing", format!("its initial cluster state is {state}"))
            }
        }
    }

    fn member_absent(&self, target: &ControlPlane) -> Verdict {
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        let left = members_at(self.heard, target);
        let left = left.iter().map(|(node, member)| {
            format!("{node} knows member {} ({})", hex(member.id), member.peer_urls.join(", "))
        });
        let left: Vec<String> = left.collect();
        match left.is_empty() {
            true => Verdict::pass(format!(
                "{} members, none of them at {}",
                self.health.members.len(),
                target.address
            )),
            false => Verdict::fail(few(left)),
        }
    }

    /// The one member at this address, as all who are there know it.
    fn left(&self, target: &ControlPlane) -> Option<Request> {
        let of = members_at(self.heard, target);
        let ids: BTreeSet<u64> = of.iter().map(|(_, member)| member.id).collect();
        let ids = Vec::from_iter(ids);
        let ([id], Some((_, member))) = (ids.as_slice(), of.first()) else {
            return None; // several: a person must look
        };
        let member = Member { id: hex(*id), peer_url: member.peer_urls.first()?.clone() };
        Some(Request::Report(Report::MemberLeft { node: target.name.clone(), member }))
    }

    fn identity_kept(&self) -> Verdict {
        let Some(recorded) = self.recorded else {
            return Verdict::unknown("what tells this cluster from any other is not recorded");
        };
        let mut other = Vec::new();
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        for heard in self.heard {
            match etcd::identity(heard) {
                Err(why) => return Verdict::unknown(format!("{}: {why}", heard.node)),
                Ok(found) => other.extend(differences(&heard.node, recorded, &found)),
            }
        }
        match other.is_empty() {
            true => Verdict::pass(format!(
                "{} control planes have the {} recorded authorities, and etcd {}",
                self.heard.len(),
                recorded.authorities.len(),
                recorded.etcd_cluster
            )),
            false => Verdict::fail(few(other)),
        }
    }

    /// Nobody renews the certificates of those that stay while one is away, and etcd bears no loss.
    fn certificates_valid(&self) -> Verdict {
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        let mut soon = Vec::new();
        for heard in self.heard {
            match &heard.certificates {
                Ok(found) => soon.extend(
                    ending(found, self.certificates_to)
                        .map(|words| format!("{}: {words}", heard.node)),
                ),
                Err(why) => return Verdict::unknown(format!("{}: {why}", heard.node)),
            }
        }
        match soon.is_empty() {
            true => Verdict::pass(format!(
                "those of {} control planes are valid until {} or longer",
                self.heard.len(),
                self.certificates_to
            )),
            false => Verdict::fail(few(soon)),
        }
    }

    /// Under kubeadm each API server asks the member of its own host; as services of hosts, all. A
    /// member that is away may still be among them: kubespray writes them anew where it deploys, not
    /// where it removes, and a client of etcd passes over who does not answer (F55).
    fn etcd_servers(&self) -> Verdict {
        let address = |one: &ControlPlane| one.address.clone();
        let there: BTreeSet<String> = self.standing.iter().map(|&one| address(one)).collect();
        let known: BTreeSet<String> = self.planned.iter().map(address).collect();
        let mut wrong = Vec::new();
        if let Some(unknown) = self.silent() {
            return unknown;
        }
        for heard in self.heard {
            let node = &heard.node;
            let found = match &heard.control_plane {
                Ok(found) => found,
                Err(why) => return Verdict::unknown(format!("{node}: {why}")),
            };
            // Its members would stay behind, and no backup has them.
            if !found.etcd_servers_overrides.is_empty() {
                wrong.push(format!(
                    "the API server of {node} keeps a part in another etcd, which is not migrated: \
                     --etcd-servers-overrides={}",
                    found.etcd_servers_overrides
                ));
            }
            let hosts: BTreeSet<String> =
                found.etcd_servers.iter().map(|url| host_of(url)).collect();
            let own = |host: &String| {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            };
            let members = there.is_subset(&hosts) && hosts.is_subset(&known);
            if hosts.is_empty() {
                wrong.push(format!("no API server runs on {node}"));
            } else if !(members || hosts.iter().all(own)) {
                let hosts = Vec::from_iter(hosts).join(", ");
                wrong.push(format!("the API server of {node} asks etcd at {hosts}"));
            }
        }
        match wrong.is_empty() {
            true => Verdict::pass(format!(
                "{} API servers ask members that are there",
                self.heard.len()
            )),
            false => Verdict::fail(few(wrong)),
        }
    }
}

/// The addresses of a host, as this machine knows them.
async fn resolved(host: &str) -> Result<Vec<IpAddr>, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((host, 0)).await;
    let found: Vec<IpAddr> = found.map_err(|why| why.to_string())?.map(|at| at.ip()).collect();
    if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) }
}

/// What is other than recorded.
fn differences(
    node: &NodeName,
    recorded: &ClusterIdentity,
    found: &ClusterIdentity,
) -> Vec<String> {
    let mut other = Vec::new();
    if found.etcd_cluster != recorded.etcd_cluster {
        let (is, was) = (&found.etcd_cluster, &recorded.etcd_cluster);
        other.push(format!("{node} is of etcd {is}, recorded was {was}"));
    }
    let names: BTreeSet<&String> =
        recorded.authorities.keys().chain(found.authorities.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| recorded.authorities.get(*name) != found.authorities.get(*name));
    other.extend(changed.map(|name| format!("{name} of {node} is not the one that was recorded")));
    other
}

#[cfg(test)]
mod tests;
