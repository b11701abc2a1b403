//! The person who is called when something is held: reads why, does one thing about it, retries.

use std::collections::BTreeMap;

use rehull_shared::{
    evidence::Check,
    ids::{ClusterName, NodeName},
    text::sha256_hex,
    time::{Span, Timestamp},
};

use crate::domain::{
    command::{Command, Request},
    gate::Blocker,
    state::{Fleet, Phase, Subject},
};

/// Times that one thing is retried before the person gives up.
const PATIENCE: u32 = 3;

/// What a person does about something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Has the operation done again.
    Resubmit,
    /// Stops the kubelet on the host.
    StopKubelet,
    /// Corrects the installer's settings and has the host reinstalled.
    FixInstaller,
    /// Asks again.
    Retry,
}

/// One thing that a person did.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) cluster: ClusterName,
    pub(super) subject: Subject,
    pub(super) remedy: Remedy,
}

/// The person.
pub(super) struct Person {
    seed: String,
    tries: BTreeMap<(ClusterName, Subject), u32>,
}

impl Person {
    pub(super) fn new(seed: &str) -> Self {
        Self { seed: seed.to_owned(), tries: BTreeMap::new() }
    }

    /// What is to be done now. `Err` names what no retry has helped.
    pub(super) fn looks(&mut self, fleet: &Fleet, now: Timestamp) -> Result<Vec<Deed>, String> {
        let mut deeds = Vec::new();
        for (cluster, migration) in &fleet.migrations {
            let nodes = migration.nodes.iter();
            let tracks = nodes.map(|n| (Subject::Node(n.planned.name.clone()), &n.track));
            for (subject, track) in
                std::iter::once((Subject::Cluster, &migration.track)).chain(tracks)
            {
                let Phase::Held { why, .. } = &track.phase else { continue };
                if now < track.since + self.delay(&subject) {
                    continue;
                }
                let tries = self.tries.entry((cluster.clone(), subject.clone())).or_default();
                *tries += 1;
                if *tries > PATIENCE {
                    return Err(format!("{cluster}/{subject} is still held: {why:?}"));
                }
                let (cluster, remedy) = (cluster.clone(), remedy(why));
                deeds.push(Deed { cluster, subject, remedy });
            }
        }
        Ok(deeds)
    }

    /// How long the person takes to come: 2 to 6 minutes.
    fn delay(&self, subject: &Subject) -> Span {
        let hash = sha256_hex(format!("{}/person/{subject}", self.seed).as_bytes());
        Span::from_secs(120 + u32::from_str_radix(&hash[..4], 16).unwrap_or(0) % 240)
    }
}

/// What the reasons ask for: a person goes by what `explain` says, and by nothing else.
fn remedy(why: &[Blocker]) -> Remedy {
    let says_no = |asked: Check| {
        why.iter().any(|why| matches!(why, Blocker::Contradicted { check, .. } if *check == asked))
    };
    if says_no(Check::NodeAbsent) {
        Remedy::Resubmit
    } else if says_no(Check::OsIsTarget) {
        Remedy::FixInstaller
    } else if says_no(Check::KubeletStopped) {
        Remedy::StopKubelet
    } else {
        Remedy::Retry
    }
}

impl Deed {
    /// The node it is about.
    pub(super) fn node(&self) -> Option<&NodeName> {
        match &self.subject {
            Subject::Cluster => None,
            Subject::Node(node) => Some(node),
        }
    }

    /// The command that goes with it.
    pub(super) fn command(&self) -> Command {
        let resubmit = matches!(self.remedy, Remedy::Resubmit | Remedy::FixInstaller);
        let (subject, by) = (self.subject.clone(), "operator".to_owned());
        Command::Of(self.cluster.clone(), Request::Retry { subject, resubmit, by })
    }

    /// The same as a person would say and type it.
    pub(super) fn words(&self) -> String {
        let (cluster, subject) = (&self.cluster, &self.subject);
        match self.remedy {
            Remedy::Resubmit => format!("rehull migrate retry {cluster} {subject} --resubmit"),
            Remedy::StopKubelet => {
                format!(
                    "ssh {subject} systemctl stop kubelet; rehull migrate retry {cluster} {subject}"
                )
            }
            Remedy::FixInstaller => format!(
                "the installer was given the right image; rehull migrate retry {cluster} {subject} \
                 --resubmit"
            ),
            Remedy::Retry => format!("rehull migrate retry {cluster} {subject}"),
        }
    }
}
