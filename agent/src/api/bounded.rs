//! The TCP port as it is listened on: so many connections at once, and none that stands still. Whoever is on this machine may
//! connect, and one who says nothing, or reads nothing, would keep what others need.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Connections at once. A browser keeps six, a Prometheus one.
const MOST: usize = 512;
/// A connection over which nothing moves for so long is closed. Streams say something every 15 s.
const STILL: Duration = Duration::from_secs(60);

/// The listener.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    still: Duration,
}

/// A connection, with its place.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    still: Duration,
    ends: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)), still: STILL }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                // Out of descriptors, most likely: let others close some.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Without a place it is closed at once: who waited in line could be waiting for ever.
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                let ends = Box::pin(sleep_until(Instant::now() + self.still));
                return (Connection { stream, still: self.still, ends, _place: place }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// What came of an attempt to read or write; an error, where it could not and nothing else has for too long.
    fn moved<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.ends.as_mut().reset(Instant::now() + self.still);
            return result;
        }
        ready!(self.ends.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved(context, result)
    }
}

impl AsyncWrite for Connection {
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
        parts: &[io::IoSlice<'_>],
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn bounded(places: usize, still: Duration) -> Bounded {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Bounded { listener, places: Arc::new(Semaphore::new(places)), still }
    }

    #[tokio::test]
    async fn who_finds_no_place_is_closed_and_a_place_comes_back() {
        let mut door = bounded(1, STILL).await;
        let address = door.local_addr().unwrap();
        let _first = TcpStream::connect(address).await.unwrap();
        let (first, _) = door.accept().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let closed = async { second.read(&mut [0]).await.is_ok_and(|n| n == 0) };
        tokio::select! {
            _ = door.accept() => panic!("there was one place"),
            closed = closed => assert!(closed, "it is closed, not left waiting"),
        }
        drop(first);
        let _third = TcpStream::connect(address).await.unwrap();
        let _ = door.accept().await;
    }

    #[tokio::test]
    async fn who_stands_still_is_closed_and_who_moves_is_not() {
        let still = Duration::from_millis(200);
        let mut door = bounded(2, still).await;
        let address = door.local_addr().unwrap();
        let mut speaker = TcpStream::connect(address).await.unwrap();
        let (mut heard, _) = door.accept().await;
        for _ in 0..4 {
            sleep(still / 2).await;
            speaker.write_all(b"x").await.unwrap();
            assert_eq!(heard.read(&mut [0]).await.unwrap(), 1);
        }
        let error = heard.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Nor may it take an answer and leave it there.
        let (mut written, answer) = (0, vec![0_u8; 1 << 20]);
        let error = loop {
            match heard.write(&answer).await {
                Ok(n) => written += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "after {written} bytes");
    }
}
