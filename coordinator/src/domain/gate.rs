//! The gates: one table, read by the judge, the collector, `explain` and the documentation.

use std::collections::BTreeMap;

use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict, Witness},
    ids::{NodeName, Round},
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};

use super::{
    plan::Plan,
    policy::Policy,
    state::{Extent, Outcome},
};

/// A named set of needs. The order is the path of a worker; G numbers are the domain reference's.
///
/// Stored in the log by name: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// The cluster may be touched at all.
    ClusterPreflight,
    /// What a recovery needs is exported.
    Backup,
    /// G1: this node may be touched.
    Preflight,
    /// G2: what the node was is recorded, off the node.
    Snapshot,
    /// The node takes no new pods.
    Cordon,
    /// G3: the node's pods are elsewhere.
    Drain,
    /// G4: the remove operation may be submitted. Behind it lies the point of no return.
    RemoveAdmission,
    /// G5: the node is gone from the cluster, and dead on its host.
    Removal,
    /// G6: the disk may be wiped.
    Reinstall,
    /// G7: the host is the same machine with the target OS, fit to join.
    Os,
    /// G8: the join operation may be submitted.
    JoinAdmission,
    /// G9: the node is back, and works.
    Join,
    /// G10: the node carries what it carried before.
    Metadata,
    /// G11: nothing got worse.
    Soak,
    /// The cluster is finished.
    Finalize,
    /// A node that was given up before the point of no return is as it was.
    Abort,
    /// Nothing is left behind of a migration that was given up.
    ClusterAbort,
    /// A removed node may be joined again with the system that it still has.
    RejoinAdmission,
    /// It is back with that system, and works.
    Rejoin,
}

/// One row of the table: a statement, who must confirm it, how fresh, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Need {
    /// The statement.
    pub check: Check,
    /// Who must confirm it. Every witness of the kind must; one that is silent blocks.
    pub witness: Witness,
    /// How old the newest confirmation may be when the gate is judged.
    pub age: Age,
    /// For how long it must have been confirmed without a break.
    pub window: Window,
}

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// 30 s: for what others change at any moment.
    Brief,
    /// [`Policy::evidence_max_age`].
    Usual,
}

/// For how long a statement must have been true without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One look is enough.
    Once,
    /// [`Policy::absence_window`]: nothing proves an absence but time.
    Absence,
    /// [`Policy::lease_window`].
    Lease,
    /// [`Policy::ready_window`].
    Ready,
    /// [`Policy::soak`], or [`Policy::canary_soak`] for the canary.
    Soak,
}

const fn need(check: Check, witness: Witness, age: Age, window: Window) -> Need {
    Need { check, witness, age, window }
}

const fn once(check: Check, witness: Witness) -> Need {
    need(check, witness, Age::Usual, Window::Once)
}

const fn soaked(check: Check, witness: Witness) -> Need {
    need(check, witness, Age::Usual, Window::Soak)
}

impl Gate {
    /// Every gate, in the order of the path.
    pub const ALL: [Gate; 19] = [
        Gate::ClusterPreflight,
        Gate::Backup,
        Gate::Preflight,
        Gate::Snapshot,
        Gate::Cordon,
        Gate::Drain,
        Gate::RemoveAdmission,
        Gate::Removal,
        Gate::Reinstall,
        Gate::Os,
        Gate::JoinAdmission,
        Gate::Join,
        Gate::Metadata,
        Gate::Soak,
        Gate::Finalize,
        Gate::Abort,
        Gate::ClusterAbort,
        Gate::RejoinAdmission,
        Gate::Rejoin,
    ];

