//! Operations.
use super::{Pass, Requests};
use crate::clients::Trouble;
use rehull_shared::ids::NodeName;
impl Pass<'_> {
    pub(super) async fn run_operation(
        &self,
        _node: &NodeName,
        _n: &str,
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn withdraw_operation(
        &self,
        _node: &NodeName,
        _n: &str,
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
    pub(super) async fn archive_operation(
        &self,
        _node: &NodeName,
        _n: &str,
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
