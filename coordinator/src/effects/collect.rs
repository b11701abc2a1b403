//! Collects answers for open rounds.
use super::{Pass, Requests};
use crate::{
    clients::Trouble,
    domain::{gate::Gate, state::Subject},
};
use rehull_shared::ids::Round;
mod management;
impl Pass<'_> {
    pub(super) async fn collect(
        &self,
        _s: &Subject,
        _g: Gate,
        _r: Round,
    ) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
