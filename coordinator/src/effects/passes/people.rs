//! Passes of control planes that rest on the word of a person, and only while it holds.

use rehull_shared::{evidence::Check, time::Span};

use super::{
    super::testing::{NOW, worker1},
    all_say, look, with_nodes,
};
use crate::{
    domain::{approval::Approval, gate::Gate, plan::Role, state::BackupProof},
    items,
};

#[tokio::test]
async fn the_first_goes_on_the_word_of_a_person_while_that_holds() {
    let mut world = with_nodes();
    world.migration.nodes[0].planned.role = Role::FirstControlPlane;
    let check = Check::FirstControlPlaneApproved;
    let item = items::of_first(&worker1());
    let approval = |until, ended| {
        let (by, why) = ("ann".to_owned(), "tonight".to_owned());
        [(item.id(), Approval { item: item.clone(), by, why, until, ended })].into()
    };
    let later = NOW + Span::from_mins(1);
    for gate in [Gate::KubeconfigAdmission, Gate::Quorum] {
        world.migration.nodes[0].track.approvals.clear();
        let requests = world.pass(look(gate)).await.unwrap();
        all_say(&requests, check, "fail", "nobody has approved that worker1, the first control");
        all_say(&requests, check, "fail", &format!("(item {})", item.id()));
        world.migration.nodes[0].track.approvals = approval(later, false);
        let requests = world.pass(look(gate)).await.unwrap();
        all_say(&requests, check, "pass", "worker1 may go; ann accepts until");
        for over in [approval(NOW, false), approval(later, true)] {
            world.migration.nodes[0].track.approvals = over;
            let requests = world.pass(look(gate)).await.unwrap();
            all_say(&requests, check, "fail", "nobody has approved");
        }
    }
}

#[tokio::test]
async fn one_goes_behind_a_backup_that_was_proved_or_when_a_person_accepts_that_none_was() {
    let mut world = with_nodes();
    world.migration.nodes[0].planned.role = Role::ControlPlane;
    let check = Check::BackupProved;
    let item = items::of_unproved(&world.migration.plan);
    let requests = world.pass(look(Gate::Quorum)).await.unwrap();
    all_say(&requests, check, "fail", &format!("no backup was proved (item {})", item.id()));
    let (by, why, until) = ("ann".to_owned(), "so".to_owned(), NOW + Span::from_mins(1));
    let approval = Approval { item: item.clone(), by, why, until, ended: false };
    // Of the cluster, it counts for each of its control planes.
    world.migration.track.approvals = [(item.id(), approval)].into();
    let requests = world.pass(look(Gate::Quorum)).await.unwrap();
    all_say(&requests, check, "pass", "none was; ann accepts until");
    world.migration.track.approvals.clear();
    let (backup, snapshot_sha256) = ("prod/b".to_owned(), "ab".to_owned());
    let proof = BackupProof { backup, snapshot_sha256, objects: 90, nodes: 5 };
    world.migration.proved = Some((proof, NOW));
    let requests = world.pass(look(Gate::Quorum)).await.unwrap();
    all_say(&requests, check, "pass", "prod/b was proved");
    all_say(&requests, check, "pass", "held 90 objects and 5 Nodes");
}
