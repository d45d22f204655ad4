//! Hot reload of policies: on SIGHUP, and on a change of their directory. Whole or not at all: what is wrong is told, and the
//! old ones stay.
//!
//! The directory is watched, not its files: editors rename, and a ConfigMap swaps a symlink in it. Its parent is watched too,
//! for a directory that comes later or is swapped as a whole. Files changed in place behind a symlink are not noticed: SIGHUP
//! is for that. Reading and compiling happen on a thread of their own; the control loop gets a finished rule set.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bellows_policies::Ruleset;
use inotify::{Inotify, WatchMask, Watches};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::control::{Command, Handle, Refused};
use crate::kernel::{clock, tell};
use crate::notify::{self, Manager};
use crate::policy::{self, Compiled, Node, Shown};

/// Changes come in bursts: the first is waited upon for so long.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reloads for as long as the agent lives. `version` is that of the policies in force.
pub async fn follow(
    handle: Handle,
    directory: PathBuf,
    node: Node,
    mut version: String,
    manager: Manager,
    shown: watch::Sender<Arc<Shown>>,
) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let inotify = Inotify::init()?;
    let (mut watches, change) = (inotify.watches(), Arc::new(Notify::new()));
    listen(inotify, Arc::clone(&change))?;
    // At once, too: what changed between the agent's own reading and the watch is not told by any event.
    let mut is_asked = false;
    loop {
        tokio::time::sleep(DEBOUNCE).await;
        // The directory may be another one now.
        listen_to(&mut watches, &directory);
        let path = directory.clone();
        let compiled = tokio::task::spawn_blocking(move || policy::load(&path, node)).await?;
        if is_asked || compiled.rules.version != version {
            version.clone_from(&compiled.rules.version);
            let is_refused = compiled.refusal().is_some();
            let after = shown.borrow().after(&compiled);
            if let Err(refused) = hand_over(&handle, compiled) {
                tell(&format!("policies are not reloaded: {refused}"));
                handle.metrics.policies.refused();
                // The next change or signal tries again.
                version.clear();
            } else {
                shown.send_replace(Arc::new(after));
            }
            if is_asked {
                // A manager knows no reload that failed.
                let but =
                    if is_refused { "; new policies were refused, see `bellows policy check`" } else { "" };
                manager.ready(&(notify::status(&handle) + but));
            }
        }
        is_asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = change.notified() => false,
        };
        if is_asked {
            manager.reloading();
        }
    }
}

/// Gives sound policies to the control loop, and tells what is wrong with others.
fn hand_over(handle: &Handle, compiled: Compiled) -> Result<(), Refused> {
    if let Some((error, problems)) = compiled.refusal() {
        for diagnostic in &compiled.diagnostics {
            tell(&diagnostic.brief(&compiled.sources));
        }
        tell(&format!("policies refused, the old ones stay: {problems} problems (`bellows policy check`)"));
        handle.metrics.policies.refused();
        return handle.send(Command::PoliciesRefused { error, problems });
    }
    let Ruleset { version, classes, rules, .. } = &compiled.rules;
    let text = format!("policies {version} loaded: {} classes, {} rules", classes.len(), rules.len());
    handle.send(Command::Policies { rules: Arc::new(compiled.rules) })?;
    handle.metrics.policies.loaded(clock::unix_nanoseconds());
    tell(&text);
    Ok(())
}

/// Tells of each change, from a thread of its own: it waits in the kernel, and costs nothing until then.
fn listen(mut inotify: Inotify, changed: Arc<Notify>) -> io::Result<()> {
    let listening = move || {
        let mut buffer = [0; 4096];
        // What changed does not count, only that something did.
        while inotify.read_events_blocking(&mut buffer).is_ok() {
            changed.notify_one();
        }
    };
    thread::Builder::new().name("bellows-policies".to_owned()).spawn(listening).map(drop)
}

/// Watches what is there; what is there already, once more: that changes nothing.
fn listen_to(watches: &mut Watches, directory: &Path) {
    let mask = WatchMask::CLOSE_WRITE | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
    for path in [Some(directory), directory.parent()].into_iter().flatten() {
        // Absent ones are looked for again with the next event of the other.
        let _ = watches.add(path, mask);
    }
}
