//! What is done so that a control plane can go: its backup, its leadership, what leads to its API
//! server, and that server itself.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rehull_proto::v1::{
    EtcdMember, MoveLeader, OrderDone, RemoveMember, StartApiServer, StopApiServer,
    order_done::Outcome, to_agent,
};
use rehull_shared::{ids::NodeName, text::hex};

use super::{
    Pass, Requests, Trouble, api,
    endpoints::{PLACES, Place},
    hosts::words,
};
use crate::{
    agents::Whom,
    backups::{self, SNAPSHOT},
    clients::Endpoint,
    domain::{
        command::{Report, Request},
        plan::ControlPlane,
        state::{BackupTaken, ClusterIdentity, Member},
    },
    etcd::{self, Heard},
    kubean,
};

/// How long a kubelet may take to end an API server: its own grace, and the requests that are open.
const STOP_S: u32 = 120;

/// How long an agent may take for an order that waits for a kubelet or for etcd.
const LONG_ORDER_MAX: Duration = Duration::from_secs(STOP_S as u64 + 20);

impl Pass<'_> {
    /// Looks what tells this cluster from any other; all control planes must say the same.
    pub(super) async fn identify(&self) -> Result<Requests, Trouble> {
        let what = "the identity of the cluster";
        let mut seen: Option<(NodeName, ClusterIdentity)> = None;
        for heard in self.control_planes().await {
            let node = heard.node.clone();
            let identity = etcd::identity(&heard)
                .map_err(|why| Trouble::new(what, format!("{node}: {why}")))?;
            match &seen {
                None => seen = Some((node, identity)),
                Some((_, first)) if *first == identity => (),
                Some((other, _)) => {
                    let why =
                        format!("{node} has other authorities, or another etcd, than {other}");
                    return Err(Trouble::new(what, why));
                }
            }
        }
        let (_, identity) =
            seen.ok_or_else(|| Trouble::new(what, "the plan has no control plane"))?;
        Ok(vec![Request::Report(Report::Identified { identity })])
    }

    /// Has another control plane than the one that goes send a backup. All of them have the same keys and
    /// the same store. What Kubean keeps of the cluster is put beside it.
    pub(super) async fn take_backup(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let what = format!("the backup before {node} goes");
        let Some(backups) = &self.context.backups else {
            let why = "backup is not set in the coordinator's config.yaml (deploy/backup.md)";
            return Err(Trouble::new(what, why));
        };
        let heard = self.control_planes().await;
        let from = sender(&heard, node).map_err(|why| Trouble::new(&what, why))?;
        let Some(from) = from else { return Ok(Requests::new()) };
        let management =
            self.context.clients.get(&self.migration.plan, Endpoint::Management).await?;
        let beside = kubean::texts(&management, &self.effect.cluster).await?;
        let whom = (self.effect.cluster.clone(), from.node.clone());
        let by = format!("migration {}", self.migration.id);
        let id = hex(&(self.context.draw)());
        let agents = &self.context.agents;
        let order = backups::order(backups, agents, self.fleet, &whom, (id, by), beside);
        let order = order.map_err(|why| Trouble::new(&what, why))?;
        let taken = order.outcome.await.map_err(|why| Trouble::new(&what, why))?;
        let snapshot = taken.manifest.files.iter().find(|file| file.path == SNAPSHOT);
        let snapshot = snapshot.ok_or_else(|| Trouble::new(&what, "it holds no snapshot"))?;
        let backup = BackupTaken {
            name: taken.name.clone(),
            snapshot_sha256: snapshot.sha256.clone(),
            snapshot_bytes: snapshot.bytes,
        };
        Ok(vec![Request::Report(Report::Backup { node: node.clone(), backup })])
    }

    /// Has the member of a node that leads etcd hand that on.
    pub(super) async fn move_leader(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let what = format!("the leadership of {node} in etcd");
        let heard = self.control_planes().await;
        let Some(own) = heard.iter().find(|one| one.node == *node) else {
            return Ok(Requests::new()); // its member is gone
        };
        if own.said.is_err() {
            return Err(Trouble::new(&what, "its member does not answer"));
        }
        if !own.leads() {
            return Ok(Requests::new());
        }
        let to = successor(&heard, node, |name| {
            self.migration.node(name).is_none_or(|other| other.track.phase.is_over())
        });
        let to = to.ok_or_else(|| Trouble::new(&what, "no other member answers"))?;
        let id = format!("{}/{node}/leader/{}", self.migration.id, self.now().as_millis());
        let order = to_agent::Order::MoveLeader(MoveLeader { id, to });
        let seen = self.carried_out(node, order, &what).await?;
        Ok(vec![Request::Report(Report::LeaderMoved { node: node.clone(), seen })])
    }

    /// Has what leads to the API server of a node lead to another one that is there: the one that is
    /// first in the inventory, as the playbooks would have it. Each object is changed as it was read,
    /// in that one field, or not at all.
    pub(super) async fn move_endpoints(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let client = self.workload().await?;
        let (mut requests, mut trouble) = (Requests::new(), None);
        for place in PLACES {
            match self.move_endpoint(node, &place, &client).await {
                Ok(request) => requests.extend(request),
                Err(why) => trouble = trouble.or(Some(why)),
            }
        }
        // What was done or is intended must be in the log; the trouble comes again.
        match trouble {
            Some(trouble) if requests.is_empty() => Err(trouble),
            _ => Ok(requests),
        }
    }

    /// The same of one object.
    async fn move_endpoint(
        &self,
        node: &NodeName,
        place: &Place,
        client: &Client,
    ) -> Result<Option<Request>, Trouble> {
        let what = place.to_string();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), place.namespace);
        let map = api::get(&maps, place.name).await.map_err(|failure| failure.with(&what))?;
        let Some(map) = map else { return Ok(None) };
        let Some(from) = place.leads_to(&map).map_err(|why| Trouble::new(&what, why))? else {
            return Ok(None);
        };
        if self.may_lead_to(Some(node), &from).is_ok() {
            return Ok(None);
        }
        let to = self.better_than(node).ok_or_else(|| {
            Trouble::new(&what, "no other control plane is there that it could lead to")
        })?;
        let edited = place.led_to(&map, &to).map_err(|why| Trouble::new(&what, why))?;
        let change = format!("what leads to {from} is to lead to {to}");
        if let Some(first) = self.intent_of_change(node, &what, &map, change) {
            return Ok(Some(first));
        }
        api::write_key(&maps, &map, place.key, &edited)
            .await
            .map_err(|failure| failure.with(&what))?;
        let node = node.clone();
        Ok(Some(Request::Report(Report::EndpointMoved { node, object: what, from, to })))
    }

    /// What must be in the log before an object is changed, unless it is there: that it is to be changed,
    /// from the revision that was read.
    pub(super) fn intent_of_change(
        &self,
        node: &NodeName,
        object: &str,
        map: &ConfigMap,
        change: String,
    ) -> Option<Request> {
        let revision = map.metadata.resource_version.clone().unwrap_or_default();
        let intended = self.migration.node(node)?.changing.get(object) == Some(&revision);
        let (node, object) = (node.clone(), object.to_owned());
        (!intended).then_some(Request::Report(Report::Changing { node, object, revision, change }))
    }

    /// Where clients are sent instead: to what stands before the API servers, else to the first
    /// control plane that stays.
    fn better_than(&self, node: &NodeName) -> Option<String> {
        let mut stays = self.migration.standing().filter(|one| one.name != *node);
        let first = stays.next()?;
        let (_, port) = first.api_server.rsplit_once(':')?;
        let host = self.migration.plan.endpoint.as_deref().unwrap_or(&first.address);
        Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    /// Has the agent take the API server of its host out of service, or put it back.
    pub(super) async fn switch_api_server(
        &self,
        node: &NodeName,
        on: bool,
    ) -> Result<Requests, Trouble> {
        let word = if on { "on" } else { "off" };
        let id =
            format!("{}/{node}/api-server-{word}/{}", self.migration.id, self.now().as_millis());
        let order = match on {
            true => to_agent::Order::StartApiServer(StartApiServer { id }),
            false => to_agent::Order::StopApiServer(StopApiServer { id, patience_seconds: STOP_S }),
        };
        let seen = self.carried_out(node, order, &format!("the API server of {node}")).await?;
        Ok(vec![Request::Report(Report::ApiServer { node: node.clone(), on, seen })])
    }

    /// Has a control plane that is there remove this very member. Whatever it answers, the rules look
    /// again.
    pub(super) async fn remove_member(
        &self,
        node: &NodeName,
        order: &str,
        member: &Member,
    ) -> Result<Requests, Trouble> {
        let what = format!("the member of etcd of {node}");
        let member_id = u64::from_str_radix(&member.id, 16)
            .map_err(|_| Trouble::new(&what, format!("{} is no id", member.id)))?;
        let heard = self.control_planes().await;
        let by = heard.iter().find(|one| one.node != *node && one.said.is_ok());
        let by = by.ok_or_else(|| Trouble::new(&what, "no other member of etcd answers"))?;
        let peer_url = member.peer_url.clone();
        let remove = RemoveMember { id: order.to_owned(), member_id, peer_url };
        let order_of = to_agent::Order::RemoveMember(remove);
        let (_, done) = self.order(&by.node, order_of, LONG_ORDER_MAX).await?;
        let seen = format!("{}: {}", by.node, words(&done));
        let (node, order) = (node.clone(), order.to_owned());
        Ok(vec![Request::Report(Report::MemberAnswered { node, order, seen })])
    }

    /// What the agents of all control planes say whose members of etcd are to be there; and of one whose
    /// removal is to be tried once more, unless its member is gone.
    pub(super) async fn control_planes(&self) -> Vec<Heard> {
        let again = self.migration.going_again();
        let asked = self.migration.standing().chain(again).map(|one| &one.name);
        let whom: Vec<Whom> = asked.map(|name| self.whom(name)).collect();
        let heard = etcd::hear(&self.context.agents, self.fleet, &whom, self.now()).await;
        match again {
            Some(again) => without_removed(heard, again),
            None => heard,
        }
    }

    /// The same, with the stores of their etcd compared.
    pub(super) async fn compared(&self, heard: Vec<Heard>) -> Vec<Heard> {
        let whom: Vec<Whom> = heard.iter().map(|one| self.whom(&one.node)).collect();
        etcd::compare(&self.context.agents, self.fleet, &whom, self.now(), heard).await
    }

    fn whom(&self, node: &NodeName) -> Whom {
        (self.effect.cluster.clone(), node.clone())
    }

    /// Gives an order, and takes nothing but its success for an answer.
    async fn carried_out(
        &self,
        node: &NodeName,
        order: to_agent::Order,
        what: &str,
    ) -> Result<String, Trouble> {
        let (_, done): (_, OrderDone) = self.order(node, order, LONG_ORDER_MAX).await?;
        match done.outcome() {
            Outcome::Done => Ok(done.seen),
            _ => Err(Trouble::new(what, words(&done))),
        }
    }

    /// Whether something may lead to a host while a node is away, or about to go; why not.
    pub(super) fn may_lead_to(&self, node: Option<&NodeName>, at: &str) -> Result<(), String> {
        let host = host_of(at);
        // On workers, a proxy of the host itself stands before all of them.
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if local || self.migration.plan.endpoint.as_deref() == Some(host.as_str()) {
            return Ok(());
        }
        let is = |one: &&ControlPlane| one.address == host || one.name.as_str() == host;
        match self.migration.plan.control_planes.iter().find(is) {
            Some(one) if Some(&one.name) == node => {
                Err(format!("{at} is {}, which goes", one.name))
            }
            Some(one) if self.migration.standing().all(|there| there.name != one.name) => {
                Err(format!("{at} is {}, which is away", one.name))
            }
            Some(_) => Ok(()),
            None => Err(format!(
                "{at} is no control plane of the inventory, and not spec.workload.endpoint"
            )),
        }
    }
}

