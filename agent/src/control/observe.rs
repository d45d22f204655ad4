//! Observing: the decisions of some workloads are carried out on paper.
//!
//! ```text
//! a look                 real sample -> Shadow::sample -> step -> plan      the same laws, the same budget
//! the plan               on_paper: committed, settled, told as `would_have`; no file is written
//! the slow pass          watch: use and need are counted for advice; memory.stat each second, since no event asks for it
//! a change of mode       take_mode: limits are opened, or governed from where they would be
//! ```
//!
//! It is not another law, nor another loop, but another way of carrying out: `Entry::shadow` says which. The kernel shows no law
//! what it would have shown it under limits; that is what a [`Shadow`] is for. What is charged to the budget is charged on paper
//! only as far as limits go: the memory is there, and cannot be promised to another one meanwhile. Nobody else's limit is touched
//! on its behalf, though, and nothing is asked of it: on paper there is nothing to give.

use std::time::Duration;

use bellows_policies::ruleset::{Adopt, Mode};
use bellows_policies::units::{Bytes, Instant, Limit};
use bellows_policies::{Limits, Plan, Shadow, Verb, settle};

use super::control_loop::Control;
use super::registry::{Entry, Open};
use super::takeover::{bytes, put_back};
use super::{actuator, cpu_loop};
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::cpu::CpuFiles;
use crate::kernel::limit::LimitFile;
use crate::kernel::watch::Key;
use crate::metrics::Outcome;
use crate::workload::{adoption, lease, yielded};

/// Time between two looks into `memory.stat` of an observed workload, if its law asks for none: need is what advice is made of.
const DETAIL_EVERY: Duration = Duration::from_secs(1);

impl Entry {
    /// Whether its decisions are only told.
    pub(super) fn is_observed(&self) -> bool {
        self.shadow.is_some()
    }

    /// How its class, and of what somebody else made its tenant too, wants its decisions to be carried out.
    pub(super) fn mode(&self) -> Mode {
        if self.published.is_yielded() {
            return Mode::Observe;
        }
        match self.adopted {
            Some(Adopt::No | Adopt::Observe) => Mode::Observe,
            Some(Adopt::Enforce) | None => self.class.mode,
        }
    }

    /// Whether what it needs fits below its ceiling: limits that are put on it then do not end it. While need is not known, all
    /// that it uses counts.
    fn fits(&self) -> bool {
        let need = self.law.detail().map_or(self.law.current(), |detail| detail.stat.need());
        need.saturating_add(self.law.law().band_min) <= self.law.bounds().ceiling
    }
}

impl Control {
    /// Carries out a plan on paper: law and budget go on as if it had been written, and the journal says what would have been.
    pub(super) fn on_paper(&mut self, key: Key, current: Bytes, plan: &Plan) -> Outcome {
        let Some(entry) = self.registry.get(key) else { return Outcome::Nothing };
        let Some(shadow) = &mut entry.shadow else { return Outcome::Nothing };
        let now = clock::now();
        let governed = entry.law.limits();
        let what = match *plan {
            Plan::Write { verb, from, to, reason, evidence, .. } => {
                settle(plan, &mut self.budget);
                entry.law.commit(to, now);
                shadow.lowered(to.high);
                entry.published.would(Some(to));
                entry.published.would_have_moved();
                What::WouldHave { verb, reason, from, to, bytes: Bytes::ZERO, current, evidence }
            }
            Plan::Reclaim { bytes, reason, evidence } => {
                shadow.reclaim(bytes);
                entry.law.reclaimed(now);
                let (verb, from, to) = (Verb::Reclaim, governed, governed);
                What::WouldHave { verb, reason, from, to, bytes, current, evidence }
            }
            Plan::Nothing { .. } => return Outcome::Nothing,
        };
        entry.held = None;
        self.journal.decided(clock::unix_nanoseconds(), &entry.name, &entry.version, what);
        Outcome::Observed
    }

    /// What the slow pass does with an observed workload: counts what it uses and needs, has `memory.stat` read each second,
    /// and enforces what is to be enforced as soon as it fits.
    pub(super) fn watch(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get(key).filter(|entry| entry.is_observed()) else { return };
        let Some(open) = &entry.open else { return };
        let detail = entry.law.detail();
        if let Some(detail) = detail {
            let used = entry.published.view().current;
            entry.published.watched.note(clock::unix_nanoseconds(), used, detail.stat.need());
        }
        if entry.published.is_yielded() {
            publish_found(entry);
        }
        let is_old = detail.is_none_or(|detail| now.since(detail.at) >= DETAIL_EVERY);
        if is_old && !entry.detail_pending {
            entry.detail_pending = self.lanes.read_detail(key, &open.detail);
        }
        self.take_mode(key);
        self.let_go_of_unwanted(key);
    }

