//! Inputs of operations.
use super::{Pass, Requests};
use crate::{clients::Trouble, domain::state::Kind};
use rehull_shared::ids::{Attempt, NodeName};
impl Pass<'_> {
    pub(super) async fn prepare(
        &self,
        _node: &NodeName,
        _k: Kind,
        _a: Attempt,
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn clean_up(&self) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
