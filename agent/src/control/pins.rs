//! Pins: an operator's word that limits stay where they are, above the laws and below what keeps everybody safe.
//!
//! What is asked for has to be within the workload's bounds, and not below its use; more than is granted has to fit the budget
//! whole. All that is checked before anything is changed. Then the limit is moved by a plan like any other, and the law pinned.

use std::time::Duration;

use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Cpus, Pin, Plan, Reason, Sample, Verb, undo};

use super::control_loop::Control;
use super::handle::Refused;
use super::life::terms;
use super::registry::Entry;
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::{Outcome, Resource};
use crate::workload::pins;

/// The longest time of a pin: a word that outlives its reason is a trap.
pub(crate) const LONGEST_PIN: Duration = Duration::from_hours(24);

/// What is to be pinned. With neither value what there is is pinned where it is.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The `memory.high` to pin it at.
    pub high: Option<Bytes>,
    /// The cpu quota to pin it at.
    pub cpu: Option<Cpus>,
    /// For how long.
    pub time: Duration,
}

/// Whether it may be, by all but the budget.
fn problem(entry: &Entry, wanted: &Wanted, current: Bytes) -> Option<String> {
    let Wanted { high, cpu, time } = *wanted;
    if time.is_zero() || time > LONGEST_PIN {
        return Some(format!(
            "--for is refused: a pin lasts a second at least, and {} hours at most",
            LONGEST_PIN.as_secs() / 3600
        ));
    }
    if entry.is_observed() {
        return Some("it is only observed, its limits stand open: there is nothing to pin".to_owned());
    }
    let (memory, quota) = (entry.identity().memory, entry.identity().cpu);
    if entry.law.is_released() || entry.law.is_failed() {
        return Some("its limits stand open and are not governed: there is nothing to pin".to_owned());
    }
    if let Some(high) = high.filter(|high| memory.clamp(*high) != *high) {
        return Some(format!(
            "--high {high} is refused: its bounds are {memory}; `bellows set` changes them"
        ));
    }
    if let Some(high) = high.filter(|high| *high < current) {
        return Some(format!("--high {high} is refused: it uses {current}, and a pin takes nothing away"));
    }
    match (cpu, quota) {
        (None, _) => None,
        (Some(_), None) => Some("--cpu is refused: it has no cpu quota".to_owned()),
        (Some(cpu), Some(bounds)) => (bounds.clamp(cpu) != cpu)
            .then(|| format!("--cpu {cpu} is refused: its bounds are {bounds}; `bellows set` changes them")),
    }
}

impl Control {
    /// Pins. `None`: it is gone.
    pub(super) fn pin(&mut self, key: Key, wanted: &Wanted, uid: u32) -> Option<Result<What, Refused>> {
        let entry = self.registry.get(key)?;
        let now = clock::now();
        let sample = entry.open.as_ref()?.sample(now.max(entry.sampled)).ok()?;
        if let Some(text) = problem(entry, wanted, sample.current) {
            return Some(Err(Refused::NotAllowed(text)));
        }
        let has_quota = entry.identity().cpu.is_some();
        let quota = entry.published.view().quota;
        let is_plain = wanted.high.is_none() && wanted.cpu.is_none();
        let pin = Pin {
            memory: wanted.high.is_some() || wanted.cpu.is_none(),
            cpu: wanted.cpu.is_some() || (is_plain && has_quota),
            until: now.plus(wanted.time),
            uid,
        };
        let high = wanted.high.unwrap_or(entry.law.limits().high).page_floor();
        if pin.memory
            && let Err(refused) = self.move_to_pin(key, high, &sample)?
        {
            return Some(Err(refused));
        }
        if let Err(refused) = self.hold_pin(key, pin, wanted.cpu)? {
            return Some(Err(refused));
        }
        Some(Ok(What::Pinned {
            high: pin.memory.then_some(high),
            cpu: quota.filter(|_| pin.cpu).map(|before| (before, wanted.cpu.unwrap_or(before))),
            until_unix_ns: clock::unix_nanoseconds_at(pin.until),
        }))
    }

