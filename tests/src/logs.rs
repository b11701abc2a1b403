//! The two places where a log can be, and events that follow from their number.

use std::path::Path;

use rehull::{
    domain::event::{CopiedPart, Event, Recorded},
    log::{Error, Log},
};
use rehull_shared::{ids::Epoch, time::Timestamp};

use crate::{
    chance::Chance,
    story::{node, prod},
};

/// Where the events of a log are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// As coordinators keep them.
    Sled,
    /// In one plain file: the oracle.
    File,
}

impl Store {
    /// Both.
    pub const ALL: [Store; 2] = [Store::Sled, Store::File];

    /// The one that is called `name` in debug output.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|store| format!("{store:?}") == name).expect("a store")
    }

    /// Opens the log in `dir`, or begins one.
    ///
    /// # Errors
    /// Those of [`Log::attach`].
    pub fn attach(self, dir: &Path) -> Result<Log, Error> {
        match self {
            Store::Sled => Log::attach(dir),
            Store::File => Log::attach_file(dir),
        }
    }

    /// The file with the packs.
    pub fn data(self) -> &'static str {
        match self {
            Store::Sled => "db",
            Store::File => "events.log",
        }
    }
}

/// The event of this number: mostly small, now and then larger than one value of sled's.
pub fn event(number: u64) -> Recorded {
    let mut chance = Chance(number);
    let bytes = match chance.below(50) {
        0 => 10_000 + chance.below(20_000),
        _ => chance.below(500),
    };
    let text = (0..bytes).map(|_| char::from(b'!' + chance.below(94) as u8)).collect();
    let (node, name) = (node("n1"), "op".to_owned());
    let event = Event::OperationCopied { node, name, part: CopiedPart::Log, number: 1, text };
    let at = Timestamp::from_millis(1_700_000_000_000 + number as i64);
    Recorded { at, epoch: Epoch(1), cluster: Some(prod()), event }
}

/// Reads the whole log, which must hold the events of these numbers and no others; its last.
///
/// # Errors
/// Those of [`Log::replay`] and [`Log::verify`].
pub fn read(log: &Log) -> Result<u64, Error> {
    let mut last = 0;
    log.replay(|seq, recorded| {
        assert_eq!(seq, last + 1, "a gap");
        assert_eq!(recorded, event(seq), "event {seq} is another one");
        last = seq;
    })?;
    let head = log.verify(|_, _| ())?;
    assert_eq!((head, head.seq), (log.head(), last));
    Ok(last)
}
