//! The TCP port as it is listened on: so many connections at once, and none that stands still. Whoever is on this machine may
//! connect, and one who says nothing, or reads nothing, would keep what others need.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::connection::Connection;

/// Connections at once. A browser keeps six, a Prometheus one.
const MOST: usize = 512;
/// A connection over which nothing moves for so long is closed. Streams say something every 15 s.
const STILL: Duration = Duration::from_mins(1);

/// The listener.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    still: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)), still: STILL }
    }
}

impl Listener for Bounded {
    /// With its place.
    type Io = Connection<TcpStream, OwnedSemaphorePermit>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                // Out of descriptors, most likely: let others close some.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Without a place it is closed at once: who waited in line could be waiting for ever.
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return (Connection::new(stream, place, Some(self.still)), address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