    /// From here on the laws leave the limits alone that are pinned, and only those. On the cgroup last: what stands there holds.
    fn hold_pin(&mut self, key: Key, pin: Pin, quota: Option<Cpus>) -> Option<Result<(), Refused>> {
        let entry = self.registry.get(key)?;
        let before = entry.pin;
        let is_told = if pin.cpu {
            self.cpu.pin(key, quota)
        } else {
            before.is_none_or(|before| !before.cpu) || self.cpu.unpin(key)
        };
        if !is_told {
            return Some(Err(Refused::Busy));
        }
        if let Err(error) = pins::write(entry.open.as_ref()?.cgroup(), &pin) {
            // Neither this pin nor the one before.
            self.lift(key, Pin { memory: before.is_some_and(|before| before.memory), ..pin });
            return Some(Err(Refused::Failed(error.to_string())));
        }
        if pin.memory {
            self.budget.withdraw(entry.law.seat());
            entry.law.pin();
        } else if before.is_some_and(|before| before.memory) {
            entry.law.unpin(clock::now());
        }
        keep(entry, Some(pin));
        self.pin_ends = first(self.pin_ends, Some(pin));
        Some(Ok(()))
    }

    /// Moves `memory.high` to where it is to be pinned: all the way, or not at all.
    fn move_to_pin(&mut self, key: Key, high: Bytes, sample: &Sample) -> Option<Result<(), Refused>> {
        let entry = self.registry.get(key)?;
        let (seat, decision) = (entry.law.seat(), entry.law.to_pin(high));
        if high == entry.law.limits().high {
            // What is on its way down is called back.
            if let Some(shrink) = &entry.shrink {
                shrink.cancel();
            }
            return Some(Ok(()));
        }
        let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
        if !matches!(plan, Plan::Write { to, .. } if to.high == high) {
            undo(&plan, &mut self.budget);
            self.budget.withdraw(seat);
            let why = if decision.verb == Verb::Grow {
                format!("{} more can be granted to it now", self.budget.free_for(seat))
            } else {
                format!("it needs {}, and a pin takes nothing away", decision.evidence.need)
            };
            return Some(Err(Refused::NotAllowed(format!("--high {high} is refused: {why}"))));
        }
        let outcome = self.act(key, sample.at, sample, &plan, &decision);
        self.metrics.decided(Resource::Memory, decision.verb, Reason::LimitPinned, outcome);
        Some(match outcome {
            Outcome::Applied => Ok(()),
            Outcome::Failed => Err(Refused::Failed("the kernel refused the limit".to_owned())),
            Outcome::Nothing | Outcome::Observed => Err(Refused::Busy),
        })
    }

    /// Lifts a pin before its time, and takes back limits that were left to somebody else. `None`: the workload is gone.
    pub(super) fn unpin(&mut self, key: Key) -> Option<Result<What, Refused>> {
        let pin = self.registry.get(key)?.pin;
        if let Some(pin) = pin {
            self.lift(key, pin);
        }
        if !self.regain(key) && pin.is_none() {
            return Some(Err(Refused::NotAllowed("it is not pinned".to_owned())));
        }
        Some(Ok(What::Unpinned { expired: false }))
    }

    /// Ends the pins whose time is over.
    pub(super) fn end_pins(&mut self, now: Instant) {
        if self.pin_ends.is_none_or(|first| now < first) {
            return;
        }
        let over = |entry: &mut Entry| Some((entry.key, entry.pin.filter(|pin| pin.is_over(now))?));
        let ended: Vec<(Key, Pin)> = self.registry.iter_mut().filter_map(over).collect();
        for (key, pin) in ended {
            self.lift(key, pin);
            let Some(entry) = self.registry.get(key) else { continue };
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Unpinned { expired: true });
            self.raise_to_floor(key, now);
            self.look(key, clock::now());
        }
        self.pin_ends = self.registry.iter_mut().map(|entry| entry.pin).fold(None, first);
    }

    /// Gives the limits back to the laws.
    fn lift(&mut self, key: Key, pin: Pin) {
        let Some(entry) = self.registry.get(key) else { return };
        if pin.memory {
            entry.law.unpin(clock::now());
        }
        keep(entry, None);
        let cleared = entry.open.as_ref().map_or(Ok(()), |open| pins::clear(open.cgroup()));
        let cleared = cleared.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error.to_string()) });
        let is_told = !pin.cpu || self.cpu.unpin(key);
        let told = if is_told {
            Ok(())
        } else {
            Err("the cpu loop has too much to do to unpin its quota".to_owned())
        };
        for text in [cleared, told].into_iter().filter_map(Result::err) {
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
    }
}

/// Takes in a pin, or that there is none.
pub(super) fn keep(entry: &mut Entry, pin: Option<Pin>) {
    entry.pin = pin;
    // A limit in the way is told once more, and once for each pin.
    entry.held = None;
    entry.published.set_terms(terms(entry.identity(), pin));
}

/// The first end of pins, another one included.
pub(super) fn first(ends: Option<Instant>, pin: Option<Pin>) -> Option<Instant> {
    ends.into_iter().chain(pin.map(|pin| pin.until)).min()
}
