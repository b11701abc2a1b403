//! Collects answers for an open round: every witness of every need is asked, and every need gets
//! an answer from every witness, be it that nobody can say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use rehull_proto::v1::to_agent;
use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict, Witness},
    ids::{NodeName, Round},
    time::Timestamp,
};

use super::{Pass, Requests, Trouble, join_canary::Canary, snapshots::Objects};
use crate::{
    agents::Answer,
    clients::Endpoint,
    domain::{
        command::{Report, Request},
        gate::{Bench, Gate},
        state::{Node, Phase, Process, Subject},
    },
};

mod accepted;
mod all_hosts;
mod capacity;
mod cluster;
mod control_planes;
mod endpoints;
mod fitness;
pub(super) mod host;
mod join_canary;
mod joined;
mod management;
mod node;
mod records;
mod server;

use host::Heard;
pub(super) use host::Look;
use server::Server;

/// How long an agent may take to look at its host: its own goal is 50 ms.
const REPORT_MAX: Duration = Duration::from_secs(10);

/// Bytes of names and paths of processes in one report of leftovers: an event must stay small. What
/// does not fit is left to a retry.
const LEFTOVERS_BYTES_MAX: usize = 4_000;

/// What is said of a join canary where none is planned.
const NO_CANARY: &str = "no join canary is planned";

/// A gate that is asked, and who judges it.
type Asking<'a> = (&'a Bench<'a>, Gate);

/// What one witness answered, and when it was asked.
type Answers = BTreeMap<(Check, Source), (Timestamp, Verdict)>;

