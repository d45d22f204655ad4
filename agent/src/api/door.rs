//! The control socket as it is listened on: who connects is known from then on, and nobody but operators can have all connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use super::connection::Connection;
use super::gate::{Gate, Ticket};
use super::types::Peer;

/// What who has too many connections is told before this one is closed.
const FULL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
    content-length: 106\r\n\r\n{\"title\":\"Too Many Requests\",\"status\":429,\"detail\":\"your user has too many connections to the agent open\"}";

/// The listener.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    gate: Arc<Gate>,
}

/// Who is at the other end, and that this counts for.
#[derive(Debug)]
pub(super) struct Known {
    peer: Peer,
    _ticket: Option<Ticket>,
}

impl Door {
    pub(super) fn new(listener: UnixListener, gate: Arc<Gate>) -> Self {
        Self { listener, gate }
    }
}

impl Listener for Door {
    type Io = Connection<UnixStream, Known>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                // Out of descriptors, most likely: let others close some.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let peer = Peer::of(&stream);
            match self.gate.connect(&peer.0) {
                Ok(ticket) => {
                    // No bound: who waits for the end of a workload says nothing for as long as that lasts.
                    let known = Known { peer, _ticket: ticket };
                    return (Connection::new(stream, known, None), address);
                }
                Err(()) => {
                    let _ = stream.try_write(FULL);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().kept.peer.clone()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(super::FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<crate::api::types::Problem>(body).is_ok());
    }
}
