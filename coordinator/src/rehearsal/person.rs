//! The person who is called when something is held: reads what `explain` says would unblock it, does
//! that, and looks again.

use std::collections::{BTreeMap, BTreeSet};

use rehull_shared::{
    evidence::{Check, Source},
    ids::{ClusterName, NodeName},
    text::sha256_hex,
    time::{Span, Timestamp},
};

use crate::domain::{
    command::{Command, Request},
    gate::Blocker,
    state::{Extent, Fleet, Phase, Subject},
};

/// Times that one thing is retried before the person gives up.
const PATIENCE: u32 = 3;

/// What a person does in the world about something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Sees that Kubean's operator runs again.
    WakeOperator,
    /// Has the operation done again.
    Resubmit,
    /// Corrects the installer's settings and has the host reinstalled.
    FixInstaller,
    /// Gives the host its address back.
    GiveAddressBack,
    /// Stops the kubelet on the host.
    StopKubelet,
    /// Sees that the CSI driver lets the volume go.
    DetachVolume,
    /// Gives a workload one pod more than its budget asks for.
    ScaleUp,
    /// Ends the operation that nobody needs.
    EndForeign,
    /// Sees that pods start on the node.
    StartPods,
    /// Starts the agent on the host.
    StartAgent,
    /// Puts the first control plane last in the inventory again.
    ReorderAgain,
    /// Takes the address of an API server that has ended out of the Service `kubernetes`.
    DropAddress,
    /// Sees that a member of etcd is well again.
    HealMember,
    /// Gives the host the authorities of its cluster, from the backup.
    RestoreAuthorities,
    /// Only asks again.
    Retry,
    /// Accepts what a person may accept.
    Accept,
    /// Goes on without the node.
    Abort,
}

/// What a reason must be for a remedy to help.
enum Reason {
    No(Check),
    NobodyEnrolled,
    NeverRan,
    AgentSilent,
}

/// A row: the first that fits counts. What `explain` must list for it, by what the lines contain.
type Row = (Reason, Remedy, &'static [&'static str]);

const RETRY: &str = "rehull migrate retry ";
const RESUBMIT: &str = " --resubmit";
const ABORT: &str = "rehull migrate abort ";
const APPROVE: &str = "rehull migrate approve ";

const ROWS: &[Row] = &[
    (Reason::NeverRan, Remedy::WakeOperator, &["get job,pod -l job-name=", RESUBMIT]),
    (Reason::No(Check::NodeAbsent), Remedy::Resubmit, &[RESUBMIT]),
    (Reason::NobodyEnrolled, Remedy::FixInstaller, &["journalctl -u rehull-agent", RESUBMIT]),
    (Reason::No(Check::OsIsTarget), Remedy::FixInstaller, &[RESUBMIT]),
    (
        Reason::No(Check::AddressesKept),
        Remedy::GiveAddressBack,
        &["give the host its address back", RETRY],
    ),
    (Reason::No(Check::KubeletStopped), Remedy::StopKubelet, &["systemctl stop kubelet", RETRY]),
    (
        Reason::No(Check::VolumesDetached),
        Remedy::DetachVolume,
        &["get volumeattachments", "look at the CSI driver's controller", RETRY],
    ),
    (Reason::No(Check::DisruptionsAllowed), Remedy::ScaleUp, &["get pdb -A", RETRY]),
    (Reason::No(Check::NoForeignOperation), Remedy::EndForeign, &["delete it if nobody", RETRY]),
    (Reason::No(Check::DaemonPodsReady), Remedy::StartPods, &["get pods -A", RETRY]),
    (
        Reason::No(Check::InventoryReordered),
        Remedy::ReorderAgain,
        &["rehull inventory check hosts.yml", RETRY],
    ),
    (Reason::No(Check::ApiServersListed), Remedy::DropAddress, &["get endpointslices", RETRY]),
    (Reason::No(Check::IdentityKept), Remedy::RestoreAuthorities, &["rehull etcd ", RETRY]),
    (Reason::No(Check::EtcdHealthy), Remedy::HealMember, &["rehull etcd ", RETRY]),
    (Reason::AgentSilent, Remedy::StartAgent, &["systemctl status rehull-agent", RETRY]),
];

