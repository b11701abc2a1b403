//! Changes to the workload cluster.
use super::{Pass, Requests};
use crate::clients::Trouble;
use rehull_shared::ids::NodeName;
impl Pass<'_> {
    pub(super) async fn cordon(&self, _node: &NodeName) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn drain(&self, _node: &NodeName) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn restore_metadata(&self, _node: &NodeName) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
