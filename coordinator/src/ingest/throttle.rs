//! Slows down whoever tries to enrol too often: a signature is checked for each try.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tries that one address has at once. A host needs one; a rack behind one address a few dozen.
const BURST: u32 = 64;

/// One more try comes back after each of these.
const REFILL: Duration = Duration::from_secs(1);

/// Addresses remembered; beyond it those with nothing spent are forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// Tries by address. By the machine's own steady clock: it is no part of the rules.
#[derive(Default)]
pub(super) struct Throttle {
    spent: Mutex<BTreeMap<IpAddr, (u32, Instant)>>,
}

impl Throttle {
    /// Takes one try of an address; `false` if it has none left.
    pub(super) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= ADDRESSES_MAX && !spent.contains_key(&address) {
            spent.retain(|_, (tries, since)| left_of(*tries, *since, now) > 0);
            if spent.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let (tries, since) = spent.entry(address).or_insert((0, now));
        let left = left_of(*tries, *since, now);
        if left < *tries {
            (*tries, *since) = (left, now);
        }
        let admitted = *tries < BURST;
        *tries += u32::from(admitted);
        admitted
    }
}

/// How many of the tries are not yet given back.
fn left_of(tries: u32, since: Instant, now: Instant) -> u32 {
    let back = now.saturating_duration_since(since).as_secs() / REFILL.as_secs();
    tries.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let [busy, calm] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert!((0..BURST).all(|_| throttle.admits(busy, now)));
        assert!(!throttle.admits(busy, now));
        assert!(throttle.admits(calm, now));
        assert!(throttle.admits(busy, now + REFILL));
        assert!(!throttle.admits(busy, now + REFILL));
    }
}
