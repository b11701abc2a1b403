//! Events of about 300 bytes, the same for the same number: answers about 10 000 nodes of 100
//! clusters, with a digest and a trace that no compression shortens.

use rehull::{
    domain::{
        event::{Event, Recorded},
        state::Subject,
    },
    log,
};
use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict},
    ids::{Epoch, Round},
    time::Timestamp,
};
use rehull_tests::chance::Chance;

const CHECKS: [Check; 8] = [
    Check::NodesReady,
    Check::SystemPodsReady,
    Check::NodeAbsent,
    Check::LeaseStopped,
    Check::NoPodsBound,
    Check::KubeletStopped,
    Check::DaemonPodsReady,
    Check::NodeReady,
];

/// The event of this number.
pub(crate) fn event(number: u64) -> Recorded {
    let mut chance = Chance(number);
    let r = chance.number();
    let host = r % 10_000;
    let at = Timestamp::from_millis(1_790_000_000_000 + number as i64 * 20);
    let node = format!("worker-{host:05}").parse().unwrap();
    let source = match r >> 60 {
        0..4 => Source::Agent(format!("worker-{host:05}").parse().unwrap()),
        _ => Source::ApiServer(format!("10.{}.{}.{}:6443", host % 100, r >> 40 & 3, r >> 44 & 7)),
    };
    let seen = format!(
        "kubelet.service of worker-{host:05} runs v1.27.{} since {} ms, image \
         sha256:{:016x}{:016x}{:016x}{:016x}, trace {:016x}, lease renewed {} ms ago",
        r % 9,
        r % 90_000,
        chance.number(),
        chance.number(),
        chance.number(),
        chance.number(),
        chance.number(),
        r % 9_000
    );
    let evidence = Evidence {
        round: Round((r >> 20) as u32 % 500),
        check: CHECKS[(r >> 30) as usize % CHECKS.len()],
        source,
        verdict: if r >> 33 & 7 == 0 { Verdict::Fail(seen) } else { Verdict::Pass(seen) },
        observed_at: at,
        generation: None,
    };
    Recorded {
        at,
        epoch: Epoch(1 + number / 1_000_000),
        cluster: Some(format!("cluster-{:02}", host % 100).parse().unwrap()),
        event: Event::EvidenceRecorded { subject: Subject::Node(node), evidence },
    }
}

/// Bytes of one, as it is stored.
pub(crate) fn mean_bytes() -> f64 {
    let mut stored = Vec::new();
    const SOME: u64 = 10_000;
    (0..SOME).for_each(|number| log::encode(&event(number), &mut stored));
    stored.len() as f64 / SOME as f64
}
