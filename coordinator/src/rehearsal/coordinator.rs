//! The real coordinator, put together as `serve` does it, but for its clock, its world, and effects
//! that wait to be driven.

use std::{
    io,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use age::x25519::Recipient;
use rehull_shared::{text::hex, time::Span};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{clock::Clock, driver::Error, installer, world::Shared};
use crate::{
    agents::Agents,
    authority::Authority,
    backups::Backups,
    blobs::Blobs,
    clients::Clients,
    effects::{Context, Draw, Troubles},
    engine::{self, Engine, Handle},
    ingest::{self, Desk},
};

/// Agents look at certificates with the virtual clock, the server with the machine's: they are made
/// to be valid for both, and far from their end, so that nobody renews.
const BACKDATED: Duration = Duration::from_secs(20 * 365 * 86_400);
const LIFE: Span = Span::from_secs(100 * 365 * 86_400);

/// Directory of the backups of control planes, below that of the log.
pub(super) const BACKUPS: &str = "backups";

/// What outlives a coordinator that dies.
pub(super) struct Parts {
    pub(super) dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) world: Shared,
    pub(super) authority: Arc<Authority>,
    /// Programs that the documents have reinstall hosts.
    installers: Vec<String>,
    listener: TcpListener,
    /// Who could read the backups, if anybody kept the key.
    recipient: Recipient,
    draw: Draw,
}

/// One life of a coordinator.
pub(super) struct Coordinator {
    pub(super) handle: Handle,
    pub(super) context: Context,
    pub(super) troubles: Troubles,
    thread: JoinHandle<Result<(), engine::Error>>,
    doors: JoinHandle<Result<(), ingest::Error>>,
    stop: CancellationToken,
}

impl Parts {
    /// A port on this machine, a fresh CA, and secrets that follow from the seed: they are worth
    /// nothing outside, and their hashes are in the log.
    pub(super) fn new(
        dir: PathBuf,
        clock: Clock,
        world: Shared,
        installers: Vec<String>,
        seed: &str,
    ) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (seed, drawn) = (seed.to_owned(), AtomicU64::new(0));
        let draw: Draw = Arc::new(move || {
            let number = drawn.fetch_add(1, Ordering::SeqCst);
            Sha256::digest(format!("{seed}/secret/{number}")).into()
        });
        let authority = Arc::new(Authority::create_backdated(BACKDATED)?);
        let recipient = age::x25519::Identity::generate().to_public();
        Ok(Self { dir, clock, world, authority, installers, listener, recipient, draw })
    }

    /// Where agents find the coordinator.
    pub(super) fn address(&self) -> io::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// A new secret, as text.
    pub(super) fn secret(&self) -> String {
        hex(&(self.draw)())
    }
}

impl Coordinator {
    /// Opens log and port.
    pub(super) async fn open(parts: &Parts) -> Result<Self, Error> {
        let (log, clock) = (parts.dir.join("log"), parts.clock.reader());
        let opened = tokio::task::spawn_blocking(move || Engine::open(&log, clock)).await;
        let (engine, handle) =
            opened.map_err(|panic| Error::Part("the log", panic.to_string()))??;
        let context = Context {
            clients: Clients::new(parts.world.connect()),
            agents: Agents::default(),
            readiness: Default::default(),
            etcd: Default::default(),
            blobs: Blobs::open(parts.dir.join("blobs")).map_err(io::Error::other)?,
            backups: Some(Backups::new(parts.dir.join(BACKUPS), vec![parts.recipient.clone()], 3)),
            run_program: installer::program(parts.world.clone()),
            protection: Some(installer::PROTECTION.to_owned()),
            installers: parts.installers.clone(),
            clock: parts.clock.reader(),
            draw: parts.draw.clone(),
            dir: parts.dir.clone(),
            advertised: parts.address()?,
            ca_sha256: parts.authority.sha256().to_owned(),
        };
        let troubles = Troubles::default();
        let desk = Desk {
            handle: handle.clone(),
            context: context.clone(),
            authority: parts.authority.clone(),
            troubles: troubles.clone(),
            agent_life: LIFE,
            stranger_life: ingest::STRANGER_MAX,
        };
        let stop = CancellationToken::new();
        let port = tokio::net::TcpListener::from_std(parts.listener.try_clone()?)?;
        let thread = tokio::task::spawn_blocking(move || engine.run());
        let doors = tokio::spawn(ingest::serve(port, None, desk, stop.clone()));
        Ok(Self { handle, context, troubles, thread, doors, stop })
    }

    /// Ends it: the log is closed when this returns.
    pub(super) async fn close(self) -> Result<(), Error> {
        let Self { handle, context, troubles: _, thread, doors, stop } = self;
        stop.cancel();
        let served = doors.await.map_err(|panic| Error::Part("the server", panic.to_string()))?;
        served.map_err(|error| Error::Part("the server", error.to_string()))?;
        drop((handle, context));
        Ok(thread.await.map_err(|panic| Error::Part("the engine", panic.to_string()))??)
    }
}
