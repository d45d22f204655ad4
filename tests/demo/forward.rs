//! A way to the agent's metrics from outside of a guest.
//!
//! The agent listens on loopback only. QEMU's user network forwards a port of the host to the guest's own address,
//! 10.0.2.15, and a packet that came by the network never reaches a socket on loopback: so somebody in the guest has to
//! carry it over. Where there is no such address, as on a machine of one's own, nothing is needed.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::http::PORT;

/// Address that QEMU's user network gives its first guest.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Carries connections over for as long as the demo runs.
pub(crate) fn start() {
    let Ok(listener) = TcpListener::bind((GUEST, PORT)) else { return };
    thread::spawn(move || {
        for outside in listener.incoming().map_while(Result::ok) {
            // Without the agent there is nothing to say: the connection is closed.
            if let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)) {
                let _ = join(&outside, &inside);
            }
        }
    });
}

fn join(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // Either end may hang up at any time.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
