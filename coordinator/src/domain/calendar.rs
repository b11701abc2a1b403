//! When nodes may begin: maintenance windows and freezes. A function of the time that is given; the
//! time zones are those that the program was built with.

use std::{fmt, str::FromStr, sync::LazyLock};

use croner::Cron;
use jiff::{Zoned, tz::TimeZoneDatabase};
use rehull_shared::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Steps of a search for an open window: about three years of daily windows.
const STEPS_MAX: u32 = 1_000;

/// The time zones that are part of the program.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// When nodes may begin. Without windows: always, but in freezes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// A node lies wholly in one of them.
    pub windows: Vec<Window>,
    /// And in none of these.
    pub freezes: Vec<Freeze>,
}

/// A stretch of time that comes again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// When it opens, in the five fields of cron, as in `0 22 * * MON-FRI`.
    pub cron: String,
    /// How long it stays open, as in `6h`.
    #[schemars(with = "String")]
    pub duration: Span,
    /// Name of the time zone in which the fields are read, as in `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
}

/// A stretch of time in which no node may be under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freeze {
    /// Its beginning, RFC 3339.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Its end, RFC 3339.
    #[schemars(with = "String")]
    pub to: Timestamp,
    /// Why; shown to whoever waits.
    #[serde(default)]
    pub why: String,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "window: {} for {} ({})", self.cron, self.duration, self.time_zone)
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, why } = self;
        let colon = if why.is_empty() { "" } else { ": " };
        write!(f, "freeze: {from} to {to}{colon}{why}")
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Why nothing may begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It may at this time.
    Until(Timestamp),
    /// No window is as long as this, or all of them lie in freezes.
    TooLong(Span),
}

impl Calendar {
    /// Whether every window can be understood, and every freeze ends after it begins.
    ///
    /// # Errors
    /// The path of the field in a document, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (number, window) in self.windows.iter().enumerate() {
            let at = |(field, why)| (format!("spec.windows[{number}].{field}"), why);
            window.check().map_err(at)?;
        }
        for (number, freeze) in self.freezes.iter().enumerate() {
            if freeze.to <= freeze.from {
                let why = format!("is not after from, {}", freeze.from);
                return Err((format!("spec.freezes[{number}].to"), why));
            }
        }
        Ok(())
    }

    /// Whether something that takes so long may begin now.
    pub fn is_open(&self, length: Span, now: Timestamp) -> bool {
        let open = |window: &Window| window.is_open(length, now);
        self.freeze(length, now).is_none()
            && (self.windows.is_empty() || self.windows.iter().any(open))
    }

    /// The freeze that something which takes so long would meet.
    pub fn freeze(&self, length: Span, now: Timestamp) -> Option<&Freeze> {
        self.freezes.iter().find(|freeze| freeze.from < now + length && now < freeze.to)
    }

    /// The same; if not now, when.
    ///
    /// # Errors
    /// [`Closed`], with the earliest time at which it may.
    pub fn admits(&self, length: Span, now: Timestamp) -> Result<(), Closed> {
        let mut at = now;
        let fitting = self.windows.iter().filter(|window| window.duration >= length);
        for _ in 0..STEPS_MAX {
            if self.is_open(length, at) {
                return if at == now { Ok(()) } else { Err(Closed::Until(at)) };
            }
            let thaw = self.freeze(length, at).map(|freeze| freeze.to);
            let opens = || fitting.clone().filter_map(|window| window.opens(at)).min();
            match thaw.or_else(opens) {
                Some(later) => at = later,
                None => break,
            }
        }
        Err(Closed::TooLong(length))
    }
}

