//! A connection as both listeners hand it to the server: a stream, what is kept as long as it is open, and perhaps a bound on how long
//! it may stand still.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection.
#[derive(Debug)]
pub(super) struct Connection<S, K> {
    stream: S,
    pub(super) kept: K,
    still: Option<Still>,
}

/// How long nothing may move, and when that is over.
#[derive(Debug)]
struct Still {
    most: Duration,
    ends: Pin<Box<Sleep>>,
}

impl<S, K> Connection<S, K> {
    /// One over which nothing moves for longer than `still` fails.
    pub(super) fn new(stream: S, kept: K, still: Option<Duration>) -> Self {
        let still = still.map(|most| Still { most, ends: Box::pin(sleep_until(Instant::now() + most)) });
        Self { stream, kept, still }
    }

    /// What came of an attempt to read or write; an error, where it could not and nothing else has for too long.
    fn moved<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(Still { most, ends }) = &mut self.still else { return result };
        if result.is_ready() {
            ends.as_mut().reset(Instant::now() + *most);
            return result;
        }
        ready!(ends.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Connection<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(context, result)
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Connection<S, K> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.moved(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
