//! An etcd that is played: what its members on directory hosts answer, from one state that they share.
//! Whoever plays the hosts has that state in hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::{DecodeError, Message};
use sha2::{Digest, Sha256};

use super::wire::{
    self, AlarmResponse, HashKvRequest, HashKvResponse, Header, MemberListResponse,
    MemberRemoveRequest, MemberRemoveResponse, MoveLeaderRequest, MoveLeaderResponse,
    RangeResponse, SnapshotResponse, StatusResponse,
};

const PAGE_BYTES: usize = 512;

/// One etcd; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct PlayedEtcd(Arc<Mutex<State>>);

/// How it is.
#[derive(Debug, Default)]
pub struct State {
    /// Its cluster id.
    pub cluster_id: u64,
    /// Id of the member that leads; another one takes over when that does not run.
    pub leader: u64,
    /// Counts the elections.
    pub term: u64,
    /// Counts what was written.
    pub revision: i64,
    /// Its members, all of them voters.
    pub members: Vec<PlayedMember>,
}

/// One member.
#[derive(Clone, Debug, Default)]
pub struct PlayedMember {
    /// Its id.
    pub id: u64,
    /// Its name, as in `etcd1`.
    pub name: String,
    /// The address of its host.
    pub address: String,
    /// Whether it is a process, and no mere entry in the list.
    pub runs: bool,
    /// What it complains of.
    pub errors: Vec<String>,
}

/// The member of one host.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    etcd: PlayedEtcd,
    address: String,
}

impl PlayedEtcd {
    /// Its state, locked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member on the host of this address.
    pub(crate) fn of(self, address: &str) -> Own {
        Own { etcd: self, address: address.to_owned() }
    }
}

impl Own {
    /// The answer to a question of etcd's own protocol, as it would be sent.
    pub(super) fn answer(&self, method: &str, question: &[u8]) -> Result<Vec<u8>, String> {
        let mut state = self.etcd.state();
        let own = state.running().find(|one| one.address == self.address).cloned();
        let own = own.ok_or("connection refused")?;
        if !state.has_quorum() {
            return Err("etcdserver: no leader".to_owned());
        }
        state.elect();
        let header = Some(Header {
            cluster_id: state.cluster_id,
            member_id: own.id,
            revision: state.revision,
        });
        let bad = |why: DecodeError| why.to_string();
        Ok(match method {
            "KV/Range" => RangeResponse { header }.encode_to_vec(),
            "Maintenance/Status" => state.status(header, own.errors).encode_to_vec(),
            "Maintenance/Alarm" => AlarmResponse::default().encode_to_vec(),
            "Maintenance/HashKV" => {
                let HashKvRequest { revision } = HashKvRequest::decode(question).map_err(bad)?;
                let hash = u32::try_from(revision).unwrap_or(u32::MAX);
                HashKvResponse { hash, compact_revision: 1 }.encode_to_vec()
            }
            "Maintenance/Snapshot" => {
                SnapshotResponse { blob: snapshot(state.revision) }.encode_to_vec()
            }
            "Maintenance/MoveLeader" => {
                let MoveLeaderRequest { target } =
                    MoveLeaderRequest::decode(question).map_err(bad)?;
                if state.leader != own.id || state.running().all(|one| one.id != target) {
                    return Err("etcdserver: bad leader transferee".to_owned());
                }
                (state.leader, state.term) = (target, state.term + 1);
                MoveLeaderResponse {}.encode_to_vec()
            }
            "Cluster/MemberList" => state.list(header).encode_to_vec(),
            "Cluster/MemberRemove" => {
                let MemberRemoveRequest { id } =
                    MemberRemoveRequest::decode(question).map_err(bad)?;
                state.remove(id);
                MemberRemoveResponse {}.encode_to_vec()
            }
            other => return Err(format!("nobody plays {other}")),
        })
    }
}

/// A store as etcd sends it: whole pages, and behind them the SHA-256 of all before it.
fn snapshot(revision: i64) -> Vec<u8> {
    let mut store = format!("the store of etcd at revision {revision}").into_bytes();
    store.resize(PAGE_BYTES, 0);
    let hash = Sha256::digest(&store);
    store.extend(hash);
    store
}

impl State {
    /// Members that are there.
    pub fn running(&self) -> impl Iterator<Item = &PlayedMember> {
        self.members.iter().filter(|member| member.runs)
    }

    /// Whether enough of them are there.
    pub fn has_quorum(&self) -> bool {
        self.running().count() > self.members.len() / 2
    }

    /// A member goes: its process ends, if there is one.
    pub fn remove(&mut self, id: u64) {
        self.members.retain(|member| member.id != id);
        self.revision += 1;
    }

