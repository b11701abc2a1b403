//! Takes connections in, but not more than the process has file descriptors for.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;

use super::stranger::Stranger;

/// Connections of agents and operators at the same time; the unit file allows twice as many files.
const REMOTE_MAX: usize = 32_768;

/// Connections over the socket at the same time.
const LOCAL_MAX: usize = 64;

/// Pause after a failed accept, so that a lack of file descriptors does not burn a core.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A connection that counts for as long as it lives.
pub(super) struct Counted<T> {
    io: T,
    _place: OwnedSemaphorePermit,
}

/// Connections of a TCP port; without a certificate they last so long.
pub(super) fn remote(
    listener: TcpListener,
    stranger_life: Duration,
) -> impl Stream<Item = io::Result<Counted<Stranger<TcpStream>>>> {
    let places = Arc::new(Semaphore::new(REMOTE_MAX));
    stream::unfold((listener, places), move |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let io = loop {
            match listener.accept().await {
                Ok((io, _)) => break io,
                Err(error) => failed(&error).await,
            }
        };
        _ = io.set_nodelay(true); // slower, not wrong
        let io = Stranger::new(io, stranger_life);
        Some((Ok(Counted { io, _place: place }), (listener, places)))
    })
}

/// Connections of a socket.
pub(super) fn local(listener: UnixListener) -> impl Stream<Item = io::Result<Counted<UnixStream>>> {
    let places = Arc::new(Semaphore::new(LOCAL_MAX));
    stream::unfold((listener, places), |(listener, places)| async {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let io = loop {
            match listener.accept().await {
                Ok((io, _)) => break io,
                Err(error) => failed(&error).await,
            }
        };
        Some((Ok(Counted { io, _place: place }), (listener, places)))
    })
}

async fn failed(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(AFTER_FAILURE).await;
}

impl<T: Connected> Connected for Counted<T> {
    type ConnectInfo = T::ConnectInfo;
    fn connect_info(&self) -> T::ConnectInfo {
        self.io.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
