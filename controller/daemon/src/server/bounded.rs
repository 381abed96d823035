//! Connections: at most so many at one time; those of strangers end soon.
//!
//! Further ones wait in the kernel's backlog.
use super::strangers::{Peer, Strangers};
use futures::{Stream, StreamExt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// After an error of accept, which comes back at once as long as its cause, say too many open files, is there.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What all connections together are held to.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) room: Arc<Semaphore>,
    pub(super) strangers: Strangers,
    /// How long a connection may last whose peer stays a stranger.
    pub(super) patience: Duration,
}

/// A connection that makes room for another one when it ends.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: TcpStream,
    peer: Peer,
    /// When a stranger's time is over; none: it is known.
    end: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    _room: OwnedSemaphorePermit,
}

/// Accepts only while there is room.
pub(super) fn accept(
    incoming: impl Stream<Item = io::Result<TcpStream>> + Send + Unpin + 'static,
    bounds: Bounds,
) -> impl Stream<Item = io::Result<Bounded>> + Send + Unpin {
    Box::pin(futures::stream::unfold((incoming, bounds), |(mut incoming, bounds)| async move {
        let room = Arc::clone(&bounds.room).acquire_owned().await.ok()?;
        loop {
            match incoming.next().await? {
                Ok(stream) => {
                    if let Some(peer) = admitted(&stream, &bounds) {
                        let bounded = Bounded::new(stream, peer, bounds.patience, room);
                        return Some((Ok(bounded), (incoming, bounds)));
                    }
                }
                Err(why) => {
                    metrics::counter!("foreweave_accept_errors_total").increment(1);
                    tracing::warn!(%why, again_in = ?ACCEPT_AGAIN, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }))
}

/// None: it has ended already, or there are too many from its address.
fn admitted(stream: &TcpStream, bounds: &Bounds) -> Option<Peer> {
    let address = stream.peer_addr().ok()?.ip();
    let peer = bounds.strangers.admit(address);
    if peer.is_none() {
        metrics::counter!("foreweave_strangers_refused_total").increment(1);
        tracing::debug!(%address, "too many connections without a certificate from there");
    }
    peer
}

impl Bounded {
    fn new(stream: TcpStream, peer: Peer, patience: Duration, room: OwnedSemaphorePermit) -> Self {
        let end = Some(Box::pin(tokio::time::sleep(patience)));
        Self { stream, peer, end, patience, _room: room }
    }

    /// An error once a stranger's time is over.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(end) = &mut self.end else { return Ok(()) };
        if self.peer.is_known() {
            self.end = None;
        } else if end.as_mut().poll(cx).is_ready() {
            let why = format!("no certificate was shown within {} s", self.patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
    }
}

impl Connected for Bounded {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn bounds(patience: Duration) -> Bounds {
        Bounds { room: Arc::new(Semaphore::new(10)), strangers: Strangers::default(), patience }
    }

    /// Both ends of a connection: the caller's, and the one that is to be accepted.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let (caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (caller.expect("connect"), accepted.expect("accept").0)
    }

    #[tokio::test]
    async fn an_error_of_accept_does_not_end_accepting() {
        let (_caller, stream) = connection().await;
        let too_many_files = || Err(io::Error::from_raw_os_error(24));
        let incoming = stream::iter([too_many_files(), too_many_files(), Ok(stream)]);
        let mut accepted = accept(incoming, bounds(Duration::from_secs(30)));
        assert!(accepted.next().await.expect("goes on").is_ok());
        assert!(accepted.next().await.is_none());
    }

    #[tokio::test]
    async fn strangers_are_cut_off_and_who_is_known_stays() {
        let (mut friend, first) = connection().await;
        let (_stranger, second) = connection().await;
        let incoming = stream::iter([Ok(first), Ok(second)]);
        let accepted: Vec<_> = accept(incoming, bounds(Duration::from_millis(50))).collect().await;
        let [mut known, mut unknown] =
            <[_; 2]>::try_from(accepted).expect("two").map(|accepted| accepted.expect("accepted"));
        known.connect_info().vouch();
        let end = unknown.read_u8().await.expect_err("its time is over");
        assert_eq!(end.kind(), io::ErrorKind::TimedOut);
        assert_eq!(unknown.write_u8(1).await.expect_err("for writing too").kind(), io::ErrorKind::TimedOut);
        friend.write_u8(7).await.expect("write");
        assert_eq!(known.read_u8().await.expect("later than that"), 7);
    }
}