    /// The first one that runs leads, if the leader does not.
    fn elect(&mut self) {
        let next = match self.running().any(|one| one.id == self.leader) {
            true => None,
            false => self.running().next().map(|one| one.id),
        };
        if let Some(next) = next {
            (self.leader, self.term) = (next, self.term + 1);
        }
    }

    fn status(&self, header: Option<Header>, errors: Vec<String>) -> StatusResponse {
        let index = u64::try_from(self.revision).unwrap_or_default() + self.term;
        StatusResponse {
            header,
            version: "3.5.9".to_owned(),
            db_size: 20 << 20,
            leader: self.leader,
            raft_index: index,
            raft_term: self.term,
            raft_applied_index: index,
            errors,
            db_size_quota: 2 << 30,
        }
    }

    fn list(&self, header: Option<Header>) -> MemberListResponse {
        let member = |one: &PlayedMember| wire::Member {
            id: one.id,
            name: one.name.clone(),
            peer_urls: vec![format!("https://{}:2380", one.address)],
            client_urls: vec![format!("https://{}:2379", one.address)],
            is_learner: false,
        };
        MemberListResponse { header, members: self.members.iter().map(member).collect() }
    }
}

#[cfg(test)]
mod tests {
    use rehull_proto::v1::{MoveLeader, RemoveMember, order_done::Outcome};

    use super::*;
    use crate::{
        etcd::{Member, move_leader, remove_member},
        host::{Host, directory::Directory},
    };

    /// Three members; the hosts of the first two, which find them by their manifests.
    fn hosts() -> (tempfile::TempDir, PlayedEtcd, [Host; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let etcd = PlayedEtcd::default();
        let member = |id: u64| PlayedMember {
            id,
            name: format!("etcd{id}"),
            address: format!("10.0.0.{id}"),
            runs: true,
            errors: Vec::new(),
        };
        etcd.state().members = [1, 2, 3].map(member).into();
        (etcd.state().leader, etcd.state().revision) = (3, 1_000);
        let host = |id: u64| {
            let place = Directory::new(dir.path().join(id.to_string()));
            let manifest = "- --etcd-servers=https://127.0.0.1:2379\n- --etcd-cafile=/a\n\
                            - --etcd-certfile=/b\n- --etcd-keyfile=/c\n";
            place.file("etc/kubernetes/manifests/kube-apiserver.yaml", manifest).unwrap();
            place.file("sys/class/net/lo/addresses", "127.0.0.1\n").unwrap();
            place.host().with_etcd(etcd.clone(), &format!("10.0.0.{id}"))
        };
        let hosts = [host(1), host(2)];
        (dir, etcd, hosts)
    }

    async fn why(host: &Host) -> String {
        let looked = async { Member::connect(host).await?.look(0).await };
        looked.await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn members_answer_as_one_etcd_and_carry_out_what_they_are_asked() {
        let (_dir, etcd, [one, two]) = hosts();
        let seen = Member::connect(&one).await.unwrap().look(900).await.unwrap();
        assert_eq!((seen.member_id, seen.leader, seen.revision), (1, 3, 1_000));
        assert_eq!(seen.members[2].peer_urls, ["https://10.0.0.3:2380"]);
        assert_eq!(seen.hash.unwrap().revision, 900);
        let mut pieces = Member::connect(&one).await.unwrap().snapshot().await.unwrap();
        let store = pieces.next().await.unwrap().unwrap();
        assert_eq!(store[PAGE_BYTES..], Sha256::digest(&store[..PAGE_BYTES])[..]);
        assert_eq!(pieces.next().await.unwrap(), None);

        // The leader ends without a word: the first one that is left leads, and may hand that on.
        etcd.state().members[2].runs = false;
        let order = MoveLeader { id: "m".to_owned(), to: 2 };
        assert_eq!(move_leader(&one, &order).await.seen, "the leader was 1, now it is 2");
        let peer_url = "https://10.0.0.3:2380".to_owned();
        let order = RemoveMember { id: "r".to_owned(), member_id: 3, peer_url };
        let answer = remove_member(&two, &order).await;
        assert_eq!(answer.outcome, Outcome::Done, "{}", answer.seen);
        assert_eq!(etcd.state().members.len(), 2);
    }

    #[tokio::test]
    async fn a_member_that_does_not_run_is_silent_and_so_is_half_an_etcd() {
        let (dir, etcd, [one, two]) = hosts();
        etcd.state().members[0].runs = false;
        assert_eq!(why(&one).await, "KV/Range: connection refused");
        etcd.state().members[2].runs = false;
        assert_eq!(why(&two).await, "KV/Range: etcdserver: no leader");
        // After a removal nothing says where etcd is.
        Directory::new(dir.path().join("2")).remove("etc/kubernetes").unwrap();
        assert!(why(&two).await.starts_with("/etc/kubernetes/manifests/kube-apiserver.yaml"));
    }
}