impl Window {
    /// Whether its fields can be read.
    ///
    /// # Errors
    /// The field, as in a document, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.pattern()?;
        ZONES.get(&self.time_zone).map_err(|error| ("timeZone", error.to_string()))?;
        match self.duration.as_secs() {
            0 => Err(("duration", "is no time at all".to_owned())),
            _ => Ok(()),
        }
    }

    fn pattern(&self) -> Result<Cron, (&'static str, String)> {
        if self.cron.split_whitespace().count() != 5 {
            let why = format!("{:?} has not the five fields of cron", self.cron);
            return Err(("cron", why));
        }
        Cron::from_str(&self.cron).map_err(|error| ("cron", error.to_string()))
    }

    fn at(&self, time: Timestamp) -> Option<Zoned> {
        let time = jiff::Timestamp::from_millisecond(time.as_millis()).ok()?;
        Some(time.to_zoned(ZONES.get(&self.time_zone).ok()?))
    }

    fn is_open(&self, length: Span, now: Timestamp) -> bool {
        let opened = self.opened(now).filter(|_| length <= self.duration);
        opened.is_some_and(|opened| now + length <= opened + self.duration)
    }

    /// When it opened last, now included.
    fn opened(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.pattern().ok()?.find_previous_occurrence(&self.at(now)?, true);
        found.ok().map(|time| Timestamp::from_millis(time.timestamp().as_millisecond()))
    }

    /// When it opens next, now excluded.
    fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.pattern().ok()?.find_next_occurrence(&self.at(now)?, false);
        found.ok().map(|time| Timestamp::from_millis(time.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(cron: &str, hours: u32, zone: &str) -> Window {
        let (cron, time_zone) = (cron.to_owned(), zone.to_owned());
        Window { cron, duration: Span::from_mins(60 * hours), time_zone }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn nights() -> Calendar {
        Calendar { windows: vec![window("0 22 * * *", 6, "Europe/Berlin")], freezes: Vec::new() }
    }

    fn until(text: &str) -> Result<(), Closed> {
        Err(Closed::Until(at(text)))
    }

    const HOUR: Span = Span::from_mins(60);

    #[test]
    fn what_would_outlast_its_window_does_not_begin() {
        let two = HOUR + HOUR;
        // Berlin is two hours ahead in summer: the window is 20:00 to 02:00 UTC.
        for (now, expected) in [
            ("2026-07-01T19:59:59Z", until("2026-07-01T20:00:00Z")),
            ("2026-07-01T20:00:00Z", Ok(())),
            ("2026-07-02T00:00:00Z", Ok(())),
            ("2026-07-02T00:00:01Z", until("2026-07-02T20:00:00Z")),
            ("2026-01-01T20:30:00Z", until("2026-01-01T21:00:00Z")),
        ] {
            assert_eq!(nights().admits(two, at(now)), expected, "{now}");
        }
        let long = Span::from_mins(361);
        assert_eq!(nights().admits(long, at("2026-07-01T20:00:00Z")), Err(Closed::TooLong(long)));
    }

    #[test]
    fn a_freeze_closes_everything_and_what_would_reach_into_it() {
        let mut calendar = nights();
        calendar.freezes.push(Freeze {
            from: at("2026-07-01T21:00:00Z"),
            to: at("2026-07-03T22:00:00Z"),
            why: "quarter end".to_owned(),
        });
        let admits = |now| calendar.admits(HOUR, at(now));
        assert_eq!(admits("2026-07-01T20:00:00Z"), Ok(()), "it ends as the freeze begins");
        assert_eq!(admits("2026-07-01T20:00:01Z"), until("2026-07-03T22:00:00Z"));
        assert_eq!(admits("2026-07-02T12:00:00Z"), until("2026-07-03T22:00:00Z"));
        calendar.windows.clear();
        assert_eq!(calendar.admits(HOUR, at("2026-07-04T12:00:00Z")), Ok(()));
    }

    #[test]
    fn the_night_in_which_the_clock_changes_is_as_long_as_it_is() {
        // In the night to 29 March 2026 Berlin skips from 02:00 to 03:00.
        let calendar = nights();
        let five = Span::from_mins(300);
        assert_eq!(calendar.admits(five, at("2026-03-28T22:00:00Z")), Ok(()));
        assert_eq!(
            calendar.admits(five, at("2026-03-28T22:00:01Z")),
            until("2026-03-29T20:00:00Z"),
            "from then on the window opens at 20:00 UTC"
        );
    }

    #[test]
    fn of_several_windows_any_one_will_do_and_none_means_always() {
        let windows = vec![window("0 22 * * SAT", 2, "UTC"), window("0 1 * * *", 1, "UTC")];
        let calendar = Calendar { windows, freezes: Vec::new() };
        let now = at("2026-07-01T12:00:00Z"); // a Wednesday
        assert_eq!(calendar.admits(HOUR, now), until("2026-07-02T01:00:00Z"));
        assert_eq!(calendar.admits(HOUR + HOUR, now), until("2026-07-04T22:00:00Z"));
        assert_eq!(Calendar::default().admits(HOUR, now), Ok(()));
    }

    #[test]
    fn fields_that_cannot_be_read_are_named() {
        for (cron, zone, hours, field) in [
            ("0 22 * *", "UTC", 1, "cron"),
            ("0 0 22 * * *", "UTC", 1, "cron"),
            ("0 25 * * *", "UTC", 1, "cron"),
            ("0 22 * * *", "Mars/Olympus", 1, "timeZone"),
            ("0 22 * * *", "UTC", 0, "duration"),
        ] {
            let found = window(cron, hours, zone).check().unwrap_err();
            assert_eq!(found.0, field, "{found:?}");
        }
        assert_eq!(window("0 22 * * MON-FRI", 1, "Asia/Shanghai").check(), Ok(()));
    }
}
