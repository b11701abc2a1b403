//! What a person takes upon themselves: one item, by its identity, until a time.

use rehull_shared::{evidence::Check, text::sha256_hex, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Digits of an item's number: few enough to be typed, and too many to be met by chance.
const ID_DIGITS: usize = 12;

/// What words about an item end with, so that whoever reads them can name it.
const MARK: &str = "(item ";

/// Something that speaks against a check and that a person may accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The check that it speaks against.
    pub check: Check,
    /// What it is, so that nothing else can take its place: a UID, a path, a name of a variable.
    pub identity: String,
    /// What it is to a person. Says nothing of which it is.
    pub what: String,
}

/// One item, accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// What was accepted.
    pub item: Item,
    /// By whom.
    pub by: String,
    /// Why, in that person's words.
    pub why: String,
    /// It counts for nothing from then on.
    pub until: Timestamp,
    /// Whether it was taken back, or that time has come.
    pub ended: bool,
}

impl Item {
    /// Its number: the same for the same check and identity, on every machine and for ever.
    pub fn id(&self) -> String {
        let Self { check, identity, .. } = self;
        let mut digits = sha256_hex(format!("{check}\0{identity}").as_bytes());
        digits.truncate(ID_DIGITS);
        digits
    }

    /// What it is and its number, as every text about it says it: [`items_in`] finds it there.
    pub fn words(&self) -> String {
        format!("{} {MARK}{})", self.what, self.id())
    }

    /// Whether both mean the same thing.
    pub fn is(&self, other: &Item) -> bool {
        (self.check, &self.identity) == (other.check, &other.identity)
    }
}

impl Approval {
    /// Whether it counts at this moment.
    pub fn holds(&self, now: Timestamp) -> bool {
        !self.ended && now < self.until
    }
}

/// Numbers of the items that a text speaks of, in their order. One that was cut off is none.
pub fn items_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(MARK).skip(1).filter_map(|rest| {
        let (id, _) = rest.split_once(')')?;
        is_id(id).then_some(id)
    })
}

/// Whether a text can be the number of an item.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(identity: &str) -> Item {
        let what = "the data is on the disk of the host".to_owned();
        Item { check: Check::DataElsewhere, identity: identity.to_owned(), what }
    }

    #[test]
    fn a_number_is_that_of_the_identity_alone() {
        let one = item("PersistentVolume 1");
        assert_eq!(one.id(), "3b80b6f96308", "numbers stand in notes of people: never change them");
        assert_eq!(Item { what: "other words".into(), ..one.clone() }.id(), one.id());
        assert_ne!(item("PersistentVolume 2").id(), one.id());
        assert_ne!(Item { check: Check::CapacityElsewhere, ..one.clone() }.id(), one.id());
    }

    #[test]
    fn words_say_the_number_and_it_is_found_there() {
        let (one, two) = (item("a"), item("b"));
        let text = format!("{}, {} (item 12)", one.words(), two.words());
        assert_eq!(items_in(&text).collect::<Vec<_>>(), [one.id(), two.id()]);
        let cut = &one.words()[..one.words().len() - 1];
        assert_eq!(items_in(cut).count(), 0);
    }
}