    /// What must hold. Facts and reasons: domain reference 5.3.
    pub const fn needs(self) -> &'static [Need] {
        use {Age::*, Check::*, Window::*, Witness::*};
        match self {
            Gate::ClusterPreflight => {
                const {
                    &[
                        once(ManagementSeparate, Management),
                        once(KubeconfigUsable, Management),
                        once(VersionsPinned, Management),
                        once(InventoryUnderstood, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodesReady, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(SystemPodsReady, ApiServers),
                    ]
                }
            }
            Gate::Backup => const { &[once(ObjectsExported, Coordinator)] },
            Gate::Preflight => {
                const {
                    &[
                        once(InventoryUnderstood, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodesReady, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(CapacityElsewhere, ApiServers),
                        once(DisruptionsAllowed, ApiServers),
                        once(DataElsewhere, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsSource, Agent),
                        once(CertificatesValid, Agent),
                        once(ClockInSync, Agent),
                        once(PackagesUsable, Agent),
                    ]
                }
            }
            Gate::Snapshot => {
                const { &[once(NodeRecorded, Coordinator), once(HostRecorded, Coordinator)] }
            }
            Gate::Cordon => const { &[once(NodeCordoned, ApiServers)] },
            Gate::Drain => {
                const {
                    &[
                        once(NodeDrained, ApiServers),
                        once(VolumesDetached, ApiServers),
                        once(NoNewPending, ApiServers),
                    ]
                }
            }
            Gate::RemoveAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        need(NodeCordoned, ApiServers, Brief, Once),
                        need(NodeDrained, ApiServers, Brief, Once),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(HostIsNode, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Removal => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(NodeAbsent, ApiServers, Usual, Absence),
                        need(LeaseStopped, ApiServers, Usual, Lease),
                        once(VolumesDetached, ApiServers),
                        once(NoPodsBound, ApiServers),
                        once(KubeletStopped, Agent),
                        once(NoLeftovers, Agent),
                        once(PortsFree, Agent),
                        once(NodeFilesGone, Agent),
                    ]
                }
            }
            Gate::Reinstall => {
                const {
                    &[
                        need(NodeAbsent, ApiServers, Brief, Once),
                        once(NodeRecorded, Coordinator),
                        once(HostRecorded, Coordinator),
                        once(FarewellSaid, Coordinator),
                    ]
                }
            }
            Gate::Os => {
                const {
                    &[
                        once(OsIsTarget, Agent),
                        once(InstallationNew, Agent),
                        once(HostIsNode, Agent),
                        once(AddressesKept, Agent),
                        once(HardwareKept, Agent),
                        once(KubeletStopped, Agent),
                        once(NoLeftovers, Agent),
                        once(PortsFree, Agent),
                        once(NodeFilesGone, Agent),
                        once(SwapOff, Agent),
                        once(FirewallOff, Agent),
                        once(ClockInSync, Agent),
                        once(PackagesUsable, Agent),
                        once(DiskFree, Agent),
                        once(ResolverUsable, Agent),
                        once(NodeAbsent, ApiServers),
                    ]
                }
            }
            Gate::JoinAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        need(NodeAbsent, ApiServers, Brief, Once),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(OsIsTarget, Agent, Brief, Once),
                        need(PortsFree, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Join => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodeNew, ApiServers),
                        need(NodeReady, ApiServers, Usual, Ready),
                        once(NodeOsIsTarget, ApiServers),
                        once(KubeletVersionKept, ApiServers),
                        once(NodeAddressKept, ApiServers),
                        once(NodeIsHost, ApiServers),
                        once(DaemonPodsReady, ApiServers),
                        once(NoPendingRequests, ApiServers),
                        once(NodesReady, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsTarget, Agent),
                    ]
                }
            }
            Gate::Metadata => {
                const { &[once(MetadataRestored, ApiServers), once(SchedulableAsBefore, ApiServers)] }
            }
            Gate::Soak => {
                const {
                    &[
                        soaked(NodeReady, ApiServers),
                        soaked(DaemonPodsReady, ApiServers),
                        once(NodesReady, ApiServers),
                        once(SystemPodsReady, ApiServers),
                        once(NoNewPending, ApiServers),
                        once(HostIsNode, Agent),
                    ]
                }
            }
            Gate::Finalize => {
                const {
                    &[
                        once(NodesOnTarget, ApiServers),
                        once(NodesReady, ApiServers),
                        once(KubeletVersionsEqual, ApiServers),
                        once(InputsRemoved, Management),
                        need(NoForeignOperation, Management, Brief, Once),
                    ]
                }
            }
            Gate::Abort => {
                // For a while: a cordon that was on its way when the node was given up would show.
                const { &[need(SchedulableAsBefore, ApiServers, Usual, Ready)] }
            }
            Gate::ClusterAbort => const { &[once(InputsRemoved, Management)] },
            Gate::RejoinAdmission => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        need(InputsStored, Management, Brief, Once),
                        // The removal may never have been proved.
                        need(NodeAbsent, ApiServers, Brief, Absence),
                        need(NodesReady, ApiServers, Brief, Once),
                        need(HostIsNode, Agent, Brief, Once),
                        need(OsIsSource, Agent, Brief, Once),
                        need(KubeletStopped, Agent, Brief, Once),
                        need(NoLeftovers, Agent, Brief, Once),
                        need(PortsFree, Agent, Brief, Once),
                        need(NodeFilesGone, Agent, Brief, Once),
                    ]
                }
            }
            Gate::Rejoin => {
                const {
                    &[
                        need(NoForeignOperation, Management, Brief, Once),
                        once(NodeNew, ApiServers),
                        need(NodeReady, ApiServers, Usual, Ready),
                        once(KubeletVersionKept, ApiServers),
                        once(NodeAddressKept, ApiServers),
                        once(NodeIsHost, ApiServers),
                        once(DaemonPodsReady, ApiServers),
                        once(NoPendingRequests, ApiServers),
                        once(NodesReady, ApiServers),
                        once(HostIsNode, Agent),
                        once(OsIsSource, Agent),
                    ]
                }
            }
        }
    }

    /// The number that the domain reference gives the gate; the cluster's gates have none.
    pub const fn number(self) -> Option<u8> {
        match self {
            Gate::Preflight => Some(1),
            Gate::Snapshot => Some(2),
            Gate::Drain => Some(3),
            Gate::RemoveAdmission => Some(4),
            Gate::Removal => Some(5),
            Gate::Reinstall => Some(6),
            Gate::Os => Some(7),
            Gate::JoinAdmission => Some(8),
            Gate::Join => Some(9),
            Gate::Metadata => Some(10),
            Gate::Soak => Some(11),
            Gate::ClusterPreflight
            | Gate::Backup
            | Gate::Cordon
            | Gate::Finalize
            | Gate::Abort
            | Gate::ClusterAbort
            | Gate::RejoinAdmission
            | Gate::Rejoin => None,
        }
    }

    /// How long the gate may stay unanswered before its subject is held.
    pub fn deadline(self, policy: &Policy, canary: bool) -> Span {
        match self {
            Gate::Drain => policy.drain_deadline,
            Gate::Soak => Window::Soak.length(policy, canary) + policy.gate_deadline,
            _ => policy.gate_deadline,
        }
    }
}

