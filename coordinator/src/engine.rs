//! The only writer: decides, appends, follows, publishes, in this order and on one thread.

use std::{path::Path, sync::Arc};

use rehull_shared::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    domain::{
        command::{Command, Refusal},
        decide::decide,
        event::Recorded,
        state::{Corrupt, Fleet},
    },
    history::History,
    log::{self, Head, Log},
};

/// Commands that may wait before askers must: about a second of work.
const INBOX: usize = 4_096;

/// What time it is, by the machine or for a rehearsal.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the engine stopped. The process must end and start again: it replays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The log has an event that cannot follow the ones before it.
    #[error("event {seq}: {source}; run `rehull log verify`, and restore the log from a backup")]
    Corrupt {
        /// Its number.
        seq: u64,
        /// What is wrong.
        source: Corrupt,
    },
    /// Nothing takes commands any more.
    #[error("the engine has stopped")]
    Stopped,
}

/// What everybody may see: all of it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The state.
    pub fleet: Fleet,
    /// Number of the last event in it.
    pub sequence: u64,
}

/// Owns the log and the state.
pub struct Engine {
    log: Log,
    fleet: Fleet,
    inbox: mpsc::Receiver<Input>,
    published: watch::Sender<Published>,
    history: History,
    clock: Clock,
}

/// How the rest of the process talks to the engine; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Input>,
    published: watch::Receiver<Published>,
    history: History,
}

enum Input {
    /// Commands that are committed together.
    Decide(Vec<(Command, Option<Reply>)>),
    Verify {
        progress: Progress,
        reply: oneshot::Sender<Result<Head, log::Error>>,
    },
    Read {
        from: u64,
        reply: oneshot::Sender<Result<Vec<(u64, Recorded)>, log::Error>>,
    },
}

type Reply = oneshot::Sender<Result<u64, Refusal>>;

/// Is told how many events were read, and how many there are.
type Progress = Box<dyn FnMut(u64, u64) + Send>;

/// Follows a log from its beginning.
#[derive(Default)]
struct Follower {
    fleet: Fleet,
    history: History,
    corrupt: Option<Error>,
}

impl Follower {
    fn follow(&mut self, seq: u64, recorded: Recorded) {
        if self.corrupt.is_none() {
            if let Err(source) = self.fleet.evolve(&recorded) {
                self.corrupt = Some(Error::Corrupt { seq, source });
            }
            self.history.add(seq, recorded);
        }
    }

    fn end(self) -> Result<(Fleet, History), Error> {
        self.corrupt.map_or(Ok((self.fleet, self.history)), Err)
    }
}

/// What the log in `dir` says, for readers; no coordinator may have it open.
///
/// # Errors
/// If there is no log, or it is damaged or locked.
pub fn read(dir: &Path) -> Result<(Published, History), Error> {
    let log = Log::existing(dir)?;
    let mut follower = Follower::default();
    log.replay(|seq, recorded| follower.follow(seq, recorded))?;
    let (fleet, history) = follower.end()?;
    Ok((Published { fleet, sequence: log.head().seq }, history))
}

impl Engine {
    /// Opens the log in `dir`, replays it, and takes leadership: the epoch is one more than the
    /// last one.
    ///
    /// # Errors
    /// If the log is damaged, locked, or cannot be written.
    pub fn open(dir: &Path, clock: Clock) -> Result<(Self, Handle), Error> {
        let mut follower = Follower::default();
        let log = Log::open(dir, |seq, recorded| follower.follow(seq, recorded))?;
        let (fleet, history) = follower.end()?;
        let (sender, inbox) = mpsc::channel(INBOX);
        let sequence = log.head().seq;
        let (published, watched) = watch::channel(Published { fleet: fleet.clone(), sequence });
        let handle = Handle { inbox: sender, published: watched, history: history.clone() };
        let mut engine = Self { log, fleet, inbox, published, history, clock };
        engine.commit(&mut vec![(Command::TakeLeadership, None)])?;
        Ok((engine, handle))
    }

    /// Runs until every handle is gone, on a thread of its own: the log blocks.
    ///
    /// # Errors
    /// Every error is fatal: what was not acknowledged may or may not be on disk.
    pub fn run(mut self) -> Result<(), Error> {
        let (mut inputs, mut waiting) = (Vec::new(), Vec::new());
        while self.inbox.blocking_recv_many(&mut inputs, INBOX) > 0 {
            for input in inputs.drain(..) {
                match input {
                    Input::Decide(commands) => waiting.extend(commands),
                    Input::Verify { progress, reply } => {
                        self.commit(&mut waiting)?;
                        _ = reply.send(self.log.verify(progress)); // the asker may have gone
                    }
                    Input::Read { from, reply } => _ = reply.send(self.log.read(from)),
                }
            }
            self.commit(&mut waiting)?;
        }
        Ok(())
    }

