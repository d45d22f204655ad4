//! What the agent tells the service manager that has started it: sd_notify(3), in own lines, since all of it is one datagram to the
//! socket that `NOTIFY_SOCKET` names. Without that variable nothing is said.
//!
//! The manager's watchdog is fed while the control loop turns, and not otherwise: a hung loop is ended and started anew. That is
//! slower than the agent's own watchdog, which opens the limits by then. Nothing here is called from the control loop.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::control::Handle;
use crate::kernel::clock;

/// How often the status is looked at where the manager has no watchdog.
const LOOK: Duration = Duration::from_secs(5);
/// A manager that takes nothing for so long is not waited for.
const SEND: Duration = Duration::from_secs(1);

/// The service manager, if there is one. Cloning shares the socket.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    /// After a silence this long it takes the agent for hung.
    patience: Option<Duration>,
}

impl Manager {
    /// The manager that this process' environment names.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let Some(name) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND))?;
            Ok((socket, address))
        });
        let is_meant = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = variable("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|_| is_meant);
        match socket {
            Ok(socket) => {
                Self { socket: Some(Arc::new(socket)), patience: patience.map(Duration::from_micros) }
            }
            Err(error) => {
                crate::kernel::tell(&format!(
                    "the service manager cannot be told anything ({name}): {error}"
                ));
                Self::default()
            }
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The agent governs; also what ends a reload.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The policies are being read again.
    pub fn reloading(&self) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::now().0 / 1000));
    }

    /// The agent ends.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Tells what is the case, and that the loop turns, for as long as the agent lives. `restore` puts back what the manager may have
    /// changed: it does so with each reload of its units, and tells nobody.
    pub async fn accompany(self, control: Handle, restore: impl Fn()) {
        let pause = self.patience.map_or(LOOK, |patience| patience / 3);
        let mut told = String::new();
        while self.is_there() {
            if self.patience.is_some() && control.idle() < pause {
                self.say("WATCHDOG=1");
            }
            let status = status(&control);
            if status != told {
                self.say(&format!("STATUS={status}"));
                told = status;
            }
            restore();
            tokio::time::sleep(pause).await;
        }
    }

    /// What cannot be said is left: systemd tells when it waits in vain.
    fn say(&self, lines: &str) {
        if let Some((socket, address)) = self.socket.as_deref() {
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }
}

/// What is the case, in a line.
#[must_use]
pub fn status(control: &Handle) -> String {
    match control.table.list().len() {
        1 => "1 workload is governed".to_owned(),
        more => format!("{more} workloads are governed"),
    }
}

/// A path, or with an `@` an abstract name.
fn address(name: &str) -> std::io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives() {
        let name = format!("bellows-notify-{}", std::process::id());
        let address = address(&format!("@{name}")).unwrap();
        let hears = UnixDatagram::bind_addr(&address).unwrap();
        let socket = Some(Arc::new((UnixDatagram::unbound().unwrap(), address)));
        let manager = Manager { socket, patience: None };
        manager.ready("well");
        manager.reloading();
        let mut buffer = [0; 256];
        let mut hear = || {
            let length = hears.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(hear(), "READY=1\nSTATUS=well");
        let text = hear();
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
        assert!(usec.abs_diff(clock::now().0 / 1000) < 60_000_000, "{text}");
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let manager = Manager::default();
        manager.stopping("well");
        assert!(!manager.is_there());
    }
}
