//! `cpu.pressure` of each workload, and what it has used of the cpus where it has no quota, for `/metrics`. No law asks for these, so no loop
//! reads them: a scrape has them read behind its back, and the next one shows them. Where nobody scrapes it costs nothing, and no scrape waits for it.
//!
//! What could not be read of one that is there is counted, and no series of it is shown until it can be again: an old value would say
//! that nobody has waited since.
//!
//! Rejected: reading it with `memory.pressure`, which is read when memory is short. Who only waits for a cpu is at rest there. And an
//! open file for each workload, which would be one more for the same price: the files are opened by name, as `detail` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellows_policies::units::Instant;

use super::Shared;
use super::detail::{Waits, waits};
use crate::kernel::{clock, parse};
use crate::metrics::{MOST_WORKLOADS, Published};

/// Least time from the end of one reading to the begin of the next, however many scrape.
const LEAST: Duration = Duration::from_secs(5);

/// When `cpu.pressure` may be read again, on the monotonic clock; [`u64::MAX`] while it is being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading(Arc<AtomicU64>);

/// The turn to read. However it ends, the next one may begin.
struct Turn(Reading);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.end(clock::now());
    }
}

impl Reading {
    /// Whether it is the caller's turn to read; then [`Reading::end`] has to follow, by a [`Turn`].
    fn begin(&self, now: Instant) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        due <= now.0 && self.0.compare_exchange(due, u64::MAX, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn end(&self, now: Instant) {
        self.0.store(now.plus(LEAST).0, Ordering::Relaxed);
    }
}

/// Has all of it read on a thread of its own, unless that was done just now.
pub(super) fn read_behind(shared: &Shared) {
    let began = clock::now();
    if !shared.reading.begin(began) {
        return;
    }
    let (turn, shared) = (Turn(shared.reading.clone()), shared.clone());
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        for published in shared.control.table.list().iter().take(MOST_WORKLOADS) {
            read(&shared, published);
        }
        shared.control.metrics.pressure_read.observe(clock::now().since(began).as_secs_f64());
    });
}

/// Nothing new is published of one that has just ended, and nothing at all where the kernel does not tell.
fn read(shared: &Shared, published: &Published) {
    let place = shared.node.ground.workloads.child(&published.facts.tenant);
    let place = place.and_then(|tenant| tenant.child(&published.facts.workload));
    if published.facts.cpu.is_none()
        && let Ok(place) = &place
        && let Ok(text) = place.read("cpu.stat")
        && let Some(usage_us) = parse::value_of(text.as_bytes(), "usage_usec")
    {
        published.cpu_used(usage_us);
    }
    match place.and_then(|place| waits(&place, "cpu.pressure")) {
        Ok(Waits { some_us, full_us }) => published.cpu_waits(Some((some_us, full_us))),
        Err(error) if error.is_gone() || error.is_unsupported() => {}
        Err(_) => {
            published.cpu_waits(None);
            shared.control.metrics.pressure_unread.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reads_at_a_time_and_the_next_a_while_later() {
        let reading = Reading::default();
        let at = Instant;
        assert!(reading.begin(at(7)) && !reading.begin(at(7)) && !reading.begin(at(u64::MAX - 1)));
        reading.end(at(10));
        let due = at(10).plus(LEAST);
        assert!(!reading.begin(at(due.0 - 1)) && reading.begin(due));
        // One that is broken off has ended as well.
        let turn = Turn(reading.clone());
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _turn = turn;
            panic!("a reading is broken off");
        }));
        assert!(broken.is_err() && reading.begin(at(u64::MAX - 1)));
    }
}