impl Pass<'_> {
    /// Asks everybody once, the witnesses of one kind side by side.
    pub(super) async fn collect(
        &self,
        subject: &Subject,
        gate: Gate,
        round: Round,
    ) -> Result<Requests, Trouble> {
        let bench = self.migration.bench(subject);
        let node = bench.node.and_then(|name| self.migration.node(name));
        let wants = |witness| bench.needs(gate).any(|need| need.witness == witness);
        let heard = match node {
            Some(node) if wants(Witness::Agent) => {
                Some(self.hear(&node.planned.name, round, Look::Gate(gate)).await)
            }
            _ => None,
        };
        let servers = join_all(
            bench
                .api_servers()
                .filter(|_| wants(Witness::ApiServers))
                .map(|address| self.ask_server(address, node, (&bench, gate), heard.as_ref())),
        );
        let (servers, management, (planes, member), own) = futures::join!(
            servers,
            self.ask_management(subject, (&bench, gate)),
            self.ask_control_planes(subject, gate, node),
            self.ask_own_server(&bench, gate),
        );
        let mut answers: Answers = servers.into_iter().flatten().chain(management).collect();
        answers.extend(planes.into_iter().chain(own));
        answers.extend(self.ask_records(node, (&bench, gate), round).await);
        if let (Some(node), Some(heard)) = (node, &heard) {
            answers.extend(self.ask_host(node, (&bench, gate), heard));
        }
        let generation = heard.as_ref().and_then(|heard| heard.as_ref().ok());
        let generation = generation.map(|heard| heard.generation);
        let mut requests = Requests::new();
        for need in bench.needs(gate) {
            for source in bench.witnesses(need) {
                let key = (need.check, source);
                // Nothing that was asked for is without an answer; if it were, silence blocks.
                let Some((observed_at, verdict)) = answers.remove(&key) else { continue };
                let (check, source) = key;
                let generation = generation.filter(|_| need.witness == Witness::Agent);
                let evidence = Evidence { round, check, source, verdict, observed_at, generation };
                requests.push(Request::Submit { subject: subject.clone(), evidence });
            }
        }
        if let (Gate::Removal, Some(node), Some(Ok(heard))) = (gate, node, &heard) {
            requests.extend(leftovers(&node.planned.name, heard));
        }
        requests.extend(member);
        Ok(requests)
    }

    /// Has the agent look at its host. `Err` is `Unknown`, and when nobody answered.
    pub(super) async fn hear(
        &self,
        name: &NodeName,
        round: Round,
        what: Look,
    ) -> Result<Heard, (Timestamp, Verdict)> {
        let asked_at = self.now();
        let whom = (self.effect.cluster.clone(), name.clone());
        let unknown = |why: String| (asked_at, Verdict::unknown(why));
        let Some(generation) = self.fleet.agent_of(&whom.0, name) else {
            let revoked = self.fleet.hosts.get(&whom).is_some_and(|host| host.revoked);
            return Err(unknown(match revoked {
                true => format!("the agent of {name} was revoked, and none has enrolled since"),
                false => format!("no agent has ever enrolled as {name}"),
            }));
        };
        let migration = self.migration.id;
        let (word, asked) = (what.word(), asked_at.as_millis());
        let nonce = format!("{migration}/{name}/{round}/{word}/{asked}");
        let collect = host::question(&self.migration.plan, what, nonce);
        let order = self.to_agent(generation, to_agent::Order::Collect(collect));
        match self.context.agents.ask(&whom, order, REPORT_MAX).await {
            Ok(Answer::Report(report)) => {
                Ok(Heard { report: *report, generation, asked_at, heard_at: self.now() })
            }
            Ok(Answer::Done(done)) => Err(unknown(format!("{name}: {}", done.seen))),
            Err(silence) => Err(unknown(format!("{name}: {silence}"))),
        }
    }

    fn ask_host(
        &self,
        node: &Node,
        (bench, gate): Asking<'_>,
        heard: &Result<Heard, (Timestamp, Verdict)>,
    ) -> Answers {
        let expected = host::Expected {
            plan: &self.migration.plan,
            planned: &node.planned,
            snapshot: node.snapshot.as_ref(),
            farewell: node.farewell,
            hosts: &self.fleet.hosts,
        };
        let source = || Source::Agent(node.planned.name.clone());
        checks(bench, gate, Witness::Agent)
            .map(|check| {
                let answer = match heard {
                    Ok(heard) => {
                        let verdict = host::appraise(check, heard, &expected);
                        (heard.asked_at, verdict.unwrap_or_else(|unknown| unknown))
                    }
                    Err(unknown) => unknown.clone(),
                };
                ((check, source()), answer)
            })
            .collect()
    }

    async fn ask_records(
        &self,
        node: Option<&Node>,
        (bench, gate): Asking<'_>,
        round: Round,
    ) -> Answers {
        let kept =
            records::Kept { blobs: &self.context.blobs, backups: self.context.backups.as_ref() };
        let subject = Subject::of(node.map(|node| &node.planned.name));
        let mut answers = Answers::new();
        for check in checks(bench, gate, Witness::Coordinator) {
            let now = self.now();
            let verdict = match check {
                Check::ImageManagesSystems => self.image_manages_systems(),
                Check::MembersDistinct => self.members_distinct(),
                Check::BackupProved => self.backup_proved(&subject),
                Check::FirstControlPlaneApproved => self.first_approved(node),
                Check::ApiServersSteady => self.context.readiness.steady(self.migration, now),
                // Many hosts are asked for them: not at every look.
                Check::OldRepositoriesServe | Check::ProxiesLeadToAll
                    if self.is_fresh(&subject, check, now) =>
                {
                    continue;
                }
                Check::OldRepositoriesServe => self.old_repositories(round).await,
                Check::ProxiesLeadToAll => self.proxies_lead_to_all(round).await,
                check => records::appraise(check, self.migration, node, kept, now),
            };
            answers.insert((check, Source::Coordinator), (now, verdict));
        }
        answers
    }

    async fn ask_management(&self, subject: &Subject, (bench, gate): Asking<'_>) -> Answers {
        let mut answers = Answers::new();
        for check in checks(bench, gate, Witness::Management) {
            let now = self.now();
            let verdict = self.management(subject, check).await;
            answers.insert((check, Source::Management), (now, verdict));
        }
        answers
    }

    async fn ask_server(
        &self,
        address: &str,
        node: Option<&Node>,
        (bench, gate): Asking<'_>,
        heard: Option<&Result<Heard, (Timestamp, Verdict)>>,
    ) -> Answers {
        let now = self.now();
        let source = Source::ApiServer(address.to_owned());
        let endpoint = Endpoint::ApiServer(address.to_owned());
        let client = self.context.clients.get(&self.migration.plan, endpoint).await;
        let server = Server::new(client);
        let host = heard.and_then(|heard| heard.as_ref().ok());
        let mut answers = Answers::new();
        for check in checks(bench, gate, Witness::ApiServers) {
            let verdict = match node.filter(|_| !is_about_cluster(check)) {
                None => self.look_at_cluster(check, &server, node, now).await,
                Some(node) => self.look_at_node(check, &server, node, now, &source, host).await,
            };
            let verdict = verdict.unwrap_or_else(|unknown| unknown);
            answers.insert((check, source.clone()), (now, verdict));
        }
        answers
    }

    /// A check of the cluster; for some of them it matters which node is about to go.
    async fn look_at_cluster(
        &self,
        check: Check,
        server: &Server,
        node: Option<&Node>,
        now: Timestamp,
    ) -> Result<Verdict, Verdict> {
        let migration = self.migration;
        let name = || match node {
            Some(node) => Ok(&node.planned.name),
            None => Err(Verdict::unknown(format!("{check} is asked about no node"))),
        };
        Ok(match check {
            Check::EndpointsElsewhere => self.endpoints_elsewhere(server, node).await?,
            Check::ApiServersListed => self.servers_listed(server).await?,
            Check::NodesReady => cluster::nodes_ready(server.nodes().await?, migration),
            Check::AnswersFresh => {
                let (nodes, leases) = (server.nodes().await?, server.leases().await?);
                cluster::answers_fresh(nodes, leases, migration, now)
            }
            Check::KubeletVersionsEqual => {
                cluster::kubelet_versions(server.nodes().await?, migration)
            }
            Check::NodesOnTarget => cluster::nodes_on_target(server.nodes().await?, migration),
            Check::OtherControlPlanesDone => {
                cluster::others_done(server.nodes().await?, name()?, migration)
            }
            Check::OthersSchedulable => {
                let before = self.objects(node)?.cordoned;
                cluster::others_schedulable(server.nodes().await?, name()?, &before)
            }
            Check::SystemPodsReady => {
                cluster::system_pods(server.daemon_sets().await?, server.deployments().await?)
            }
            Check::NoNewPending => {
                let baseline = self.objects(node)?.pending;
                cluster::no_new_pending(server.pending().await?, &baseline, now)
            }
            Check::JoinCanaryPossible => {
                let first = migration.nodes.first().map(|node| &node.planned.name);
                match first.and_then(|name| Canary::of(migration, name)) {
                    Some(canary) => join_canary::possible(server, &canary).await?,
                    None => Verdict::pass(NO_CANARY),
                }
            }
            Check::CapacityElsewhere | Check::DisruptionsAllowed | Check::DataElsewhere => {
                self.preflight(check, server, name()?).await?
            }
            other => Verdict::unknown(format!("no API server can answer {other} of a cluster")),
        })
    }

    /// A check of one node.
    async fn look_at_node(
        &self,
        check: Check,
        server: &Server,
        node: &Node,
        now: Timestamp,
        source: &Source,
        host: Option<&Heard>,
    ) -> Result<Verdict, Verdict> {
        let (plan, planned) = (&self.migration.plan, &node.planned);
        let name = &planned.name;
        let recorded = || {
            let snapshot = node.snapshot.as_ref();
            snapshot.ok_or_else(|| Verdict::unknown(format!("what {name} was is not recorded")))
        };
        match check {
            Check::NodeAbsent => return Ok(node::absent(server.node(name).await?, name)),
            Check::LeaseStopped => {
                let (lease, window) = (server.lease(name).await?, plan.policy.lease_window);
                let last = last_pass(node, check, source);
                return Ok(node::lease_stopped(lease, name.as_str(), window, now, last));
            }
            Check::ApiServerLeaseStopped => {
                let (leases, window) =
                    (server.api_server_leases().await?, plan.policy.lease_window);
                let last = last_pass(node, check, source);
                return Ok(endpoints::leases_stopped(leases, name, window, now, last));
            }
            Check::NodeDrained => {
                let open = |pod: &Pod| self.objection(name, pod);
                return Ok(node::drained(server.pods(name).await?, open));
            }
            Check::ControlPlanePodsReady => {
                return Ok(endpoints::pods_ready(server.pods(name).await?, name));
            }
            Check::InfoSigned => {
                return Ok(self.info_signed(name, &self.cluster_info(server).await?));
            }
            Check::NoPodsBound => return Ok(node::no_pods(server.pods(name).await?, name)),
            Check::VolumesDetached => {
                return Ok(node::volumes_detached(server.attachments().await?, name));
            }
            Check::JoinCanaryRemoved => {
                return match Canary::of(self.migration, name) {
                    Some(canary) => join_canary::removed(server, &canary, name).await,
                    None => Ok(Verdict::pass(NO_CANARY)),
                };
            }
            Check::NoPendingRequests => {
                return Ok(joined::no_requests(server.requests().await?, name));
            }
            _ => (),
        }
        let object = match node::present(server.node(name).await?, name) {
            Ok(object) => object,
            Err(absent) => return Ok(absent),
        };
        Ok(match check {
            Check::NodeCordoned => node::cordoned(object, name, &recorded()?.node_uid),
            Check::NodeNew => joined::is_new(object, name, &recorded()?.node_uid),
            Check::NodeHeldBack => joined::held_back(object, name),
            Check::NodeReady => joined::ready(object, name),
            Check::NodeOsIsTarget => joined::shows_os(object, name, plan.target.profile().os_image),
            Check::KubeletVersionKept => {
                joined::version_kept(object, name, &plan.kubernetes_version)
            }
            Check::NodeAddressKept => joined::address_kept(object, name, &planned.address),
            Check::NodeIsHost => match host {
                Some(heard) => {
                    let host = host::identity(&heard.report, &["boot_id", "machine_id"])?;
                    joined::is_host(object, name, host)
                }
                None => Verdict::unknown("the agent does not say which machine it runs on"),
            },
            Check::DaemonPodsReady => {
                let before = self.objects(Some(node))?.daemon_sets;
                let (sets, pods) = (server.daemon_sets().await?, server.pods(name).await?);
                joined::daemon_pods(object, sets, pods, &before)
            }
            Check::NoNewFailures => {
                let before = self.objects(Some(node))?.failing;
                joined::no_failures(server.pods(name).await?, &before)
            }
            Check::JoinCanaryServes => match Canary::of(self.migration, name) {
                Some(canary) => {
                    let seen = join_canary::serves(server, &canary, object).await?;
                    self.canary_verdict(name, object, seen)
                }
                None => Verdict::pass(NO_CANARY),
            },
            Check::MetadataRestored => {
                joined::restored(object, name, &self.objects(Some(node))?.node)
            }
            Check::SchedulableAsBefore => {
                joined::schedulable(object, name, recorded()?.unschedulable)
            }
            other => Verdict::unknown(format!("no API server can answer {other} of a node")),
        })
    }

    /// What was recorded of a node before it was touched.
    fn objects(&self, node: Option<&Node>) -> Result<Objects, Verdict> {
        let snapshot = node.and_then(|node| node.snapshot.as_ref());
        let Some(snapshot) = snapshot else {
            return Err(Verdict::unknown("what was there before is not recorded"));
        };
        Objects::load(&self.context.blobs, &snapshot.objects_sha256)
            .map_err(|trouble| Verdict::unknown(trouble.to_string()))
    }
}