/// One thing that a person did.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) cluster: ClusterName,
    pub(super) subject: Subject,
    pub(super) remedy: Remedy,
    pub(super) at: Timestamp,
    /// The lines of `explain` that the person went by, without what is said behind them.
    lines: Vec<String>,
}

/// What `explain` says would unblock something.
pub(super) type Explain<'a> = &'a dyn Fn(&ClusterName, &Subject) -> Vec<String>;

/// What a person comes to.
pub(super) enum Resolve {
    /// Does something about it.
    Act(Deed),
    /// Nothing helps: goes on without it, where that is possible.
    GiveUp(Option<Deed>),
}

/// The person.
pub(super) struct Person {
    seed: String,
    tries: BTreeMap<(ClusterName, Subject), u32>,
    /// Lines by which something was accepted.
    accepted: BTreeSet<String>,
    /// What `explain` should have listed, and did not.
    pub(super) missing: Vec<String>,
}

impl Person {
    pub(super) fn new(seed: &str) -> Self {
        Self {
            seed: seed.to_owned(),
            tries: BTreeMap::new(),
            accepted: BTreeSet::new(),
            missing: Vec::new(),
        }
    }

    /// What is to be done now.
    pub(super) fn looks(
        &mut self,
        fleet: &Fleet,
        now: Timestamp,
        explain: Explain<'_>,
    ) -> Vec<Resolve> {
        let mut resolves = Vec::new();
        for (cluster, migration) in &fleet.migrations {
            for (node, track) in migration.tracks() {
                let Phase::Held { why, .. } = &track.phase else { continue };
                let subject = Subject::of(node);
                if now < track.since + self.delay(&subject) {
                    continue;
                }
                let listed = explain(cluster, &subject);
                let accepted = listed.iter().filter(|line| line.starts_with(APPROVE)).cloned();
                // Accepting the same once more would help no more than the first time.
                let accepted: Vec<String> =
                    accepted.filter(|line| self.accepted.insert(line.clone())).collect();
                let tries = self.tries.entry((cluster.clone(), subject.clone())).or_default();
                *tries += u32::from(accepted.is_empty());
                let (remedy, lines) = match accepted.is_empty() {
                    true => remedy(why, &listed, &mut self.missing),
                    false => {
                        let retry = chosen(&[RETRY], &listed).unwrap_or_default();
                        (Remedy::Accept, accepted.into_iter().chain(retry).collect())
                    }
                };
                let deed = Deed { cluster: cluster.clone(), subject, remedy, at: now, lines };
                // Who does nothing but ask again need not ask often.
                let patience = if remedy == Remedy::Retry { 1 } else { PATIENCE };
                resolves.push(match *tries > patience {
                    true => Resolve::GiveUp(deed.instead(explain)),
                    false => Resolve::Act(deed),
                });
            }
        }
        resolves
    }

    /// How long the person takes to come: 2 to 6 minutes.
    fn delay(&self, subject: &Subject) -> Span {
        let hash = sha256_hex(format!("{}/person/{subject}", self.seed).as_bytes());
        Span::from_secs(120 + u32::from_str_radix(&hash[..4], 16).unwrap_or(0) % 240)
    }
}

/// What the reasons ask for: a person goes by them, and by what is listed, and by nothing else. What
/// should be listed and is not goes to `missing`.
fn remedy(why: &[Blocker], listed: &[String], missing: &mut Vec<String>) -> (Remedy, Vec<String>) {
    let fits = |reason: &Reason| {
        why.iter().any(|why| match (reason, why) {
            (Reason::No(asked), Blocker::Contradicted { check, .. }) => check == asked,
            (Reason::NobodyEnrolled, Blocker::NotEnrolled { .. })
            | (Reason::NeverRan, Blocker::Operation { extent: Extent::NotStarted, .. })
            | (Reason::AgentSilent, Blocker::Unknown { source: Source::Agent(_), .. }) => true,
            _ => false,
        })
    };
    for (_, remedy, wanted) in ROWS.iter().filter(|(reason, ..)| fits(reason)) {
        match chosen(wanted, listed) {
            Ok(lines) => return (*remedy, lines),
            Err(why) => missing.push(why),
        }
    }
    (Remedy::Retry, chosen(&[RETRY], listed).unwrap_or_default())
}

