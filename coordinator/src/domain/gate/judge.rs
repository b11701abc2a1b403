//! The judge: answers to a gate's needs, and a proof or the reasons why there is none.

use std::collections::BTreeMap;

use rehull_shared::{
    evidence::{Check, Evidence, Source, Verdict, Witness},
    ids::{NodeName, Round},
    time::{Span, Timestamp},
};
use serde::{Deserialize, Serialize};

use super::{Gate, Need};
use crate::domain::{
    plan::{Plan, Role},
    state::{Extent, Outcome},
};

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
    /// What rehull itself was to do for it had failed for a while.
    Trouble {
        /// What it was: [`Work::name`](crate::domain::effect::Work::name).
        work: String,
        /// Why it failed.
        why: String,
    },
    /// While it is away, another member of etcd has ailed: one more that is lost, and nobody can write.
    QuorumAtRisk {
        /// What ailed.
        seen: String,
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
    /// Whether it is watched for longer than others: the canary, and control planes.
    pub watched: bool,
    /// What the node is to its cluster; of a cluster, what the highest of its planned nodes is.
    pub role: Role,
    /// The API server that is no witness now: it was taken out of service, or its host is away.
    pub apart: Option<&'a str>,
}

impl Bench<'_> {
    /// All that must hold for a gate to be passed here.
    pub fn needs(&self, gate: Gate) -> impl Iterator<Item = &'static Need> + use<> {
        // The cluster has no node that hands over.
        gate.needs_of(match self.node {
            Some(_) => self.role,
            None => self.role.min(Role::ControlPlane),
        })
    }

    /// Every source whose answer to this need is required.
    pub fn witnesses(&self, need: &Need) -> Vec<Source> {
        match need.witness {
            Witness::Agent => self.node.cloned().map(Source::Agent).into_iter().collect(),
            Witness::ApiServers => {
                self.api_servers().map(|at| Source::ApiServer(at.to_owned())).collect()
            }
            Witness::OwnApiServer => {
                let own = self.node.and_then(|node| self.plan.control_plane(node));
                own.map(|own| Source::ApiServer(own.api_server.clone())).into_iter().collect()
            }
            Witness::ControlPlanes => vec![Source::ControlPlanes],
            Witness::Management => vec![Source::Management],
            Witness::Coordinator => vec![Source::Coordinator],
        }
    }

    /// The API servers that are witnesses now.
    pub fn api_servers(&self) -> impl Iterator<Item = &str> {
        let all = self.plan.api_servers.iter().map(String::as_str);
        all.filter(|address| self.apart != Some(address))
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
        for need in self.needs(gate) {
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
        let mut needs = self.needs(gate).filter(|need| checks.contains(&need.check));
        needs.all(|need| {
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
        let mut needs = self.needs(gate).filter(|need| checks.contains(&need.check));
        needs.all(|need| {
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
        let window = need.window.length(&self.plan.policy, self.watched);
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

    /// Whether one source has last confirmed one check. How long ago, a gate asks.
    pub fn passes(&self, check: Check, source: &Source) -> bool {
        let seen = self.get(check, source);
        seen.is_some_and(|seen| matches!(seen.evidence.verdict, Verdict::Pass(_)))
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
    /// else than the last, completes the window, or the last is half as old as it may be. Other words
    /// for the same no are kept only now and then, since some of them count seconds. The rest is
    /// noise.
    pub fn is_news(&self, evidence: &Evidence, age_max: Span, window: Span) -> bool {
        let Some(last) = self.get(evidence.check, &evidence.source) else { return true };
        let end = last.passing_since + window;
        let age = evidence.observed_at.since(last.evidence.observed_at).as_secs();
        let words = !matches!(evidence.verdict, Verdict::Pass(_))
            && last.evidence.verdict.seen() != evidence.verdict.seen();
        last.evidence.verdict.word() != evidence.verdict.word()
            || last.evidence.generation != evidence.generation
            || (last.evidence.observed_at < end && evidence.observed_at >= end)
            || age * if words { 8 } else { 2 } >= age_max.as_secs()
    }
}
