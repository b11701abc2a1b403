//! Slows down whoever tries to enrol too often, since a signature is checked for each try, and
//! whoever speaks without being asked.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many there are at once. Of enrolments a host needs one, a rack behind one address a few
/// dozen; of messages that nobody has asked for an agent sends a beat every few seconds.
const BURST: u32 = 64;

/// One more comes back after each of these.
const REFILL: Duration = Duration::from_secs(1);

/// Addresses remembered; beyond it those with nothing spent are forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// What somebody has left of something that comes back with time. By the machine's own steady
/// clock: it is no part of the rules.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    spent: u32,
    since: Instant,
}

impl Allowance {
    /// Nothing is spent.
    pub(super) fn new(now: Instant) -> Self {
        Self { spent: 0, since: now }
    }

    /// Takes one; `false` if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let spent = self.spent_at(now);
        if spent < self.spent {
            *self = Self { spent, since: now };
        }
        let admitted = self.spent < BURST;
        self.spent += u32::from(admitted);
        admitted
    }

    /// How many have not come back yet.
    fn spent_at(&self, now: Instant) -> u32 {
        let back = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        self.spent.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX))
    }
}

/// Tries by address.
#[derive(Default)]
pub(super) struct Throttle {
    addresses: Mutex<BTreeMap<IpAddr, Allowance>>,
}

impl Throttle {
    /// Takes one try of an address; `false` if it has none left.
    pub(super) fn admits(&self, address: IpAddr, now: Instant) -> bool {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
            addresses.retain(|_, tries| tries.spent_at(now) > 0);
            if addresses.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        addresses.entry(address).or_insert_with(|| Allowance::new(now)).take(now)
    }
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