impl Age {
    /// In seconds, under this policy.
    pub fn limit(self, policy: &Policy) -> Span {
        match self {
            Age::Brief => Span::from_secs(30).min(policy.evidence_max_age),
            Age::Usual => policy.evidence_max_age,
        }
    }
}

impl Window {
    /// In seconds, under this policy.
    pub fn length(self, policy: &Policy, canary: bool) -> Span {
        match self {
            Window::Once => Span::default(),
            Window::Absence => policy.absence_window,
            Window::Lease => policy.lease_window,
            Window::Ready => policy.ready_window,
            Window::Soak if canary => policy.canary_soak,
            Window::Soak => policy.soak,
        }
    }
}

/// When a round was asked: nothing seen before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its number.
    pub round: Round,
    /// Its beginning.
    pub at: Timestamp,
}

/// The newest answer of one source to one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The answer.
    pub evidence: Evidence,
    /// Since when every answer has been a pass, without a break longer than an answer may be old.
    pub passing_since: Timestamp,
}

/// The newest answers of the current round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dossier(BTreeMap<(Check, Source), Seen>);

/// Proof that a gate was passed, with the answers that it rests on. Only [`Bench::judge`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    gate: Gate,
    round: Round,
    rests_on: Vec<(Check, Source, Timestamp)>,
}

