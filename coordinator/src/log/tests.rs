//! What the log promises, held against both of its stores.

use std::path::Path;

use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict},
    ids::{Epoch, Round},
    time::Timestamp,
};

use super::{Error, Head, Log, codec, file::File, pack, store::Store};
use crate::domain::{
    event::{CopiedPart, Event, Recorded},
    state::Subject,
};

/// An event that says `text`.
fn said(number: u64, text: &str) -> Recorded {
    let at = Timestamp::from_millis(1_790_000_000_000 + number as i64);
    let evidence = Evidence {
        round: Round(number as u32),
        check: Check::NodeReady,
        source: Source::Management,
        verdict: Verdict::Pass(text.to_owned()),
        observed_at: at,
        generation: None,
    };
    let cluster = Some("prod".parse().unwrap());
    let event = Event::EvidenceRecorded { subject: Subject::Cluster, evidence };
    Recorded { at, epoch: Epoch(3), cluster, event }
}

/// An event of about `bytes` bytes that lz4 cannot make smaller.
fn large(number: u64, bytes: usize) -> Recorded {
    let mut state = number + 1;
    let text = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 94)
    });
    let text = text.take(bytes).collect();
    let (node, name) = ("n1".parse().unwrap(), "op".to_owned());
    let event = Event::OperationCopied { node, name, part: CopiedPart::Log, number: 1, text };
    Recorded { event, ..said(number, "") }
}

fn contents(log: &Log) -> Vec<Recorded> {
    let mut events = Vec::new();
    log.replay(|seq, recorded| {
        events.push(recorded);
        assert_eq!(seq, events.len() as u64);
    })
    .unwrap();
    events
}

type Attach = fn(&Path) -> Result<Log, Error>;

const STORES: [Attach; 2] = [Log::attach, Log::attach_file];

#[test]
fn what_was_appended_is_there_after_opening_again() {
    for attach in STORES {
        let dir = tempfile::tempdir().unwrap();
        let mut log = attach(dir.path()).unwrap();
        assert_eq!(log.head(), Head::default());
        let groups = [
            vec![said(1, "a")],
            (2..200).map(|number| said(number, &"word ".repeat(number as usize % 50))).collect(),
            vec![large(200, 60_000), said(201, "b"), large(202, 20_000)],
            vec![],
            vec![said(203, "c")],
        ];
        for group in &groups {
            let before = log.head().seq;
            assert_eq!(log.append(group).unwrap(), before + group.len() as u64);
        }
        let head = log.head();
        assert_eq!(head.seq, 203);
        assert_eq!(contents(&log), groups.concat());
        drop(log);
        let log = attach(dir.path()).unwrap();
        assert_eq!(log.head(), head);
        assert_eq!(contents(&log), groups.concat());
        let mut told = Vec::new();
        assert_eq!(log.verify(|read, of| told.push((read, of))).unwrap(), head);
        assert_eq!(told.last(), Some(&(203, 203)));
    }
}

#[test]
fn a_reader_goes_on_from_any_number() {
    for attach in STORES {
        let dir = tempfile::tempdir().unwrap();
        let mut log = attach(dir.path()).unwrap();
        assert!(log.read(0).unwrap().is_empty());
        let all: Vec<Recorded> = (1..=2_000)
            .map(|number| match number % 700 {
                0 => large(number, 60_000),
                length => said(number, &"word ".repeat(length as usize % 50)),
            })
            .collect();
        for group in all.chunks(311) {
            log.append(group).unwrap();
        }
        for from in [0, 1, 2, 311, 312, 700, 701, 1_399, 1_999, 2_000] {
            let (mut next, mut found) = (from, Vec::new());
            loop {
                let events = log.read(next).unwrap();
                let Some((last, _)) = events.last() else { break };
                next = last + 1;
                found.extend(events);
            }
            let first = from.max(1);
            assert!(found.iter().map(|(seq, _)| *seq).eq(first..=2_000), "from {from}");
            let events = found.into_iter().map(|(_, recorded)| recorded);
            assert!(events.eq(all[first as usize - 1..].iter().cloned()), "from {from}");
        }
        assert!(log.read(2_001).unwrap().is_empty());
        assert!(log.read(u64::MAX).unwrap().is_empty());
    }
}

#[test]
fn an_event_that_is_too_large_is_refused_and_nothing_is_written() {
    for attach in STORES {
        let dir = tempfile::tempdir().unwrap();
        let mut log = attach(dir.path()).unwrap();
        log.append(&[large(1, super::EVENT_BYTES_MAX - 200)]).unwrap();
        let head = log.head();
        let refused = log.append(&[said(2, "small"), large(3, super::EVENT_BYTES_MAX)]);
        assert!(
            matches!(refused, Err(Error::TooLarge { bytes }) if bytes > super::EVENT_BYTES_MAX)
        );
        assert_eq!(log.head(), head);
        log.append(&[said(2, "next")]).unwrap();
        assert_eq!(contents(&log).len(), 2);
    }
}

/// What a log says that holds one pack, made of `raw` by a program that is not this one.
fn opened_with(version: Option<u8>, raw: &[u8]) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut pack = pack::seal(&mut Head::default(), 1, raw);
    pack[0] = version.unwrap_or(pack[0]);
    let mut store = File::open(dir.path()).unwrap();
    store.put(&pack).and_then(|()| store.sync()).unwrap();
    drop(store);
    Log::attach_file(dir.path())?.replay(|_, _| ())
}

#[test]
fn what_a_newer_program_wrote_is_not_called_damage() {
    let stored = |change: fn(&mut Vec<u8>)| {
        let (mut event, mut raw) = (Vec::new(), Vec::new());
        codec::encode(&said(1, "a"), &mut event);
        change(&mut event);
        codec::put_length(event.len(), &mut raw);
        raw.extend_from_slice(&event);
        raw
    };
    let known = stored(|_| ());
    let of_a_new_kind = stored(|event| {
        let name = b"EvidenceRecorded";
        let at = event.windows(name.len()).position(|bytes| bytes == name).unwrap();
        event[at] = b'X';
    });
    // One more field behind those of the record, whose array had four.
    let with_a_new_field = stored(|event| {
        event[0] += 1;
        event.push(0);
    });
    assert!(opened_with(None, &known).is_ok());
    for (version, raw) in [(Some(9), &known), (None, &of_a_new_kind), (None, &with_a_new_field)] {
        match opened_with(version, raw) {
            Err(Error::Newer { seq: 1, .. }) => (),
            other => panic!("{version:?}: {other:?}"),
        }
    }
}