/// The lines that a person types or does: `explain` must list each of them.
fn chosen(wanted: &[&str], listed: &[String]) -> Result<Vec<String>, String> {
    let line = |wanted: &&str| {
        let fits = |line: &&String| {
            let again = line.contains(RESUBMIT);
            line.contains(wanted) && (again == (*wanted == RESUBMIT))
        };
        let found = listed.iter().find(fits);
        found
            .map(|line| line.split("  # ").next().unwrap_or(line).to_owned())
            .ok_or_else(|| format!("explain lists nothing with {wanted:?}: {listed:?}"))
    };
    wanted.iter().map(line).collect()
}

impl Deed {
    /// The node it is about.
    pub(super) fn node(&self) -> Option<&NodeName> {
        self.subject.node()
    }

    /// Whether it is about this node.
    pub(super) fn is_about(&self, node: &str) -> bool {
        self.node().is_some_and(|name| name.as_str() == node)
    }

    /// The command that goes with it.
    pub(super) fn command(&self) -> Command {
        let resubmit = self.lines.iter().any(|line| line.contains(RESUBMIT));
        let (subject, by) = (self.subject.clone(), "operator".to_owned());
        let request = match self.remedy {
            Remedy::Abort => Request::Abort { subject, by },
            _ => Request::Retry { subject, resubmit, by },
        };
        Command::Of(self.cluster.clone(), request)
    }

    /// The numbers of the items that are accepted.
    pub(super) fn items(&self) -> Vec<&str> {
        let lines = self.lines.iter().filter(|_| self.remedy == Remedy::Accept);
        lines.filter_map(|line| line.split_once(" --item ")?.1.split(' ').next()).collect()
    }

    /// What is done where it does not help: the node is left out, if `explain` says that it can be.
    pub(super) fn instead(self, explain: Explain<'_>) -> Option<Self> {
        self.node()?;
        let lines = chosen(&[ABORT], &explain(&self.cluster, &self.subject)).ok()?;
        Some(Self { remedy: Remedy::Abort, lines, ..self })
    }

    /// The same as a person would say and type it.
    pub(super) fn words(&self) -> String {
        let before = match self.remedy {
            Remedy::WakeOperator => "Kubean's operator was restarted; ",
            Remedy::FixInstaller => "the installer was given the right settings; ",
            Remedy::StartAgent => "the agent was started; ",
            Remedy::ReorderAgain => "the first control plane was put last again; ",
            Remedy::DropAddress => "the address was taken out of the Service; ",
            Remedy::HealMember => "the member was given the room that it lacked; ",
            Remedy::RestoreAuthorities => "the authorities were restored from the backup; ",
            _ => "",
        };
        format!("{before}{}", self.lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_does_what_is_listed_and_nothing_else() {
        let listed = [
            "ssh 10.0.0.1 systemctl stop kubelet  # why".to_owned(),
            "rehull migrate retry c n --resubmit  # again".to_owned(),
            "rehull migrate retry c n  # look again".to_owned(),
        ];
        let words = chosen(&["stop kubelet", RETRY], &listed).unwrap();
        assert_eq!(words, ["ssh 10.0.0.1 systemctl stop kubelet", "rehull migrate retry c n"]);
        assert_eq!(chosen(&[RESUBMIT], &listed).unwrap(), ["rehull migrate retry c n --resubmit"]);
        assert!(chosen(&["kubectl"], &listed).unwrap_err().contains("kubectl"));
    }
}
