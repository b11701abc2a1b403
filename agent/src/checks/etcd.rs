//! What the etcd member of this host says, if the coordinator asks for it.

use rehull_proto::v1::{Collect, Etcd};

use super::Gaps;
use crate::{etcd::Member, host::Host};

/// `None` if it was not asked for, or does not answer: then a gap says why.
pub(super) async fn look(host: &Host, asked: &Collect, gaps: &mut Gaps) -> Option<Etcd> {
    if !asked.etcd {
        return None;
    }
    let looked = async { Member::connect(host).await?.look(asked.etcd_hash_revision).await };
    looked.await.inspect_err(|why| gaps.add("etcd", why)).ok()
}
