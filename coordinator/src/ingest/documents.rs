//! Documents: parsed, then understood with the help of the cluster that they are about.

use rehull_proto::v1::PlanResponse;
use tonic::Status;

use super::Desk;
use crate::{
    document::planned,
    domain::plan::{Plan, PlannedNode},
    preview::preview,
};

/// The plan that a document asks for.
pub(super) async fn understood(
    desk: &Desk,
    document: &str,
) -> Result<(Plan, Vec<PlannedNode>), Status> {
    let planned = planned(document, &desk.context.clients).await;
    planned.map_err(|fault| Status::invalid_argument(fault.to_string()))
}

/// What a document would do.
pub(super) async fn plan(desk: &Desk, document: &str) -> Result<PlanResponse, Status> {
    let (plan, nodes) = understood(desk, document).await?;
    let fleet = desk.handle.published().fleet;
    Ok(preview(&plan, &nodes, &fleet, &desk.context).await)
}