/// Leaves a control plane out that does not speak, if nobody else knows a member at its address.
fn without_removed(mut heard: Vec<Heard>, removed: &ControlPlane) -> Vec<Heard> {
    if members_at(&heard, removed).iter().all(|(who, _)| **who == removed.name) {
        heard.retain(|one| one.node != removed.name || one.said.is_ok());
    }
    heard
}

/// The members at the address of a control plane, each as who knows it.
pub(super) fn members_at<'a>(
    heard: &'a [Heard],
    plane: &ControlPlane,
) -> Vec<(&'a NodeName, &'a EtcdMember)> {
    let said = heard.iter().filter_map(|one| Some((&one.node, one.said.as_ref().ok()?)));
    let all = said.flat_map(|(node, said)| said.members.iter().map(move |member| (node, member)));
    all.filter(|(_, member)| member.peer_urls.iter().any(|url| host_of(url) == plane.address))
        .collect()
}

/// Who is to send the backup before a node goes: one that does not lead etcd, if there is one. `None` as
/// long as the leadership is to be moved: to read a whole store makes a member slow, and what is proposed
/// until another one leads is lost.
fn sender<'a>(heard: &'a [Heard], node: &NodeName) -> Result<Option<&'a Heard>, &'static str> {
    if heard.iter().any(|one| one.node == *node && one.leads()) {
        return Ok(None);
    }
    let others = || heard.iter().filter(|one| one.node != *node && one.said.is_ok());
    let follows = |one: &&Heard| {
        one.said.as_ref().is_ok_and(|said| said.leader != 0 && said.leader != said.member_id)
    };
    let from = others().find(follows).or_else(|| others().next());
    from.map(Some).ok_or("no other member of etcd answers")
}

