//! Maintenance windows and freezes: when nodes begin, and that nothing under way is cut short.

use rehull::domain::{
    calendar::{Freeze, Window},
    gate::Gate,
    state::{Phase, Subject},
};
use rehull_shared::time::{Span, Timestamp};
use rehull_tests::story::{Story, on, plan};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A story with windows from 22:00 to 01:00, told from this time on, whose nodes may begin.
fn nightly(now: &str) -> Story {
    let mut plan = plan();
    plan.calendar.windows = vec![Window {
        cron: "0 22 * * *".to_owned(),
        duration: Span::from_mins(180),
        time_zone: "UTC".to_owned(),
    }];
    let mut story = Story::with(plan, &["n1", "n2"]);
    story.now = at(now);
    story.passes(&Subject::Cluster);
    story.does_what_a_gate_needs("n1", Gate::Backup);
    story.passes(&Subject::Cluster);
    assert_eq!(*story.phase(&Subject::Cluster), Phase::Working);
    story
}

#[test]
fn a_node_begins_only_if_it_is_expected_to_end_in_its_window() {
    let story = nightly("2023-11-14T22:30:00Z");
    assert!(story.node("n1").began_at.is_some(), "two and a half hours are left");
    let mut story = nightly("2023-11-14T23:00:01Z");
    story.waits(Span::from_mins(22 * 60 + 59));
    assert_eq!(*story.phase(&on("n1")), Phase::Planned, "less than two hours were left");
    story.waits(Span::from_mins(2));
    let begun = story.node("n1").began_at.expect("it has begun");
    assert!(begun.since(at("2023-11-15T22:00:00Z")) <= Span::from_secs(5), "{begun}");
}

#[test]
fn how_long_a_node_takes_is_learnt_from_the_ones_before() {
    let mut story = nightly("2023-11-14T22:00:00Z");
    assert_eq!(story.migration().node_length(), Span::from_mins(120));
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    let begun = story.node("n1").began_at.unwrap();
    assert_eq!(story.migration().node_length(), story.now.since(begun));
    assert!(story.node("n2").began_at.is_some(), "it fits, for it takes less than was planned");
}

#[test]
fn nothing_under_way_is_cut_short_by_the_end_of_a_window_or_by_a_freeze() {
    let mut plan = plan();
    let (from, to) = (at("2023-11-15T00:30:00Z"), at("2023-11-20T00:00:00Z"));
    plan.calendar.freezes = vec![Freeze { from, to, why: "quarter end".to_owned() }];
    let mut story = Story::with(plan, &["n1", "n2"]);
    story.reaches("n1", Gate::Reinstall);
    story.now = at("2023-11-16T00:00:00Z");
    story.reaches("n1", Gate::Soak);
    story.passes(&on("n1"));
    assert_eq!(*story.phase(&on("n1")), Phase::Done);
    story.waits(Span::from_mins(60));
    assert_eq!(*story.phase(&on("n2")), Phase::Planned);
    story.now = to;
    story.waits(Span::from_secs(5));
    assert!(story.node("n2").began_at.is_some());
}
