//! A way to an agent's port from outside of a guest.
//!
//! The agent listens on loopback only. QEMU's user network forwards a port of the host to the guest's own address,
//! 10.0.2.15, and a packet that came by the network never reaches a socket on loopback: so somebody in the guest has to
//! carry it over. Where there is no such address, as on a machine of one's own, nothing is needed.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

/// Address that QEMU's user network gives its first guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Carries connections to `port` over for as long as this process runs; false where this is no guest.
#[expect(clippy::must_use_candidate, reason = "who wants the way need not know whether there is one")]
pub fn carry(port: u16) -> bool {
    let Ok(listener) = TcpListener::bind((GUEST, port)) else { return false };
    thread::spawn(move || {
        for outside in listener.incoming().map_while(Result::ok) {
            // Without the agent there is nothing to say: the connection is closed.
            if let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                let _ = join(&outside, &inside);
            }
        }
    });
    true
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