/// The member that is to lead after that of a node: one that need not hand it on again, because its host
/// stays, and of those the one that is furthest.
fn successor(heard: &[Heard], node: &NodeName, stays: impl Fn(&NodeName) -> bool) -> Option<u64> {
    let others = heard.iter().filter(|one| one.node != *node);
    let others = others.filter_map(|one| Some((&one.node, one.said.as_ref().ok()?)));
    let next = others.max_by_key(|(name, said)| (stays(name), said.raft_applied_index));
    next.map(|(_, said)| said.member_id)
}

/// The host of an address or a URL, without brackets of IPv6.
pub(crate) fn host_of(server: &str) -> String {
    let uri: Option<http::Uri> = server.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or(server);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::Etcd;

    use super::*;
    use crate::effects::testing::member_heard;

    fn heard(number: u8, applied: u64) -> Heard {
        let member_id = number.into();
        let said = Etcd { member_id, leader: 1, raft_applied_index: applied, ..Etcd::default() };
        member_heard(number, Ok(said))
    }

    #[test]
    fn who_stays_leads_and_of_those_the_furthest_that_answers() {
        let (first, three) = ("m1".parse().unwrap(), [heard(1, 99), heard(2, 7), heard(3, 5)]);
        let is = |name: &'static str| move |one: &NodeName| one.as_str() == name;
        assert_eq!(successor(&three, &first, |_| false), Some(2));
        assert_eq!(successor(&three, &first, |_| true), Some(2));
        assert_eq!(successor(&three, &first, is("m3")), Some(3));
        let mut silent = three;
        silent[2].said = Err("no answer".to_owned());
        assert_eq!(successor(&silent, &first, is("m3")), Some(2));
        assert_eq!(successor(&silent[..1], &first, |_| true), None);
        assert!(silent[0].leads() && !silent[1].leads() && !silent[2].leads());
    }

    #[test]
    fn a_backup_waits_for_the_leadership_to_move_and_comes_from_who_follows() {
        let sent_by = |heard: &[Heard], node: &str| {
            let from = sender(heard, &node.parse().unwrap());
            from.map(|from| from.map(|from| from.node.to_string()))
        };
        let mut three = [heard(1, 9), heard(2, 9), heard(3, 9)];
        assert_eq!(sent_by(&three, "m1"), Ok(None), "it leads");
        assert_eq!(sent_by(&three, "m2"), Ok(Some("m3".to_owned())));
        three[2].said = Err("no answer".to_owned());
        assert_eq!(
            sent_by(&three, "m2"),
            Ok(Some("m1".to_owned())),
            "the leader is better than none"
        );
        assert!(sent_by(&three[1..], "m2").is_err());
    }
}
