//! Snapshots.
use super::{Pass, Requests};
use crate::clients::Trouble;
use rehull_shared::ids::NodeName;
impl Pass<'_> {
    pub(super) async fn export(&self) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn take_snapshot(&self, _node: &NodeName) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
