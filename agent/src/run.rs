//! The life of an agent: get credentials, link, and begin again, ever more slowly while it fails.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    config::Settings,
    credentials::Credentials,
    enrol,
    journal::Journal,
    link::Failure,
    session::{self, Jitter},
    state,
};

/// Doublings of the shortest wait: with the jitter on top, the longest is 16 to 30 times of it.
const DOUBLINGS_MAX: u32 = 4;

/// The longest wait, in shortest ones. A link that lasted so long was a good one, and the next is
/// dialled soon.
const LONGEST: u32 = 30;

/// The agent cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the state directory: {0}")]
pub struct Error(#[from] state::Error);

/// Runs until `shutdown` is ready. Whatever the coordinator or the network does, it tries again;
/// only its own disk can end it.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    tokio::select! {
        () = shutdown => Ok(()),
        error = live(&settings) => Err(error),
    }
}

async fn live(settings: &Settings) -> Error {
    match Life::begin(settings) {
        Ok(mut life) => loop {
            let began = Instant::now();
            let failure = match life.turn().await {
                Ok(failure) => failure,
                Err(error) => return error.into(),
            };
            let wait = life.wait(&failure, began.elapsed());
            (settings.log)(&format!("{failure}; again in {:.1} s", wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
        },
        Err(error) => error.into(),
    }
}

struct Life<'a> {
    settings: &'a Settings,
    credentials: Option<Credentials>,
    journal: Journal,
    jitter: Jitter,
    doublings: u32,
    /// A token that the coordinator did not take: with credentials in hand, no reason to wait.
    refused_token: Option<String>,
}

impl<'a> Life<'a> {
    fn begin(settings: &'a Settings) -> Result<Self, state::Error> {
        Ok(Self {
            settings,
            credentials: Credentials::load(settings)?,
            journal: Journal::open(&settings.state_dir)?,
            jitter: Jitter::new(settings),
            doublings: 0,
            refused_token: None,
        })
    }

    /// One enrolment if there is a token, and one link. An unused token means that somebody wants
    /// the host to be enrolled; if that fails, the credentials of before are still good.
    async fn turn(&mut self) -> Result<Failure, state::Error> {
        let token = enrol::token(self.settings);
        let is_news = token != self.refused_token || self.credentials.is_none();
        if let Some(token) = token.filter(|_| is_news) {
            match enrol::enrol(self.settings, token.clone()).await {
                Ok(credentials) => {
                    (self.settings.log)(&format!(
                        "enrolled, generation {}",
                        credentials.generation
                    ));
                    self.credentials = Some(credentials);
                }
                Err(failure) if self.credentials.is_none() => return Ok(failure),
                Err(failure) => {
                    (self.settings.log)(&format!("not enrolled: {failure}"));
                    if matches!(failure, Failure::Refused(_)) {
                        self.refused_token = Some(token);
                    }
                }
            }
        }
        let Some(credentials) = &mut self.credentials else {
            let file = self.settings.token_file.display();
            return Ok(Failure::Lost(format!("no certificate, and no token in {file}")));
        };
        self.journal.enter(credentials.generation)?;
        let Self { settings, journal, jitter, .. } = self;
        let failure = session::serve(settings, credentials, journal, jitter).await;
        Ok(self.explained(failure))
    }

    /// A certificate that has expired is the likeliest reason for anything, and TLS hides it.
    fn explained(&self, failure: Failure) -> Failure {
        let end = self.credentials.as_ref().and_then(|c| c.validity().ok());
        match end {
            Some((_, end)) if end < (self.settings.clock)() => {
                Failure::Refused(format!("own certificate expired at {end} ({failure})"))
            }
            _ => failure,
        }
    }

    fn wait(&mut self, failure: &Failure, lasted: Duration) -> Duration {
        let shortest = self.settings.retry;
        if lasted >= shortest * LONGEST {
            self.doublings = 0;
        }
        if matches!(failure, Failure::Refused(_)) {
            self.doublings = DOUBLINGS_MAX;
        }
        let wait = (shortest * 2_u32.pow(self.doublings)).mul_f64(1.0 + self.jitter.fraction());
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        wait.min(shortest * LONGEST)
    }
}
