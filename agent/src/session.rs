//! One stream to the coordinator, for as long as it lasts: three things at once, none of which
//! waits for another.

use std::{hash::Hasher, time::Duration};

use rehull_proto::v1::{
    FromAgent, Hello, ToAgent, agent_link_client::AgentLinkClient, from_agent::Message,
};
use rehull_shared::time::{Span, Timestamp};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    carry_out, checks,
    config::Settings,
    credentials::Credentials,
    enrol,
    journal::Journal,
    link::{self, Failure, MESSAGE_BYTES_MAX, PATIENCE},
};

/// Version of the protocol that this agent speaks.
const PROTOCOL: u32 = 1;

/// Orders that may wait for the one in hand; further ones are refused.
const ORDERS_MAX: usize = 8;

/// Answers that may wait for the network; then orders are no longer read.
const ANSWERS_MAX: usize = 16;

/// How often the age of the certificate is looked at when no beat is sent.
const PULSE: Duration = Duration::from_secs(10);

/// How long after a failed renewal the next is tried.
const RENEWAL_RETRY: Span = Span::from_secs(60);

/// Opens a stream and serves it until it ends.
pub(crate) async fn serve(
    settings: &Settings,
    credentials: &mut Credentials,
    journal: &mut Journal,
    jitter: &mut Jitter,
) -> Failure {
    match open(settings, credentials, journal).await {
        Ok((channel, inbound, answers)) => {
            (settings.log)(&format!("linked to {}", settings.coordinator));
            let (orders, queue) = mpsc::channel(ORDERS_MAX);
            tokio::select! {
                failure = receive(inbound, orders, answers.clone()) => failure,
                failure = obey(settings, journal, &channel, queue, answers.clone()) => failure,
                failure = pulse(settings, credentials, jitter, channel.clone(), answers) => failure,
            }
        }
        Err(failure) => failure,
    }
}

type Opened = (Channel, Streaming<ToAgent>, mpsc::Sender<FromAgent>);

async fn open(
    settings: &Settings,
    credentials: &Credentials,
    journal: &Journal,
) -> Result<Opened, Failure> {
    let channel = link::connect(settings, Some(credentials)).await?;
    let (answers, outbound) = mpsc::channel(ANSWERS_MAX);
    let hello = Message::Hello(Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        identity: Some(checks::identity(&settings.host, |_, _| ())), // a report names the gaps
        epoch: journal.epoch(),
    });
    say(&answers, hello).await?;
    let mut client =
        AgentLinkClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match timeout(PATIENCE, client.open(ReceiverStream::new(outbound))).await {
        Ok(stream) => Ok((channel, stream?.into_inner(), answers)),
        Err(_) => Err(Failure::Lost(format!("no stream within {PATIENCE:?}"))),
    }
}

/// Takes orders from the network, and refuses what the queue does not hold.
async fn receive(
    mut inbound: Streaming<ToAgent>,
    orders: mpsc::Sender<ToAgent>,
    answers: mpsc::Sender<FromAgent>,
) -> Failure {
    loop {
        match inbound.message().await {
            Ok(Some(order)) => {
                if let Err(full) = orders.try_send(order) {
                    let why = format!("{ORDERS_MAX} orders are waiting");
                    if answers.send(carry_out::refuse(&full.into_inner(), why)).await.is_err() {
                        return closed();
                    }
                }
            }
            Ok(None) => return closed(),
            Err(status) => return status.into(),
        }
    }
}

/// Carries out one order after the other; but nothing waits for one that takes long. It ends with the
/// stream.
async fn obey(
    settings: &Settings,
    journal: &mut Journal,
    link: &Channel,
    mut queue: mpsc::Receiver<ToAgent>,
    answers: mpsc::Sender<FromAgent>,
) -> Failure {
    let mut long = JoinSet::new();
    while let Some(order) = queue.recv().await {
        while long.try_join_next().is_some() {}
        let answer = match carry_out::takes_long(&order) {
            true if !long.is_empty() => carry_out::refuse(
                &order,
                "another order that takes long is being carried out, a backup or the stop of an API \
                 server: ask again when that is over",
            ),
            true => match carry_out::begin(settings, journal, link.clone(), &order) {
                Ok(work) => {
                    let answers = answers.clone();
                    long.spawn(async move { answers.send(work.await).await });
                    continue;
                }
                Err(why) => carry_out::refuse(&order, why),
            },
            false => carry_out::carry_out(settings, journal, order).await,
        };
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    closed()
}

/// Sends signs of life, and renews the certificate when its time has come.
async fn pulse(
    settings: &Settings,
    credentials: &mut Credentials,
    jitter: &mut Jitter,
    channel: Channel,
    answers: mpsc::Sender<FromAgent>,
) -> Failure {
    let mut renew_at = match credentials.renew_at() {
        Ok(renew_at) => renew_at,
        Err(why) => return Failure::Lost(format!("own certificate: {why}")),
    };
    for sequence in 0.. {
        if settings.beat.is_some() {
            match checks::beat(&settings.host, sequence).await {
                Ok(beat) => {
                    if let Err(failure) = say(&answers, Message::Beat(beat)).await {
                        return failure;
                    }
                }
                Err(error) => (settings.log)(&format!("no beat: {error}")),
            }
        }
        let now = (settings.clock)();
        if now >= renew_at {
            renew_at = renewed(settings, credentials, channel.clone(), now).await;
        }
        tokio::time::sleep(jitter.around(settings.beat.unwrap_or(PULSE))).await;
    }
    closed()
}

/// Renews, and says when it is to be done again. The stream stays: the next one shows the new
/// certificate.
async fn renewed(
    settings: &Settings,
    credentials: &mut Credentials,
    channel: Channel,
    now: Timestamp,
) -> Timestamp {
    match enrol::renew(settings, channel).await {
        Ok(younger) => {
            (settings.log)("certificate renewed");
            *credentials = younger;
            credentials.renew_at().unwrap_or(now + RENEWAL_RETRY)
        }
        Err(failure) => {
            (settings.log)(&format!("certificate not renewed: {failure}"));
            now + RENEWAL_RETRY
        }
    }
}

async fn say(answers: &mpsc::Sender<FromAgent>, message: Message) -> Result<(), Failure> {
    let message = FromAgent { message: Some(message) };
    answers.send(message).await.map_err(|_| closed())
}

fn closed() -> Failure {
    Failure::Lost("the coordinator closed the stream".to_owned())
}

/// Numbers that differ from agent to agent, so that a thousand of them do not speak in chorus; for
/// one agent always the same ones.
pub(crate) struct Jitter(u64);

impl Jitter {
    /// The numbers of this agent.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(settings.cluster.as_str().as_bytes());
        hasher.write(settings.node.as_str().as_bytes());
        Self(hasher.finish() | 1)
    }

    /// From 0 to 1 (xorshift, Marsaglia 2003).
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A length of time, give or take a fifth.
    fn around(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.8 + 0.4 * self.fraction())
    }
}
