//! What was carried out and for which epoch, on disk: an order that comes again, after a lost
//! answer or a restart of either side, gets the same answer and does nothing.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use rehull_proto::v1::OrderDone;
use serde::{Deserialize, Serialize};

use crate::state;

/// Answers remembered. A node gets a handful of orders in a migration.
const DONE_MAX: usize = 16;

/// The journal of one installation.
pub(crate) struct Journal {
    path: PathBuf,
    kept: Kept,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// Ids of orders mean something within one generation only.
    generation: u64,
    /// Highest epoch obeyed.
    epoch: u64,
    /// Oldest first.
    done: VecDeque<OrderDone>,
}

impl Journal {
    /// Opens the journal, or begins one.
    pub(crate) fn open(dir: &Path) -> Result<Self, state::Error> {
        let path = dir.join("journal.json");
        let kept = state::load(&path)?.unwrap_or_default();
        Ok(Self { path, kept })
    }

    /// The host has been enrolled anew: older orders are forgotten, but never the epoch.
    pub(crate) fn enter(&mut self, generation: u64) -> Result<(), state::Error> {
        if self.kept.generation == generation {
            return Ok(());
        }
        self.kept.generation = generation;
        self.kept.done.clear();
        state::save(&self.path, &self.kept)
    }

    /// Highest epoch obeyed.
    pub(crate) fn epoch(&self) -> u64 {
        self.kept.epoch
    }

    /// Fencing: whether an order of this epoch and generation may be obeyed. The epoch is on disk
    /// before the order is begun.
    pub(crate) fn admit(&mut self, epoch: u64, generation: u64) -> Result<(), String> {
        let Kept { generation: own, epoch: highest, .. } = self.kept;
        if generation != own {
            return Err(format!("the order is for generation {generation}, this is {own}"));
        }
        if epoch < highest {
            return Err(format!("the order is of epoch {epoch}, epoch {highest} rules"));
        }
        if epoch > highest {
            self.kept.epoch = epoch;
            if let Err(error) = state::save(&self.path, &self.kept) {
                self.kept.epoch = highest;
                return Err(format!("cannot remember the epoch: {error}"));
            }
        }
        Ok(())
    }

    /// The answer given to this order before.
    pub(crate) fn answer(&self, id: &str) -> Option<&OrderDone> {
        self.kept.done.iter().find(|done| done.id == id)
    }

    /// Remembers an answer, and forgets the oldest.
    pub(crate) fn remember(&mut self, done: OrderDone) -> Result<(), state::Error> {
        if self.kept.done.len() >= DONE_MAX {
            self.kept.done.pop_front();
        }
        self.kept.done.push_back(done);
        state::save(&self.path, &self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(id: usize) -> OrderDone {
        OrderDone { id: id.to_string(), ..OrderDone::default() }
    }

    #[test]
    fn a_lower_epoch_is_refused_also_after_a_restart_and_a_new_enrolment() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.enter(1).unwrap();
        journal.admit(5, 1).unwrap();
        journal.admit(5, 1).unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.admit(4, 1).unwrap_err(), "the order is of epoch 4, epoch 5 rules");
        journal.enter(2).unwrap();
        assert!(journal.admit(4, 2).is_err());
        journal.admit(6, 2).unwrap();
        assert_eq!(journal.admit(6, 1).unwrap_err(), "the order is for generation 1, this is 2");
    }

    #[test]
    fn an_epoch_that_cannot_be_written_is_not_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("journal.json")).unwrap(); // cannot be replaced
        assert!(journal.admit(1, 0).unwrap_err().starts_with("cannot remember the epoch"));
        assert_eq!(journal.epoch(), 0);
    }

    #[test]
    fn answers_are_bounded_and_belong_to_one_generation() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.enter(1).unwrap();
        for id in 0..=DONE_MAX {
            journal.remember(done(id)).unwrap();
        }
        let mut journal = Journal::open(dir.path()).unwrap();
        assert!(journal.answer("0").is_none() && journal.answer("1").is_some());
        journal.enter(2).unwrap();
        assert!(journal.answer("1").is_none());
    }
}
