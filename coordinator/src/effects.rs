//! Effects: what the rules want to happen, made to happen. Nothing here decides.
//!
//! An effect is carried out in *passes*. One pass asks the world by name how far the effect is,
//! does at most the next thing, and says what it saw. A pass may be cut short anywhere and may be
//! run twice; the runner repeats passes until the effect is no longer due. The rehearsal runs the
//! very same passes, one after the other, in virtual time.

use std::sync::Arc;

use rehull_shared::{
    ids::{Epoch, NodeName},
    time::Timestamp,
};

use crate::{
    agents::Agents,
    backups::Backups,
    blobs::Blobs,
    clients::{Clients, Trouble, calls as api},
    domain::{
        command::Request,
        effect::{Effect, Work},
        state::{Fleet, Migration, Node},
    },
    engine::Clock,
    etcd,
    readiness::Readiness,
};

mod collect;
mod control_planes;
mod endpoints;
mod evictions;
mod hosts;
mod inputs;
mod installers;
mod join_canary;
mod metadata;
mod operations;
#[cfg(test)]
mod passes;
mod protection;
mod reorder;
mod runner;
mod signature;
mod snapshots;
#[cfg(test)]
mod stage;
#[cfg(test)]
pub(crate) mod testing;
mod workload;

pub(crate) use control_planes::host_of;
pub(crate) use endpoints::PLACES;
pub use installers::{Exit, Invocation, RunProgram, run_program};
pub use runner::{Troubles, run};
pub(crate) use snapshots::EXPORTED;

/// Draws a secret of 256 bits: chance is an input too.
pub type Draw = Arc<dyn Fn() -> [u8; 32] + Send + Sync>;

/// What effects work with.
#[derive(Clone)]
pub struct Context {
    /// API clients of both clusters.
    pub clients: Clients,
    /// Connected agents.
    pub agents: Agents,
    /// What API servers answer, asked again and again.
    pub readiness: Readiness,
    /// What was last seen of each cluster's etcd.
    pub etcd: etcd::Seen,
    /// Stored snapshots.
    pub blobs: Blobs,
    /// Where backups of control planes go, if anywhere.
    pub backups: Option<Backups>,
    /// Runs programs of the site.
    pub run_program: RunProgram,
    /// The program that switches the deletion protection of clusters, if there is one: it stands in the
    /// coordinator's settings, never in a document.
    pub protection: Option<String>,
    /// The programs that may reinstall hosts, from the settings too: a document only chooses among them.
    pub installers: Vec<String>,
    /// What time it is.
    pub clock: Clock,
    /// Secrets of invitations that installers hand to hosts.
    pub draw: Draw,
    /// Directory of the coordinator, for files that are handed to installers.
    pub dir: std::path::PathBuf,
    /// Address by which hosts reach the coordinator, `host:port`; goes to installers.
    pub advertised: String,
    /// SHA-256 of the CA certificate's DER, hexadecimal; goes to installers.
    pub ca_sha256: String,
}

/// One pass of one effect, and what it may know.
struct Pass<'a> {
    context: &'a Context,
    fleet: &'a Fleet,
    migration: &'a Migration,
    effect: &'a Effect,
}

/// What a pass leads to: requests for the rules, in order.
type Requests = Vec<Request>;

/// Carries out one pass of an effect.
///
/// # Errors
/// A [`Trouble`] in words for an operator, if the world could not be asked or changed; the pass is
/// repeated later.
pub async fn pass(
    effect: &Effect,
    fleet: &Fleet,
    context: &Context,
) -> Result<Vec<Request>, Trouble> {
    let Some(migration) = fleet.migrations.get(&effect.cluster) else { return Ok(Vec::new()) };
    let pass = Pass { context, fleet, migration, effect };
    match &effect.work {
        Work::Collect { subject, gate, round } => pass.collect(subject, *gate, *round).await,
        Work::Export => pass.export().await,
        Work::SwitchProtection { on, round } => Ok(pass.switch_protection(*on, *round).await),
        Work::TakeSnapshot { node } => pass.take_snapshot(node).await,
        Work::Cordon { node } => pass.cordon(node).await,
        Work::Drain { node } => pass.drain(node).await,
        Work::Uncordon { node } => pass.uncordon(node).await,
        Work::PrepareInputs { node, kind, attempt } => pass.prepare(node, *kind, *attempt).await,
        Work::RunOperation { node, name } => pass.run_operation(node, name).await,
        Work::WithdrawOperation { node, name } => pass.withdraw_operation(node, name).await,
        Work::ArchiveOperation { node, name } => pass.archive_operation(node, name).await,
        Work::KillLeftovers { node, order, processes } => {
            pass.kill_leftovers(node, order, processes).await
        }
        Work::DeleteNode { node, uid } => pass.delete_node(node, uid).await,
        Work::Farewell { node } => pass.farewell(node).await,
        Work::Install { node, attempt } => pass.install(node, *attempt).await,
        Work::HoldBack { node } => pass.hold_back(node).await,
        Work::StartJoinCanary { node } => pass.start_join_canary(node).await,
        Work::RemoveJoinCanary { node } => pass.remove_join_canary(node).await,
        Work::RestoreMetadata { node } => pass.restore_metadata(node).await,
        Work::CleanUp => pass.clean_up().await,
        Work::Identify => pass.identify().await,
        Work::TakeBackup { node } => pass.take_backup(node).await,
        Work::MoveLeader { node } => pass.move_leader(node).await,
        Work::MoveEndpoints { node } => pass.move_endpoints(node).await,
        Work::ReorderInventory { node } => pass.reorder_inventory(node).await,
        Work::MakeToken { node } => pass.make_token(node).await,
        Work::SwitchApiServer { node, on } => pass.switch_api_server(node, *on).await,
        Work::RemoveMember { node, order, member } => pass.remove_member(node, order, member).await,
    }
}

impl Pass<'_> {
    fn now(&self) -> Timestamp {
        (self.context.clock)()
    }

    fn epoch(&self) -> Epoch {
        self.fleet.epoch
    }

    fn node(&self, name: &NodeName) -> Result<&Node, Trouble> {
        let node = self.migration.node(name);
        node.ok_or_else(|| Trouble::new(name, "is no longer a node of this migration"))
    }
}
