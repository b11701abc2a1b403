//! Orders to agents that change a host.
use super::{Pass, Requests};
use crate::{clients::Trouble, domain::state::Process};
use rehull_shared::ids::NodeName;
impl Pass<'_> {
    pub(super) async fn kill_leftovers(
        &self,
        _node: &NodeName,
        _order: &str,
        _p: &[Process],
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn farewell(&self, _node: &NodeName) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
