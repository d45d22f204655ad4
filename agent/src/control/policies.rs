//! A change of policies, or of what an operator has set, taken in by one turn: whoever's class or bounds have changed is
//! governed by the new ones from here on.
//!
//! Laws and bounds change at once, and limits with the next decisions, each within the new bounds; a limit below a raised
//! floor is raised here. What a class writes besides (weight, protection, pids, swap, I/O, the failsafe) is written by a
//! worker. This is the one turn that allocates: it is as rare as its cause.

use std::mem;
use std::sync::Arc;

use bellows_policies::ruleset::{Class, Foreign, Mode, Ruleset};

use super::control_loop::Control;
use super::cpu_loop::Reform;
use super::lanes::Job;
use super::life::{failsafe_cpu, stated, terms};
use super::versions::Versions;
use super::{actuator, cpu_loop};
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::rewrite::Rewrite;
use crate::workload::spec::{Identity, Spec};

/// What no law moves and is to be written: a batch at a time, since each says only what has changed, and two workers would not keep
/// their order.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    waiting: Vec<(Arc<str>, Rewrite)>,
    is_under_way: bool,
}

impl Rewrites {
    /// Whether all is written that was to be.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_under_way && self.waiting.is_empty()
    }
}

impl Control {
    /// Governs by other policies from now on.
    pub(super) fn take_policies(&mut self, rules: Arc<Ruleset>) {
        let (ruleset, classes, count) = (rules.version.clone(), rules.classes.len(), rules.rules.len());
        self.versions = Versions::new(&ruleset);
        self.rules = rules;
        self.climb.ladder.govern(self.rules.node.ladder);
        self.node_memory.govern(self.rules.node.pressure);
        self.reform_tenants();
        self.readopt();
        let keys: Vec<Key> = self.registry.iter_mut().map(|entry| entry.key).collect();
        let rewrites: Vec<_> = keys.iter().filter_map(|&key| self.reform(key)).collect();
        let what = What::PoliciesLoaded { ruleset, classes, rules: count, changed: rewrites.len() };
        self.journal.record(clock::unix_nanoseconds(), &self.node, what);
        self.rewrite(rewrites);
        for key in keys {
            self.raise_to_floor(key, clock::now());
        }
    }

    /// Policies were not taken: the old ones stay.
    pub(super) fn policies_refused(&self, error: String, problems: usize) {
        let what = What::PoliciesRefused { error, problems };
        self.journal.record(clock::unix_nanoseconds(), &self.node, what);
    }

    /// Brings a running workload in line with its class as it is now; what is to be written if that has changed.
    pub(super) fn reform(&mut self, key: Key) -> Option<(Arc<str>, Rewrite)> {
        let entry = self.registry.get(key).filter(|entry| entry.open.is_some())?;
        let (mut identity, is_adopted) = (entry.identity().clone(), entry.adopted.is_some());
        // Nobody asked for the class of what somebody else made: rules go on assigning it.
        if is_adopted
            && let Ok(again) = self.rules.assign(identity.tenant.as_str(), identity.name.as_str(), None)
            && let Ok(class) = again.class.name.parse()
        {
            identity.class = class;
            identity.assigned = Some(again.by);
        }
        let class = self.class_again(&mut identity);
        self.govern_as(key, identity, class)
    }

    /// Governs a running workload as another identity and by another class; what is to be written if that is a change.
    pub(super) fn govern_as(
        &mut self,
        key: Key,
        mut identity: Identity,
        class: Arc<Class>,
    ) -> Option<(Arc<str>, Rewrite)> {
        let law = self.memory_law(&class);
        let entry = self.registry.get(key)?;
        let is_adopted = entry.adopted.is_some();
        let open = entry.open.as_ref()?;
        // A quota that comes or goes is for launches to come.
        let quota = entry.spec.identity.cpu.and(identity.cpu);
        identity.cpu = quota.or(entry.spec.identity.cpu);
        if class == entry.class && identity == entry.spec.identity {
            return None;
        }
        entry.version = self.versions.of(&self.journal, &class, &law);
        if let Some(bounds) = quota {
            let burst = open.cgroup().open_write("cpu.max.burst").ok();
            let version = Arc::clone(&entry.version);
            let yields = class.foreign == Foreign::Yield;
            cpu_loop::reform(&self.cpu, Reform { key, version, bounds, law: class.cpu.law, yields, burst });
        }
        let files = |identity: &Identity, class: &Class| {
            if is_adopted { Vec::new() } else { actuator::class_files(identity, class) }
        };
        let before = files(&entry.spec.identity, &entry.class);
        let after = files(&identity, &class);
        let ceiling = entry.law.bounds().ceiling;
        entry.law.govern(identity.memory, law);
        entry.published.bounds(identity.memory, identity.cpu);
        entry.published.set_terms(terms(&identity, entry.pin));
        let mut files = actuator::changed_files(&before, &after);
        if let Some(bounds) = identity.cpu.filter(|_| entry.class.mode != class.mode) {
            files.push(("cpu.max.burst", bounds.floor.quota_us().to_string()));
        }
        let rewrite = Rewrite {
            running: Arc::clone(&open.running),
            files,
            failsafe: (!is_adopted).then(|| entry.law.released_max()),
            failsafe_cpu: failsafe_cpu(&identity, class.mode),
            stated: (!is_adopted).then(|| stated(&identity, &class)),
        };
        let name = Arc::clone(&entry.name);
        if let Some(seat) = entry.law.seat() {
            let mode = if is_adopted { Mode::Observe } else { class.mode };
            let floor = actuator::protected(mode, identity.memory.floor);
            self.budget.regrade(seat, class.base, class.cpu.law.weight, floor);
        }
        let has_room = is_adopted || entry.is_observed() || identity.memory.ceiling > ceiling;
        if has_room && entry.law.is_failed() {
            // It lives on, and may have room by now.
            entry.law.rearm();
        }
        let tenant = identity.tenant.clone();
        let reasserts = class.foreign == Foreign::Reassert;
        entry.class = class;
        entry.spec = Arc::new(Spec { identity, ..Spec::clone(&entry.spec) });
        self.protect(&tenant);
        if reasserts {
            self.regain(key);
        }
        self.take_mode(key);
        Some((name, rewrite))
    }

    /// Has files written that no law moves.
    pub(super) fn rewrite(&mut self, rewrites: impl IntoIterator<Item = (Arc<str>, Rewrite)>) {
        self.rewrites.waiting.extend(rewrites);
        self.write_waiting();
    }

    fn write_waiting(&mut self) {
        if self.rewrites.is_under_way || self.rewrites.waiting.is_empty() {
            return;
        }
        let batch = mem::take(&mut self.rewrites.waiting);
        self.rewrites.is_under_way = self.lanes.submit(Job::Rewrite(batch)).is_ok();
        if self.rewrites.is_under_way {
            return;
        }
        let text = "the workers have too much to do to write what was changed: reload, or set it, once more"
            .to_owned();
        self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
    }

    pub(super) fn rewritten(&mut self, troubles: Vec<(Arc<str>, String)>) {
        self.rewrites.is_under_way = false;
        self.write_waiting();
        for (name, text) in troubles {
            self.journal.record(clock::unix_nanoseconds(), &name, What::Trouble { text });
        }
    }
}
