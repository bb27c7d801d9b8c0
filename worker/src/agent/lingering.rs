//! A connection whose end is the peer's to make: after shutdown it is read, and what it says dropped,
//! until the peer has ended it too.
//!
//! Without this a gateway that is still writing a request loses the answer to it: its write fails on a
//! closed socket, and it breaks off before it has read that the stream was refused, or that the worker
//! leaves. It must not know what is said on the connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a peer may take to end a connection that was shut down.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
/// Read and dropped at a time, bytes.
const DROPPED_AT_ONCE: usize = 4096;

/// A connection that is open until its peer ends it, within a limit.
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    stream: S,
    /// Once the stream was shut down: the end of waiting.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, deadline: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, deadline } = &mut *self;
        if deadline.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let deadline = deadline.get_or_insert_with(|| Box::pin(sleep(LINGER_LIMIT)));
        let mut dropped = [0; DROPPED_AT_ONCE];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // however the peer ended it, all was said
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return deadline.as_mut().poll(context).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn a_peer_that_still_writes_reads_the_last_words_and_ends_the_connection_itself() {
        let (ours, mut peer) = duplex(64 * 1024);
        let mut ours = Lingering::new(ours);
        ours.write_all(b"last words").await.unwrap();
        let shutting = tokio::spawn(async move { ours.shutdown().await });
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "last words");
        // far more than any buffer on the way holds
        for _ in 0..100 {
            peer.write_all(&[0; 4096]).await.unwrap();
        }
        assert!(!shutting.is_finished());
        drop(peer);
        shutting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_ends_it_is_not_waited_for_longer_than_the_limit() {
        let (ours, _peer) = duplex(64);
        let begun = tokio::time::Instant::now();
        Lingering::new(ours).shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER_LIMIT);
    }
}
