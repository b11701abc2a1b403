//! When the nodes of a plan would begin and be done, if each takes as long as is expected of it.

use rehull_shared::time::{Span, Timestamp};

use super::{
    calendar::{Calendar, Closed},
    policy::Policy,
};

/// What is expected, not promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long one node takes.
    pub node: Span,
    /// Turns: the canary alone, then as many nodes at a time as the policy lets.
    pub turns: u32,
    /// How long all turns take together.
    pub works: Span,
    /// How long they would take if every node went alone.
    pub one_by_one: Span,
    /// When the first node can begin.
    pub begins: Timestamp,
    /// When it is done.
    pub first_ends: Timestamp,
    /// When all of them are.
    pub ends: Timestamp,
}

impl Schedule {
    /// Lets `nodes` nodes go from `now` on, each only when the calendar is open for as long as it
    /// takes. With `canary` the first of them goes alone. `None` if there is no node.
    ///
    /// Nodes of one turn begin together, but the operations of a cluster run one after the other:
    /// each node more makes the turn longer by the windows of two operations, which is the least that
    /// the others wait.
    ///
    /// # Errors
    /// [`Closed`], if some node could never begin.
    pub fn of(
        (policy, calendar): (&Policy, &Calendar),
        nodes: u32,
        canary: bool,
        node: Span,
        now: Timestamp,
    ) -> Result<Option<Self>, Closed> {
        let at_once = policy.max_out.max(1);
        let serial = policy.operation_windows();
        let mut all: Option<Self> = None;
        let mut left = nodes;
        while left > 0 {
            let size = if canary && all.is_none() { 1 } else { at_once.min(left) };
            let at = all.as_ref().map_or(now, |all| all.ends);
            let begins = match calendar.admits(node, at) {
                Ok(()) => at,
                Err(Closed::Until(later)) => later,
                Err(never) => return Err(never),
            };
            let length = node + serial.times(size - 1);
            let ends = begins + length;
            let all = all.get_or_insert(Self {
                node,
                turns: 0,
                works: Span::default(),
                one_by_one: node.times(nodes),
                begins,
                first_ends: begins + node,
                ends,
            });
            all.turns += 1;
            all.works = all.works + length;
            all.ends = ends;
            left -= size;
        }
        Ok(all)
    }

    /// How long it waits between turns for the calendar, once it has begun.
    pub fn waits(&self) -> Span {
        Span::from_secs(self.ends.since(self.begins).as_secs().saturating_sub(self.works.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::{Freeze, Window};

    const HOUR: Span = Span::from_mins(60);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// From noon on.
    fn of(max_out: u32, calendar: &Calendar, nodes: u32, canary: bool) -> Schedule {
        let policy = Policy { max_out, ..Policy::default() };
        let noon = at("2026-07-01T12:00:00Z");
        Schedule::of((&policy, calendar), nodes, canary, HOUR, noon).unwrap().unwrap()
    }

    #[test]
    fn several_at_a_time_take_fewer_turns_behind_the_canary() {
        let always = Calendar::default();
        let one = of(1, &always, 7, true);
        assert_eq!((one.turns, one.works, one.one_by_one), (7, HOUR.times(7), HOUR.times(7)));
        // The windows of two operations: 90 s of absence and 60 s of readiness.
        let three = of(3, &always, 7, true);
        let turn = HOUR + Span::from_secs(2 * 150);
        assert_eq!((three.turns, three.works), (3, HOUR + turn + turn));
        assert_eq!(three.one_by_one, one.works);
        assert_eq!((three.begins, three.first_ends), (one.begins, one.first_ends));
        assert!(three.ends < one.ends && three.waits() == Span::default());
        assert_eq!(of(3, &always, 6, false).turns, 2, "the canary is over already");
        let none = Schedule::of((&Policy::default(), &always), 0, true, HOUR, one.begins);
        assert_eq!(none, Ok(None));
    }

    #[test]
    fn turns_wait_for_windows_and_freezes_and_that_is_no_work() {
        let window = |hours| {
            let (cron, time_zone) = ("0 22 * * *".to_owned(), "UTC".to_owned());
            vec![Window { cron, duration: HOUR.times(hours), time_zone }]
        };
        let mut calendar = Calendar { windows: window(2), freezes: Vec::new() };
        let all = of(1, &calendar, 3, true);
        assert_eq!(all.begins, at("2026-07-01T22:00:00Z"));
        assert_eq!(all.first_ends, at("2026-07-01T23:00:00Z"));
        assert_eq!(all.ends, at("2026-07-02T23:00:00Z"), "two fit into the first night");
        assert_eq!((all.works, all.waits()), (HOUR.times(3), HOUR.times(22)));
        calendar.freezes = vec![Freeze {
            from: at("2026-07-01T00:00:00Z"),
            to: at("2026-07-02T00:00:00Z"),
            why: "quarter end".to_owned(),
        }];
        assert_eq!(of(1, &calendar, 1, true).begins, at("2026-07-02T22:00:00Z"));
        calendar.windows = window(1);
        let (policy, long) = (Policy::default(), HOUR + HOUR);
        let never = Schedule::of((&policy, &calendar), 1, true, long, at("2026-07-01T12:00:00Z"));
        assert_eq!(never, Err(Closed::TooLong(long)));
    }
}