    /// Brings the way in which a workload's decisions are carried out in line with its class. One that needs more than its
    /// ceiling is observed until it fits: to enforce it would be to end it.
    pub(super) fn take_mode(&mut self, key: Key) {
        if self.released || self.stopping {
            return;
        }
        let Some(entry) = self.registry.get(key).filter(|entry| entry.open.is_some()) else { return };
        match (entry.mode(), entry.is_observed()) {
            (Mode::Observe, false) => self.observe(key),
            (Mode::Enforce, true) if entry.fits() => self.enforce(key),
            (Mode::Enforce | Mode::Observe, _) => {}
        }
    }

    /// Opens its limits, unless they are somebody else's; what was governed goes on on paper.
    fn observe(&mut self, key: Key) {
        self.end_leases(key);
        let Some(entry) = self.registry.get(key) else { return };
        let Some(open) = &mut entry.open else { return };
        if let Some(shrink) = &entry.shrink {
            shrink.cancel();
        }
        let limits = entry.law.limits();
        let yielded = entry.published.is_yielded();
        let max = limits.max.max(entry.law.released_max());
        let opened = if yielded {
            yielded::note(open.cgroup()).map_err(|error| error.to_string())
        } else {
            actuator::open_up(open, max).map_err(|error| error.to_string())
        };
        // What was in force is not to be gone back to by the next agent.
        let clear = if entry.adopted.is_some() { adoption::forget } else { lease::clear };
        let opened = opened.and_then(|()| clear(open.cgroup()).map_err(|error| error.to_string()));
        if entry.spec.identity.cpu.is_some() && open.cpu.is_none() {
            if yielded {
                self.cpu.forget(key);
            } else {
                self.cpu.lift(key);
                entry.published.quota(None);
            }
            // The loop keeps those that it has; these are for the day on which it governs again.
            open.cpu = CpuFiles::open(open.cgroup()).ok();
        }
        entry.shadow = Some(Shadow::default());
        entry.outcome = None;
        if yielded {
            publish_found(entry);
        } else {
            entry.publish(Limits { high: Bytes(u64::MAX), max });
        }
        entry.published.would(Some(limits));
        let what = What::ModeChanged { observed: true, yielded, limits };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
        if let Err(text) = opened {
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
    }

    /// What was left to somebody else is governed by its class again; false when it was not.
    pub(super) fn regain(&mut self, key: Key) -> bool {
        let Some(entry) = self.registry.get(key).filter(|entry| entry.published.is_yielded()) else {
            return false;
        };
        entry.published.set_yielded(false);
        let cleared = entry.open.as_ref().map_or(Ok(()), |open| yielded::clear(open.cgroup()));
        if let Err(error) = cleared {
            let text = error.to_string();
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
        self.take_mode(key);
        true
    }

    /// Governs what was observed, in the same turn: from where its limits would be, or from above what it needs.
    fn enforce(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(open) = &mut entry.open else { return };
        if entry.adopted.is_some()
            && let Err(error) = note_before(open)
        {
            // What could not be given back is not taken. It is tried again with the next look.
            let text = error.to_string();
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
            return;
        }
        let open = &*open;
        entry.shadow = None;
        entry.published.would(None);
        // What stands is nobody's fault until the first write.
        entry.is_unsure = true;
        let found = open.max.as_ref().and_then(|max| max.read().ok()).unwrap_or(Limit::Max);
        let current = open.current().unwrap_or(Bytes(u64::MAX));
        let high = open.high.read().unwrap_or(Limit::Max);
        let put = put_back(open, &mut entry.law, (high, found), current);
        let limits = entry.law.limits();
        let what = What::ModeChanged { observed: false, yielded: false, limits };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
        let ceiling = entry.spec.identity.cpu.map(|bounds| bounds.ceiling);
        let standing = cpu_loop::standing(open, ceiling);
        let governed = standing.and_then(|standing| cpu_loop::govern(&self.cpu, entry, standing));
        for error in [put, governed].into_iter().filter_map(Result::err) {
            let text = error.to_string();
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
        self.look(key, clock::now());
    }
}

/// Publishes the limits of a workload that somebody else writes.
fn publish_found(entry: &Entry) {
    let Some(open) = &entry.open else { return };
    let max = open.max.as_ref().map_or(Ok(Limit::Max), LimitFile::read);
    if let (Ok(high), Ok(max)) = (open.high.read(), max) {
        entry.publish(Limits { high: bytes(high), max: bytes(max) });
    }
}

/// Notes what the `memory.high` of what somebody else made was before the first write, unless an earlier agent has done so.
fn note_before(open: &mut Open) -> anyhow::Result<()> {
    if let Some(before) = adoption::noted(open.cgroup())? {
        open.before = before;
    } else {
        open.before = open.high.read()?;
        adoption::note(open.cgroup(), open.before)?;
    }
    Ok(())
}