impl Proof {
    /// The gate that was passed.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// The round in which.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Check, source and time of each answer that it rests on.
    pub fn rests_on(&self) -> &[(Check, Source, Timestamp)] {
        &self.rests_on
    }
}

/// Why something cannot go on: typed, so that `explain` can say what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blocker {
    /// A witness says the opposite.
    Contradicted {
        /// The statement.
        check: Check,
        /// The witness.
        source: Source,
        /// What it saw.
        seen: String,
    },
    /// A witness cannot say.
    Unknown {
        /// The statement.
        check: Check,
        /// The witness.
        source: Source,
        /// Why it cannot.
        why: String,
    },
    /// A witness has not answered.
    Silent {
        /// The statement.
        check: Check,
        /// The witness.
        source: Source,
    },
    /// The newest answer is too old.
    Stale {
        /// The statement.
        check: Check,
        /// The witness.
        source: Source,
        /// How old it may be.
        limit: Span,
    },
    /// It is true, but not yet for long enough.
    TooShort {
        /// The statement.
        check: Check,
        /// The witness.
        source: Source,
        /// Since when it has been true.
        since: Timestamp,
        /// For how long it must be.
        window: Span,
    },
    /// The new system has not enrolled in time.
    NotEnrolled {
        /// Whether a person or the installer has said that the reinstall is done.
        announced: bool,
    },
    /// The operation before did not say that it succeeded, and evidence does not prove it either.
    Operation {
        /// Its name.
        name: String,
        /// What it said.
        outcome: Outcome,
        /// How far it got, as far as its traces tell.
        extent: Extent,
        /// How many attempts were made by themselves.
        resubmitted: u32,
    },
    /// A person wanted it so.
    HeldBy {
        /// Who.
        by: String,
        /// Why, in that person's words.
        why: String,
    },
}

/// Who can be a witness here, and how strict the judge is.
#[derive(Clone, Copy, Debug)]
pub struct Bench<'a> {
    /// The plan of the migration.
    pub plan: &'a Plan,
    /// The node that is judged; `None` for the cluster.
    pub node: Option<&'a NodeName>,
    /// Whether it is the canary.
    pub canary: bool,
}

