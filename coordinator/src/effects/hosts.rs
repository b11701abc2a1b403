//! Orders to agents that change a host.

use std::time::Duration;

use rehull_proto::v1::{
    Farewell, KillLeftovers, OrderDone, Process as Target, ToAgent, order_done::Outcome, to_agent,
};
use rehull_shared::{
    ids::{Generation, NodeName},
    text::{SEEN_BYTES_MAX, bounded},
};

use super::{Pass, Requests, Trouble, api::few};
use crate::{
    agents::{Answer, addressed},
    domain::{
        command::{Report, Request},
        state::Process,
    },
};

/// How long a process has between TERM and KILL, in seconds.
const GRACE_S: u32 = 10;

/// How long an agent may take for an order: the grace, the proof afterwards, and some.
const ORDER_MAX: Duration = Duration::from_secs(60);

impl Pass<'_> {
    /// Has the agent kill exactly these processes. Whatever it answers, the rules look again.
    pub(super) async fn kill_leftovers(
        &self,
        name: &NodeName,
        order: &str,
        processes: &[Process],
    ) -> Result<Requests, Trouble> {
        let target = |one: &Process| Target {
            pid: one.pid,
            start_ticks: one.start_ticks,
            comm: one.comm.clone(),
            exe: one.exe.clone(),
            in_pod: false,
        };
        let kill = KillLeftovers {
            id: order.to_owned(),
            processes: processes.iter().map(target).collect(),
            grace_seconds: GRACE_S,
        };
        let (_, done) = self.order(name, to_agent::Order::KillLeftovers(kill), ORDER_MAX).await?;
        let (node, order) = (name.clone(), order.to_owned());
        let report = Report::LeftoversAnswered { node, order, seen: words(&done) };
        Ok(vec![Request::Report(report)])
    }

    /// Has the agent say farewell: its host may be wiped from then on.
    pub(super) async fn farewell(&self, name: &NodeName) -> Result<Requests, Trouble> {
        let attempt = self.node(name)?.attempt;
        let generation = self.agent(name)?;
        let id = format!("{}/{name}/{attempt}/farewell/{generation}", self.migration.id);
        let order = to_agent::Order::Farewell(Farewell { id });
        let (generation, done) = self.order(name, order, ORDER_MAX).await?;
        match done.outcome() {
            Outcome::Done => {
                let node = name.clone();
                Ok(vec![Request::Report(Report::Farewell { node, generation })])
            }
            _ => Err(Trouble::new(format!("the farewell of {name}"), words(&done))),
        }
    }

    fn agent(&self, name: &NodeName) -> Result<Generation, Trouble> {
        let current = self.fleet.agent_of(&self.effect.cluster, name);
        current
            .ok_or_else(|| Trouble::new(name, "it has no agent: none enrolled, or it is revoked"))
    }

    /// An order for the agent of one generation.
    pub(super) fn to_agent(&self, generation: Generation, order: to_agent::Order) -> ToAgent {
        addressed(self.epoch(), generation, order)
    }

    /// Gives an order to the agent of the current generation.
    pub(super) async fn order(
        &self,
        name: &NodeName,
        order: to_agent::Order,
        patience: Duration,
    ) -> Result<(Generation, OrderDone), Trouble> {
        let generation = self.agent(name)?;
        let whom = (self.effect.cluster.clone(), name.clone());
        let order = self.to_agent(generation, order);
        match self.context.agents.ask(&whom, order, patience).await {
            Ok(Answer::Done(done)) => Ok((generation, done)),
            Ok(Answer::Report(_)) => Err(Trouble::new(name, "its agent answered another question")),
            Err(silence) => Err(Trouble::new(name, silence)),
        }
    }
}

/// What an agent answered, in one line.
pub(super) fn words(done: &OrderDone) -> String {
    let outcome = match done.outcome() {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
        Outcome::Unspecified => "answered without an outcome",
    };
    let survivors = match done.survivors.is_empty() {
        true => String::new(),
        false => {
            let names = done.survivors.iter().map(|one| format!("{} (pid {})", one.comm, one.pid));
            format!("; still there: {}", few(names))
        }
    };
    bounded(&format!("{outcome}: {}{survivors}", done.seen), SEEN_BYTES_MAX)
}
