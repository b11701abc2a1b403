//! Documents: parsed, then understood with the help of the cluster that they are about.

use rehull_proto::v1::PlanResponse;
use tonic::Status;

use super::Desk;
use crate::{
    document::{Fault, planned},
    domain::plan::{Installer, Plan, PlannedNode},
    preview::preview,
};

/// The plan that a document asks for.
pub(super) async fn understood(
    desk: &Desk,
    document: &str,
) -> Result<(Plan, Vec<PlannedNode>), Status> {
    let refused = |fault: Fault| Status::invalid_argument(fault.placed(document).to_string());
    let (plan, nodes) = planned(document, &desk.context.clients).await.map_err(refused)?;
    if plan.protection.is_some() && desk.context.protection.is_none() {
        let why = "deletionProtection of the coordinator's config.yaml must name the program";
        return Err(refused(Fault::of("spec.deletionProtection", why)));
    }
    if let Installer::Command { program, .. } = &plan.installer
        && !desk.context.installers.contains(program)
    {
        let why = format!("{program} is not among installers of the coordinator's config.yaml");
        return Err(refused(Fault::of("spec.installer.command.program", why)));
    }
    Ok((plan, nodes))
}

/// What a document would do.
pub(super) async fn plan(desk: &Desk, document: &str) -> Result<PlanResponse, Status> {
    let (plan, nodes) = understood(desk, document).await?;
    let fleet = desk.handle.published().fleet;
    Ok(preview(&plan, &nodes, &fleet, &desk.context).await)
}