impl Bench<'_> {
    /// Every source whose answer to this need is required.
    pub fn witnesses(&self, need: &Need) -> Vec<Source> {
        match need.witness {
            Witness::Agent => self.node.cloned().map(Source::Agent).into_iter().collect(),
            Witness::ApiServers => {
                self.plan.api_servers.iter().cloned().map(Source::ApiServer).collect()
            }
            Witness::Management => vec![Source::Management],
            Witness::Coordinator => vec![Source::Coordinator],
        }
    }

    /// Judges a gate. `Ok` only if every witness of every need has confirmed it in this round,
    /// freshly, and for as long as the need asks; everything else is a reason.
    pub fn judge(
        &self,
        gate: Gate,
        asked: Asked,
        dossier: &Dossier,
        now: Timestamp,
    ) -> Result<Proof, Vec<Blocker>> {
        let mut rests_on = Vec::new();
        let mut blockers = Vec::new();
        for need in gate.needs() {
            let witnesses = self.witnesses(need);
            if witnesses.is_empty() {
                // A need that nobody can confirm blocks for ever, rather than never.
                blockers.push(Blocker::Silent { check: need.check, source: Source::Coordinator });
            }
            for source in witnesses {
                match self.hear(need, asked, dossier.get(need.check, &source), &source, now) {
                    Ok(at) => rests_on.push((need.check, source, at)),
                    Err(blocker) => blockers.push(blocker),
                }
            }
        }
        if blockers.is_empty() {
            Ok(Proof { gate, round: asked.round, rests_on })
        } else {
            Err(blockers)
        }
    }

    /// Whether every witness of these needs of a gate confirms them now.
    pub fn confirms(
        &self,
        gate: Gate,
        checks: &[Check],
        asked: Asked,
        dossier: &Dossier,
        now: Timestamp,
    ) -> bool {
        let needs = gate.needs().iter().filter(|need| checks.contains(&need.check));
        needs.into_iter().all(|need| {
            self.witnesses(need).iter().all(|source| {
                let seen = dossier.get(need.check, source);
                self.hear(need, asked, seen, source, now).is_ok()
            })
        })
    }

    /// Whether every witness of these needs of a gate has just said the opposite.
    pub fn contradicts(
        &self,
        gate: Gate,
        checks: &[Check],
        asked: Asked,
        dossier: &Dossier,
        now: Timestamp,
    ) -> bool {
        let needs = gate.needs().iter().filter(|need| checks.contains(&need.check));
        needs.into_iter().all(|need| {
            let limit = need.age.limit(&self.plan.policy);
            self.witnesses(need).iter().all(|source| {
                dossier.get(need.check, source).is_some_and(|Seen { evidence, .. }| {
                    matches!(evidence.verdict, Verdict::Fail(_))
                        && evidence.round == asked.round
                        && evidence.observed_at + limit >= now
                })
            })
        })
    }

    fn hear(
        &self,
        need: &Need,
        asked: Asked,
        seen: Option<&Seen>,
        source: &Source,
        now: Timestamp,
    ) -> Result<Timestamp, Blocker> {
        let (check, source) = (need.check, source.clone());
        let Some(seen) = seen.filter(|seen| seen.evidence.round == asked.round) else {
            return Err(Blocker::Silent { check, source });
        };
        let at = seen.evidence.observed_at;
        match &seen.evidence.verdict {
            Verdict::Fail(seen) => {
                return Err(Blocker::Contradicted { check, source, seen: seen.clone() });
            }
            Verdict::Unknown(why) => {
                return Err(Blocker::Unknown { check, source, why: why.clone() });
            }
            Verdict::Pass(_) => (),
        }
        let limit = need.age.limit(&self.plan.policy);
        if at < asked.at || at > now || at + limit < now {
            return Err(Blocker::Stale { check, source, limit });
        }
        let window = need.window.length(&self.plan.policy, self.canary);
        let since = seen.passing_since;
        if since + window > at {
            return Err(Blocker::TooShort { check, source, since, window });
        }
        Ok(at)
    }
}

impl Dossier {
    /// The newest answer of one source to one check.
    pub fn get(&self, check: Check, source: &Source) -> Option<&Seen> {
        self.0.get(&(check, source.clone()))
    }

    /// Every newest answer, by check and source.
    pub fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.0.values()
    }

    /// Takes an answer in. An older one than the newest known changes nothing.
    pub fn add(&mut self, evidence: Evidence, break_max: Span) {
        let key = (evidence.check, evidence.source.clone());
        let mut passing_since = evidence.observed_at;
        if let Some(last) = self.0.get(&key) {
            if evidence.observed_at < last.evidence.observed_at {
                return;
            }
            let unbroken = matches!(
                (&last.evidence.verdict, &evidence.verdict),
                (Verdict::Pass(_), Verdict::Pass(_))
            ) && evidence.observed_at.since(last.evidence.observed_at) <= break_max
                && last.evidence.generation == evidence.generation;
            if unbroken {
                passing_since = last.passing_since;
            }
        }
        self.0.insert(key, Seen { evidence, passing_since });
    }

    /// Whether an answer must be kept in the log: it is the first of its source, says something
    /// else than the last, completes the window, or the last is half as old as it may be. The rest
    /// is noise.
    pub fn is_news(&self, evidence: &Evidence, age_max: Span, window: Span) -> bool {
        let Some(last) = self.get(evidence.check, &evidence.source) else { return true };
        let end = last.passing_since + window;
        last.evidence.verdict.word() != evidence.verdict.word()
            || last.evidence.generation != evidence.generation
            || (last.evidence.observed_at < end && evidence.observed_at >= end)
            || evidence.observed_at.since(last.evidence.observed_at).as_secs() * 2
                >= age_max.as_secs()
    }
}
