//! Passes of the first control plane: a person's word lets it go, and only while it holds.

use rehull_shared::{evidence::Check, time::Span};

use super::{
    super::testing::{NOW, worker1},
    all_say, look, with_nodes,
};
use crate::{
    domain::{approval::Approval, gate::Gate, plan::Role},
    items,
};

#[tokio::test]
async fn it_goes_on_the_word_of_a_person_while_that_holds() {
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
