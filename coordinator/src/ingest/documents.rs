//! Documents: parsed, then understood with the help of the cluster that they are about.

use rehull_proto::v1::PlanResponse;
use tonic::Status;

use super::Desk;
use crate::{
    document::{Fault, parse, understand},
    domain::plan::{Plan, PlannedNode},
    preview::preview,
};

/// The plan that a document asks for.
pub(super) async fn understood(
    desk: &Desk,
    document: &str,
) -> Result<(Plan, Vec<PlannedNode>), Status> {
    let fault = |fault: Fault| Status::invalid_argument(fault.placed(document).to_string());
    let migration = parse(document).map_err(fault)?;
    understand(&migration, &desk.context.clients).await.map_err(fault)
}

/// What a document would do.
pub(super) async fn plan(desk: &Desk, document: &str) -> Result<PlanResponse, Status> {
    let (plan, nodes) = understood(desk, document).await?;
    let fleet = desk.handle.published().fleet;
    Ok(preview(&plan, &nodes, &fleet, &desk.context).await)
}