/// The checks that a kind of witness must answer, each once.
fn checks(bench: &Bench<'_>, gate: Gate, witness: Witness) -> impl Iterator<Item = Check> + use<> {
    let of_kind = bench.needs(gate).filter(move |need| need.witness == witness);
    of_kind.map(|need| need.check).collect::<BTreeSet<_>>().into_iter()
}

fn is_about_cluster(check: Check) -> bool {
    use Check::{
        AnswersFresh, ApiServersListed, CapacityElsewhere, DataElsewhere, DisruptionsAllowed,
        EndpointsElsewhere, JoinCanaryPossible, KubeletVersionsEqual, NoNewPending, NodesOnTarget,
        NodesReady, OtherControlPlanesDone, OthersSchedulable, SystemPodsReady,
    };
    matches!(
        check,
        NodesReady
            | AnswersFresh
            | KubeletVersionsEqual
            | SystemPodsReady
            | NoNewPending
            | CapacityElsewhere
            | DisruptionsAllowed
            | DataElsewhere
            | JoinCanaryPossible
            | NodesOnTarget
            | EndpointsElsewhere
            | ApiServersListed
            | OtherControlPlanesDone
            | OthersSchedulable
    )
}

/// What a source last said of a check in this round, if it confirmed it.
fn last_pass<'a>(node: &'a Node, check: Check, source: &Source) -> Option<&'a str> {
    let Phase::Asking { dossier, .. } = &node.track.phase else { return None };
    match &dossier.get(check, source)?.evidence.verdict {
        Verdict::Pass(seen) => Some(seen),
        Verdict::Fail(_) | Verdict::Unknown(_) => None,
    }
}

/// The processes that outlived the removal, for the rules to order a kill; never a part of a path,
/// since the agent compares it.
fn leftovers(node: &NodeName, heard: &Heard) -> Option<Request> {
    let mut processes: Vec<Process> = host::leftovers(&heard.report)
        .into_iter()
        .map(|one| Process {
            pid: one.pid,
            start_ticks: one.start_ticks,
            comm: one.comm.clone(),
            exe: one.exe.clone(),
        })
        .collect();
    processes.sort();
    let mut bytes = 0;
    processes.truncate(64);
    processes.retain(|one| {
        bytes += one.comm.len() + one.exe.len() + 20;
        bytes <= LEFTOVERS_BYTES_MAX
    });
    let node = node.clone();
    (!processes.is_empty()).then_some(Request::Report(Report::Leftovers { node, processes }))
}
