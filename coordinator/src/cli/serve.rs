//! `rehull serve`: opens the log, then the doors, then lets the effects run. Any part that ends
//! ends the process: it starts again, replays, and asks the world by name.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use rehull_shared::time::now;
use tokio::{net::TcpListener, signal::unix, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::{
    agents::Agents,
    authority::{self, Authority},
    backups::Backups,
    blobs::{self, Blobs},
    clients::Clients,
    config::{Backup, Config, Receiver},
    domain::command::Command,
    effects::{self, Troubles},
    engine::{Engine, Handle},
    etcd,
    ingest::{self, Desk},
    readiness, telemetry,
    webhook::{Cursor, Patience, Secret, Webhook},
};

/// How often the rules are told that time has passed: deadlines are enforced this precisely.
const TICK: Duration = Duration::from_secs(1);

/// How long calls in flight may take to end after a signal.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Runs until a signal, or until a part dies.
pub(super) async fn serve(
    dir: &Path,
    log: &str,
    format: telemetry::Format,
    otlp_endpoint: Option<String>,
) -> Result<ExitCode, Failure> {
    let config = Config::read(dir).map_err(Failure::new)?;
    let endpoint = otlp_endpoint.or_else(|| config.otlp_endpoint.clone());
    let _telemetry = telemetry::init(log, format, endpoint.as_deref())
        .map_err(|error| Failure::usage(format!("--log {log}: {error:#}")))?;
    match run(&config).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!("{error:#}");
            Err(Failure::new(format!("{error:#}")))
        }
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let authority = Arc::new(Authority::open(&config.dir)?);
    let log = config.dir.join("log");
    let opened = tokio::task::spawn_blocking(move || Engine::open(&log, Arc::new(now)));
    let (engine, handle) = opened.await?.context("the log cannot be opened")?;
    let desk = desk(config, authority, handle.clone())?;
    let port = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let socket = ingest::open_socket(&config.socket)?;
    let published = handle.published();
    tracing::info!(listen = %config.listen, socket = %config.socket.display(),
        epoch = published.fleet.epoch.0, events = published.sequence, "serving");

    let webhook = webhook(config, &desk.context.ca_sha256, published.sequence)?;
    let stop = CancellationToken::new();
    let (context, troubles) = (desk.context.clone(), desk.troubles.clone());
    let (agents, clock) = (context.agents.clone(), context.clock.clone());
    let (clients, readiness) = (context.clients.clone(), context.readiness.clone());
    let looks = etcd::watch(handle.clone(), agents, clock.clone(), desk.context.etcd.clone());
    let asks = readiness::watch(handle.clone(), clients, clock, readiness);
    let mut looks = tokio::spawn(async move {
        tokio::join!(looks, asks);
        anyhow::Ok(())
    });
    let mut thread = tokio::task::spawn_blocking(move || engine.run());
    let mut doors = tokio::spawn(ingest::serve(port, Some(socket), desk, stop.clone()));
    let mut effects = tokio::spawn(effects::run(handle.clone(), context, troubles));
    let mut ticks = tokio::spawn(tick(handle.clone()));
    let mut telling = tokio::spawn(tell(webhook, handle));
    let mut terminated = unix::signal(unix::SignalKind::terminate())?;
    let (ended, engine) = tokio::select! {
        end = &mut thread => (Err(dead("the engine", end)), None),
        end = &mut doors => (Err(dead("the gRPC server", end)), Some(thread)),
        end = &mut effects => (Err(dead("the effects", end)), Some(thread)),
        end = &mut ticks => (Err(dead("the clock", end)), Some(thread)),
        end = &mut looks => (Err(dead("the watch of etcd and API servers", end)), Some(thread)),
        end = &mut telling => (Err(dead("the webhook", end)), Some(thread)),
        _ = terminated.recv() => (Ok(()), Some(thread)),
        end = tokio::signal::ctrl_c() => (end.context("no signals can be heard"), Some(thread)),
    };
    // What the effects do is idempotent, so they may be cut; calls in flight get their answers.
    stop.cancel();
    effects.abort();
    ticks.abort();
    telling.abort();
    looks.abort();
    farewell(doors).await;
    // The engine ends when nobody can ask it any more, and closes the log. If it had ended before,
    // the others only know that it is gone, and it knows why.
    let ended = match engine {
        Some(thread) => match tokio::time::timeout(FAREWELL_MAX, thread).await {
            Ok(end @ (Ok(Err(_)) | Err(_))) => Err(dead("the engine", end)),
            Ok(Ok(Ok(()))) | Err(_) => ended,
        },
        None => ended,
    };
    _ = std::fs::remove_file(&config.socket); // the next start replaces it anyway
    tracing::info!("stopped");
    ended
}

/// Lets a part come to its end, unless it has already: an end is there to be had only once.
async fn farewell<T>(part: JoinHandle<T>) {
    if !part.is_finished() {
        _ = tokio::time::timeout(FAREWELL_MAX, part).await;
    }
}

fn dead<T, E: Into<anyhow::Error>>(
    part: &str,
    end: Result<Result<T, E>, tokio::task::JoinError>,
) -> anyhow::Error {
    let error = match end {
        Ok(Ok(_)) => anyhow::anyhow!("it ended"),
        Ok(Err(error)) => error.into(),
        Err(panicked) => panicked.into(),
    };
    error.context(format!("{part} has died"))
}

fn desk(config: &Config, authority: Arc<Authority>, handle: Handle) -> anyhow::Result<Desk> {
    let backups = config.backup.clone().map(|backup| {
        let Backup { directory, recipients, keep } = backup;
        Backups::new(directory, recipients, keep)
    });
    let context = effects::Context {
        clients: Clients::new(crate::clients::real()),
        agents: Agents::default(),
        readiness: Default::default(),
        etcd: Default::default(),
        blobs: Blobs::open(config.dir.join(blobs::DIRECTORY))?,
        backups,
        run_program: effects::run_program(),
        protection: config.protection.clone(),
        installers: config.installers.clone(),
        clock: Arc::new(now),
        draw: Arc::new(authority::draw),
        dir: config.dir.clone(),
        advertised: config.advertise.clone(),
        ca_sha256: authority.sha256().to_owned(),
    };
    let troubles = Troubles::default();
    let agent_life = config.agent_life;
    let stranger_life = ingest::STRANGER_MAX;
    Ok(Desk { handle, context, authority, troubles, agent_life, stranger_life })
}

/// Whom to tell, and how far they have been told.
fn webhook(
    config: &Config,
    ca_sha256: &str,
    last: u64,
) -> anyhow::Result<Option<(Webhook, Cursor)>> {
    let Some(Receiver { url, secret_file }) = &config.webhook else { return Ok(None) };
    let secret = Secret::read(secret_file)
        .with_context(|| format!("webhook.secretFile: {}", secret_file.display()))?;
    let cursor = Cursor::open(&config.dir, last).context("webhook.cursor")?;
    let clock = Arc::new(now);
    let webhook = Webhook::new(url.clone(), secret, ca_sha256, Patience::default(), clock)
        .context("no certificates to check the webhook's receiver by")?;
    Ok(Some((webhook, cursor)))
}

async fn tell(
    webhook: Option<(Webhook, Cursor)>,
    handle: Handle,
) -> Result<(), crate::engine::Error> {
    match webhook {
        Some((webhook, cursor)) => webhook.run(handle, cursor).await,
        None => std::future::pending().await,
    }
}

async fn tick(handle: Handle) -> Result<(), crate::engine::Error> {
    let mut beat = tokio::time::interval(TICK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        _ = handle.submit(Command::Tick).await?;
    }
}
