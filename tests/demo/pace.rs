//! How fast the machine is while a way is played: on one that others use too, speeds of two ways compare only if it was as fast
//! in both.
//!
//! A fixed piece of work is done now and then, and its cpu time taken. Who else runs in the same kernel does not show in cpu
//! time; who takes the processor away from a guest, or slows it down, does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// Time between two pieces of work.
const PERIOD: Duration = Duration::from_millis(250);
/// Steps of a piece of work: about five milliseconds in a translated guest, two hundredths of a cpu in all. With shorter
/// ones a few moments without the processor made a machine look seven times as slow.
const STEPS: u64 = 1_000_000;

/// Takes the time.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pieces: u32,
    spent: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Does a piece of work, if it is time to.
    pub(crate) fn tick(&mut self) -> Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return Ok(());
        }
        let before = cpu_time()?;
        let mut state = black_box(1_u64);
        for _ in 0..STEPS {
            // Opaque, or the compiler finds a shorter way.
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        self.spent += cpu_time()?.saturating_sub(before);
        self.pieces += 1;
        self.last = Some(Instant::now());
        Ok(())
    }

    /// Millions of steps per second of cpu time.
    pub(crate) fn speed(&self) -> f64 {
        let steps = f64::from(self.pieces) * STEPS as f64;
        steps / 1e6 / self.spent.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

fn cpu_time() -> Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("this thread's cpu time is not known")?;
    Ok(time.into())
}
