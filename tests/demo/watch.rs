//! What is seen of all tenants while they run.

use std::time::{Duration, Instant};

use anyhow::Result;
use bellows_policies::Cpus;
use bellows_policies::units::Bytes;
use bellows_tests::programs::group::{Group, Look};

use crate::scenario::{PACK, REDIS, TENANTS};
use crate::stage::Stage;

/// Time between two looks: short enough for the seconds in which a report holds its memory.
const PERIOD: Duration = Duration::from_millis(250);

/// Watches one way.
#[derive(Debug)]
pub(crate) struct Watch {
    top: Group,
    seats: Vec<Seat>,
    next: Instant,
    pack_granted: Vec<Bytes>,
    redis_in_use: Look,
}

/// What is seen of one tenant.
#[derive(Debug)]
pub(crate) struct Seat {
    group: Group,
    /// The last look; none while the tenant has no cgroup.
    pub(crate) look: Option<Look>,
    /// Cpu that it used lately.
    pub(crate) cpu: Cpus,
    /// The most memory that it was seen to use.
    pub(crate) peak: Bytes,
    before: Option<(Instant, u64)>,
}

impl Watch {
    /// Of all tenants on `stage`.
    pub(crate) fn new(stage: &Stage) -> Self {
        let seat = |tenant| Seat {
            group: stage.group(tenant),
            look: None,
            cpu: Cpus::ZERO,
            peak: Bytes::ZERO,
            before: None,
        };
        Self {
            top: stage.top().clone(),
            seats: TENANTS.iter().map(seat).collect(),
            next: Instant::now(),
            pack_granted: Vec::new(),
            redis_in_use: Look::default(),
        }
    }

    /// Takes a look if it is time for one.
    pub(crate) fn tick(&mut self) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        for seat in &mut self.seats {
            seat.take()?;
        }
        if let Some(look) = self.seats[PACK].look {
            self.pack_granted.push(look.granted);
        }
        // A dead one uses nothing.
        if let Some(look) = self.seats[REDIS].look.filter(|look| look.used >= Bytes::MIB) {
            self.redis_in_use = look;
        }
        self.next = Instant::now() + PERIOD;
        Ok(())
    }

    /// What is seen of each tenant, in their order.
    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// What all tenants use, and what they are granted where anything limits them.
    pub(crate) fn sums(&self) -> (Bytes, Option<Bytes>) {
        let looks = || self.seats.iter().filter_map(|seat| seat.look);
        let sum = |of: fn(Look) -> Bytes| looks().map(of).fold(Bytes::ZERO, Bytes::saturating_add);
        (sum(|look| look.used), Some(sum(|look| look.granted)).filter(|sum| sum.0 < u64::MAX))
    }

    /// OOM kills so far.
    pub(crate) fn kills(&self) -> Result<u64> {
        self.top.kills()
    }

    /// The last look at redis while it was alive.
    pub(crate) fn redis_in_use(&self) -> Look {
        self.redis_in_use
    }

    /// What the archive job was granted over time.
    pub(crate) fn pack_granted(&self) -> Vec<Bytes> {
        self.pack_granted.clone()
    }
}

impl Seat {
    fn take(&mut self) -> Result<()> {
        self.look = self.group.look()?;
        let now = Instant::now();
        let before = self.before.take();
        if let Some(look) = self.look {
            self.peak = self.peak.max(look.used);
            self.before = Some((now, look.cpu_us));
            // A cgroup that was made anew counts from zero.
            if let Some((then, cpu_us)) = before.filter(|(_, cpu_us)| *cpu_us <= look.cpu_us) {
                self.cpu = Cpus::used(look.cpu_us - cpu_us, now - then);
            }
        }
        Ok(())
    }
}
