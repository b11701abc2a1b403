//! Connections whose caller is not known yet: who shows no certificate may enrol or ask how we are, and has
//! to go after that. Else strangers that only stay would take all places, and keep agents out.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tonic::transport::server::Connected;

/// A connection that ends after a time, unless somebody who is known has called by it.
pub(super) struct Stranger<T> {
    io: T,
    known: Arc<AtomicBool>,
    end: Pin<Box<Sleep>>,
}

/// By which connection a call comes.
#[derive(Clone)]
pub(super) struct By<I> {
    /// What the connection says of itself.
    pub(super) info: I,
    known: Arc<AtomicBool>,
}

impl<I> By<I> {
    /// Lets the connection stay: a certificate was shown.
    pub(super) fn is_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }
}

impl<T> Stranger<T> {
    /// A connection that has begun now.
    pub(super) fn new(io: T, life: Duration) -> Self {
        Self { io, known: Arc::default(), end: Box::pin(tokio::time::sleep(life)) }
    }

    fn may_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.known.load(Ordering::Relaxed) && self.end.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no certificate was shown"));
        }
        Ok(())
    }
}

impl<T: Connected> Connected for Stranger<T> {
    type ConnectInfo = By<T::ConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        By { info: self.io.connect_info(), known: self.known.clone() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stranger<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// Who does not read what is written must not stay either.
impl<T: AsyncWrite + Unpin> AsyncWrite for Stranger<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    const LIFE: Duration = Duration::from_millis(200);

    fn stranger() -> (Stranger<DuplexStream>, DuplexStream) {
        let (here, there) = duplex(4);
        (Stranger::new(here, LIFE), there)
    }

    #[tokio::test]
    async fn a_stranger_that_only_stays_has_to_go_whether_it_is_silent_or_does_not_read() {
        let (mut silent, _there) = stranger();
        let mut buffer = [0; 8];
        assert!(timeout(LIFE / 2, silent.read(&mut buffer)).await.is_err(), "it may stay so long");
        let end = timeout(LIFE * 20, silent.read(&mut buffer)).await.unwrap().unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::TimedOut);
        let (mut deaf, _there) = stranger();
        let end = timeout(LIFE * 20, deaf.write_all(b"more than fits")).await.unwrap().unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_is_known_stays() {
        let (mut known, mut there) = stranger();
        known.connect_info().is_known();
        let mut buffer = [0; 8];
        assert!(timeout(LIFE * 3, known.read(&mut buffer)).await.is_err());
        there.write_all(b"x").await.unwrap();
        assert_eq!(known.read(&mut buffer).await.unwrap(), 1);
    }
}