    /// Decides commands in order, commits their events together, and only then answers.
    fn commit(&mut self, commands: &mut Vec<(Command, Option<Reply>)>) -> Result<(), Error> {
        let mut fleet = self.fleet.clone();
        let mut events: Vec<Recorded> = Vec::new();
        let mut answers = Vec::with_capacity(commands.len());
        let before = self.log.head().seq;
        for (command, reply) in commands.drain(..) {
            let answer = decide(&fleet, &command, (self.clock)()).map(|decision| {
                fleet = decision.fleet;
                let changed = !decision.events.is_empty();
                events.extend(decision.events);
                if changed { before + events.len() as u64 } else { 0 }
            });
            answers.push((reply, answer));
        }
        if !events.is_empty() {
            let sequence = self.log.append(&events)?;
            self.fleet = fleet;
            for (seq, recorded) in (before + 1..).zip(events) {
                tell(seq, &recorded);
                self.history.add(seq, recorded);
            }
            self.published.send_replace(Published { fleet: self.fleet.clone(), sequence });
        }
        for (reply, answer) in answers {
            if let Some(reply) = reply {
                _ = reply.send(answer); // the asker may have gone; the decision stands
            }
        }
        Ok(())
    }
}

impl Handle {
    /// Has a command decided. Returns the number of the last event behind it, 0 if there is none.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the engine is gone; the inner `Err` is the rules' refusal.
    pub async fn submit(&self, command: Command) -> Result<Result<u64, Refusal>, Error> {
        let answers = self.submit_all(vec![command]).await?;
        answers.into_iter().next().ok_or(Error::Stopped)
    }

    /// The same for several commands, which are decided in order and committed together: one flush
    /// for all that one look at the world has seen.
    ///
    /// # Errors
    /// As [`Handle::submit`].
    pub async fn submit_all(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<u64, Refusal>>, Error> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut waiting = Vec::with_capacity(commands.len());
        for command in commands {
            let (reply, answer) = oneshot::channel();
            answers.push((span_of(&command), answer));
            waiting.push((command, Some(reply)));
        }
        self.inbox.send(Input::Decide(waiting)).await.map_err(|_| Error::Stopped)?;
        let mut told = Vec::with_capacity(answers.len());
        for (span, answer) in answers {
            let answer = answer.await.map_err(|_| Error::Stopped)?;
            span.record("seq", answer.as_ref().ok());
            told.push(answer);
        }
        Ok(told)
    }

    /// Has every hash of the log checked. Commands wait for it: about a second for three million
    /// events.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the engine is gone, [`Error::Log`] if the log is damaged.
    pub async fn verify(
        &self,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Head, Error> {
        let (reply, answer) = oneshot::channel();
        let progress = Box::new(progress);
        let asked = self.inbox.send(Input::Verify { progress, reply }).await;
        asked.map_err(|_| Error::Stopped)?;
        Ok(answer.await.map_err(|_| Error::Stopped)??)
    }

    /// Events that are on disk, from the number `from` on, oldest first: a few hundred, and none
    /// only if there is none yet. Commands wait for it some milliseconds.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the engine is gone, [`Error::Log`] if the log is damaged there.
    pub async fn read(&self, from: u64) -> Result<Vec<(u64, Recorded)>, Error> {
        let (reply, answer) = oneshot::channel();
        let asked = self.inbox.send(Input::Read { from, reply }).await;
        asked.map_err(|_| Error::Stopped)?;
        Ok(answer.await.map_err(|_| Error::Stopped)??)
    }

    /// What is on disk now.
    pub fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// The same, with news.
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// What happened last.
    pub fn history(&self) -> &History {
        &self.history
    }
}

/// One line for each event, when it is on disk.
fn tell(seq: u64, recorded: &Recorded) {
    let cluster = recorded.cluster.as_ref().map(tracing::field::display);
    let node = recorded.event.node().map(tracing::field::display);
    tracing::info!(seq, cluster, node, event = recorded.event.name());
}

/// The span of a command, from its asking until its events are on disk.
fn span_of(command: &Command) -> tracing::Span {
    match command {
        Command::Of(cluster, request) => {
            let asked = request.name();
            tracing::info_span!("command", %cluster, asked, seq = tracing::field::Empty)
        }
        // A second has passed: nobody wants a trace of that.
        Command::TakeLeadership | Command::Tick => tracing::Span::none(),
    }
}
