//! Tells a program of the site what has happened: signed, in order, and again until it has heard.
//!
//! ```text
//!  log ─ read from the cursor on ─▶ what people want to know ─▶ POST ─ 2xx ─▶ cursor, on disk
//! ```
//!
//! None of it decides anything, so none of it is in the log. What a crash has cut off between the
//! delivery and the cursor is delivered again, under the same id. `deploy/webhook.md` is the
//! contract; the form is that of <https://www.standardwebhooks.com>.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rehull_shared::{
    text::{bounded, chain},
    time::Timestamp,
};

use crate::engine::{Error, Handle};

mod cursor;
mod message;
mod secret;

pub use cursor::Cursor;
use message::Message;
pub use secret::Secret;

/// News of the log that come faster are looked at together.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest words about a failed delivery, in bytes.
const WHY_MAX: usize = 200;

/// How patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest time until an answer, from the first byte of the connection on.
    pub answer_max: Duration,
    /// Pause after the first failure; each one doubles it.
    pub pause_min: Duration,
    /// Longest pause between two tries. There is no last try.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer_max: Duration::from_secs(10),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(300),
        }
    }
}

type Body = Full<std::io::Cursor<Vec<u8>>>;

/// Whom to tell, and how.
pub struct Webhook {
    url: Uri,
    secret: Secret,
    /// Tells coordinators apart that report to one place; part of every id.
    coordinator: String,
    patience: Patience,
    client: Client<HttpsConnector<HttpConnector>, Body>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Webhook {
    /// `coordinator` is the hash of its CA.
    ///
    /// # Errors
    /// If this machine has no usable certificates to check servers by.
    pub fn new(
        url: Uri,
        secret: Secret,
        coordinator: &str,
        patience: Patience,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let coordinator = coordinator.chars().take(8).collect();
        Ok(Self { url, secret, coordinator, patience, client, clock })
    }

    /// Tells everything behind the cursor, and goes on with what happens.
    ///
    /// # Errors
    /// Those of the engine, with which it ends; a receiver that cannot be reached is no error.
    pub async fn run(self, handle: Handle, mut cursor: Cursor) -> Result<(), Error> {
        let mut news = handle.watch();
        loop {
            news.borrow_and_update();
            let events = handle.read(cursor.sequence() + 1).await?;
            if events.is_empty() {
                news.changed().await.map_err(|_| Error::Stopped)?;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            for (sequence, recorded) in events {
                match Message::of(&self.coordinator, sequence, &recorded) {
                    Some(message) => {
                        self.deliver(&message).await;
                        cursor.move_to(sequence);
                    }
                    None => cursor.pass(sequence),
                }
            }
        }
    }

    /// Tries until it is taken.
    async fn deliver(&self, message: &Message) {
        let (mut pause, begun) = (self.patience.pause_min, Instant::now());
        let (to, id) = (self.url.host().unwrap_or_default(), message.id());
        loop {
            let tried = tokio::time::timeout(self.patience.answer_max, self.post(message)).await;
            let why = match tried {
                Ok(Ok(())) => return tracing::info!(to, id, "a notification was taken"),
                Ok(Err(why)) => bounded(&why, WHY_MAX),
                Err(_) => format!("no answer within {:?}", self.patience.answer_max),
            };
            // The URL may hold a secret of the receiver's; its host tells enough.
            tracing::warn!(to, id, since = ?begun.elapsed(), again_in = ?pause, why,
                "a notification was not taken");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.patience.pause_max);
        }
    }

    async fn post(&self, message: &Message) -> Result<(), String> {
        let seconds = (self.clock)().as_millis() / 1_000;
        let signature = self.secret.sign(message.id(), seconds, message.body());
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id())
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(Body::new(std::io::Cursor::new(message.body().to_vec())))
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| chain(&error))?;
        // What it has to say is not read: the code is all that counts.
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}
