//! The two changes that the etcd of this host is asked for. Neither believes the answer: what came of
//! it is looked at.

use std::{collections::BTreeSet, time::Duration};

use rehull_proto::v1::{MoveLeader, RemoveMember, order_done::Outcome};
use rehull_shared::text::bounded;

use super::{
    Member, PATIENCE, Silence, WORD_BYTES_MAX,
    wire::{
        self, MemberListRequest, MemberListResponse, MemberRemoveRequest, MemberRemoveResponse,
        MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
    },
    words,
};
use crate::{answer::Answer, host::Host};

/// A change. etcd itself gives up after 5 s and two elections, of 5 s each under kubespray.
const CHANGE_PATIENCE: Duration = Duration::from_secs(20);

/// Hands the leadership on, if the member of this host has it.
pub(crate) async fn move_leader(host: &Host, order: &MoveLeader) -> Answer {
    match begin_move(host, order).await {
        Ok((member, own)) => see_move(&member, own, order.to).await,
        Err(answer) => answer,
    }
}

/// Has everything been looked at, the member that is to be asked, and its id.
async fn begin_move(host: &Host, order: &MoveLeader) -> Result<(Member, u64), Answer> {
    let member = Member::connect(host).await.map_err(silent)?;
    let (own, leader) = member.leader().await.map_err(silent)?;
    if leader == 0 {
        return Err(Answer::refused(format!("member {own:x} knows no leader now")));
    }
    if leader != own {
        let seen = format!("member {own:x} does not lead: {leader:x} does");
        return Err(answer(Outcome::Done, seen));
    }
    if order.to == own {
        return Err(Answer::refused(format!("member {own:x} is to hand the leadership to itself")));
    }
    Ok((member, own))
}

async fn see_move(member: &Member, own: u64, to: u64) -> Answer {
    let request = MoveLeaderRequest { target: to };
    let asked: Result<MoveLeaderResponse, _> =
        member.ask("Maintenance/MoveLeader", request, CHANGE_PATIENCE).await;
    let complaint = complaint(asked);
    let (outcome, seen) = match member.leader().await {
        Ok((_, leader)) if leader == own => {
            (Outcome::Failed, format!("{own:x} leads still, {to:x} was to"))
        }
        Ok((_, 0)) => (Outcome::Failed, format!("the leader was {own:x}, now none is known")),
        Ok((_, leader)) => (Outcome::Done, format!("the leader was {own:x}, now it is {leader:x}")),
        Err(why) => (Outcome::Failed, format!("the leader was {own:x}, now unknown: {why}")),
    };
    answer(outcome, seen + &complaint)
}

/// Removes a member, if its id and its peer URL are still of one and the same, and not of this host's.
pub(crate) async fn remove_member(host: &Host, order: &RemoveMember) -> Answer {
    match begin_removal(host, order).await {
        Ok((member, before)) => see_removal(&member, &before, order).await,
        Err(answer) => answer,
    }
}

/// Has everything been looked at, the member that is to be asked, and the ids of all.
async fn begin_removal(
    host: &Host,
    order: &RemoveMember,
) -> Result<(Member, BTreeSet<u64>), Answer> {
    let RemoveMember { member_id: id, peer_url: url, .. } = order;
    if *id == 0 || url.is_empty() || url.len() > WORD_BYTES_MAX {
        return Err(Answer::refused("the order does not say which member: an id and a peer URL"));
    }
    let member = Member::connect(host).await.map_err(silent)?;
    let (own, members) = member.members().await.map_err(silent)?;
    let by_id = members.iter().find(|one| one.id == *id);
    let by_url = members.iter().find(|one| one.peer_urls.contains(url));
    let has = |one: &wire::Member| {
        let urls = words(one.peer_urls.clone()).join(" ");
        format!("member {:x} has the peer URL {urls}", one.id)
    };
    match (by_id, by_url) {
        (None, None) => {
            let seen = format!("{id:x} with {url} is no member any more");
            return Err(answer(Outcome::Done, seen));
        }
        (Some(one), Some(other)) if one.id == other.id => (),
        (one, other) => {
            let said = one.map_or_else(|| format!("no member {id:x} is there"), has);
            let other = other.map_or_else(|| format!("none has {url}"), has);
            return Err(Answer::refused(format!("not one and the same member: {said}, {other}")));
        }
    }
    if own == 0 || own == *id {
        return Err(Answer::refused(format!(
            "member {id:x} is that of this host, which another one has to remove"
        )));
    }
    Ok((member, members.iter().map(|one| one.id).collect()))
}

async fn see_removal(member: &Member, before: &BTreeSet<u64>, order: &RemoveMember) -> Answer {
    let RemoveMember { member_id: id, peer_url: url, .. } = order;
    let request = MemberRemoveRequest { id: *id };
    let asked: Result<MemberRemoveResponse, _> =
        member.ask("Cluster/MemberRemove", request, CHANGE_PATIENCE).await;
    let complaint = complaint(asked);
    let after: BTreeSet<u64> = match member.members().await {
        Ok((_, members)) => members.iter().map(|one| one.id).collect(),
        Err(why) => {
            let seen = format!("asked to remove {id:x} with {url}, what came of it is unknown: ");
            return answer(Outcome::Failed, format!("{seen}{why}{complaint}"));
        }
    };
    let expected: BTreeSet<u64> = before.iter().copied().filter(|one| one != id).collect();
    let lists = format!("members were {}, now {}", hex(before), hex(&after));
    let (outcome, seen) = if after.contains(id) {
        (Outcome::Failed, format!("{id:x} with {url} is a member still; {lists}"))
    } else if after != expected {
        (Outcome::Failed, format!("{id:x} with {url} is gone, but that is not all; {lists}"))
    } else {
        (Outcome::Done, format!("{id:x} with {url} is gone; {lists}"))
    };
    answer(outcome, seen + &complaint)
}

impl Member {
    /// Id of this member, and of the leader that it knows; 0 for none.
    async fn leader(&self) -> Result<(u64, u64), Silence> {
        let status: StatusResponse =
            self.ask("Maintenance/Status", StatusRequest {}, PATIENCE).await?;
        Ok((status.header.unwrap_or_default().member_id, status.leader))
    }

    /// Id of this member, and all of them, as a quorum has it.
    async fn members(&self) -> Result<(u64, Vec<wire::Member>), Silence> {
        let list = MemberListRequest { linearizable: true };
        let list: MemberListResponse = self.ask("Cluster/MemberList", list, PATIENCE).await?;
        Ok((list.header.unwrap_or_default().member_id, list.members))
    }
}

/// What etcd said against it, behind what was seen.
fn complaint<T>(asked: Result<T, Silence>) -> String {
    match asked {
        Ok(_) => String::new(),
        Err(why) => format!("; etcd answered {}", bounded(&why.to_string(), WORD_BYTES_MAX)),
    }
}

fn hex(ids: &BTreeSet<u64>) -> String {
    ids.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(" ")
}

fn answer(outcome: Outcome, seen: String) -> Answer {
    Answer { outcome, seen, survivors: Vec::new() }
}

/// Nothing was changed yet.
fn silent(why: Silence) -> Answer {
    Answer::refused(format!("etcd of this host: {why}"))
}

#[cfg(test)]
mod tests;
