//! Governing what an earlier agent left: before the loop turns and before anything is served.
//!
//! Limits that stand are taken as they are found. Limits that were opened meanwhile go back to their lease, and a tripwire
//! that would be below use is put above it instead: the law's own way back after a release does both. What had ended is
//! cleared away like any other end, by the workers; whoever asks for its exit code meanwhile waits for that.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bellows_policies::ruleset::{Adopt, DEFAULT_CLASS, Mode};
use bellows_policies::units::{Bytes, Limit};
use bellows_policies::{Class, Cpus, Limits, Shadow, Workload};

use super::actuator;
use super::control_loop::Control;
use super::cpu_loop::{self, Standing};
use super::life::{facts, failsafe_cpu, stated};
use super::pins;
use super::registry::{Entry, Open};
use crate::journal::{What, Writer};
use crate::kernel::watch::{Key, Listener, Watch};
use crate::kernel::{clock, parse, thread};
use crate::metrics::Published;
use crate::workload::lease::{self, Lease};
use crate::workload::records::Ended;
use crate::workload::rewrite::Rewrite;
use crate::workload::shelf::Kept;
use crate::workload::spec::{Identity, Spec};
use crate::workload::stated;
use crate::workload::takeover::{Findings, Found};
use crate::workload::yielded;

/// So many are opened by several threads while those before them are taken over: in between there may be no sign of life.
const AT_ONCE: usize = 64;

/// What was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Takeover {
    /// Workloads that run and are governed again.
    pub running: usize,
    /// Workloads that had ended.
    pub ended: usize,
    /// Populated cgroups that are left alone.
    pub foreign: usize,
}

impl Control {
    /// Takes over what was found, and remembers the ends that an earlier agent told.
    pub fn take_over(&mut self, findings: Findings, ends: Vec<(u64, Ended)>, kept: Vec<Kept>) -> Takeover {
        let root = self.ground.workloads.path().parent().map(|p| p.display().to_string()).unwrap_or_default();
        self.journal.record(clock::unix_nanoseconds(), &self.node, What::AgentStarted { root });
        for (id, ended) in ends {
            self.registry.remember(id, ended);
        }
        for text in findings.trouble {
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        }
        for name in findings.removed {
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::LeftoverRemoved { name });
        }
        self.recover_kept(kept);
        let mut taken = Takeover::default();
        for foreign in findings.foreign {
            let (tenant, name) = foreign.name.split_once('/').unwrap_or_default();
            if self.rules.adopts(tenant) != Adopt::No {
                continue;
            }
            if let (true, Ok(tenant), Ok(name)) = (foreign.was_adopted, tenant.parse(), name.parse()) {
                self.give_back(&tenant, &name);
            }
            taken.foreign += 1;
            self.budget.adopt(None, Bytes::ZERO, foreign.held);
            let what = What::ForeignCgroup { name: foreign.name };
            self.journal.record(clock::unix_nanoseconds(), &self.node, what);
        }
        let (mut rewrites, mut tenants) = (Vec::new(), BTreeSet::new());
        let mut left = findings.workloads.into_iter();
        let listener = self.watcher.listener();
        let batches = std::iter::from_fn(move || {
            let some: Vec<Found> = left.by_ref().take(AT_ONCE).collect();
            let open = |found: &Found| Opened::of(found, &listener);
            let opened = thread::share(&some, |part| part.iter().map(open).collect::<Vec<_>>());
            let batch: Vec<_> = some.into_iter().zip(opened.into_iter().flatten()).collect();
            (!batch.is_empty()).then_some(batch)
        });
        thread::ahead(batches, |batch| {
            for (found, opened) in batch {
                self.beat(clock::now());
                let name: Arc<str> = found.identity.to_string().into();
                let is_running = found.running.process.is_some();
                tenants.insert(found.identity.tenant.clone());
                match self.adopt(found, opened) {
                    Err(error) => {
                        let text = format!("it is not taken over: {error}");
                        self.journal.record(clock::unix_nanoseconds(), &name, What::Trouble { text });
                    }
                    Ok(rewrite) if is_running => {
                        taken.running += 1;
                        rewrites.extend(rewrite);
                    }
                    Ok(_) => taken.ended += 1,
                }
            }
        });
        for tenant in &tenants {
            self.protect(tenant);
        }
        self.rewrite(rewrites);
        self.settle_kept();
        self.furnish_tenants();
        // What happened before we listened.
        self.pass.urgent = self.registry.len();
        taken
    }

    /// The class of a workload by its name, and the bounds that follow it. A class that is gone, or that gives no bounds any
    /// more, leaves them as they were.
    pub(super) fn class_again(&self, identity: &mut Identity) -> Arc<Class> {
        let trouble = |text: String| {
            let name: Arc<str> = identity.to_string().into();
            self.journal.record(clock::unix_nanoseconds(), &name, What::Trouble { text });
        };
        let class = match self.rules.class(identity.class.as_str()) {
            Ok(class) => class.weighing(identity.weight),
            Err(unknown) => {
                trouble(format!("{unknown}; governed as {DEFAULT_CLASS}, within its old bounds"));
                return self.rules.class(DEFAULT_CLASS).map(Arc::clone).unwrap_or_default();
            }
        };
        let (memory, cpu) = class.bounds_again(identity.memory, identity.cpu, self.budget.capacity);
        if identity.by_class.memory {
            identity.memory = memory;
        }
        if identity.by_class.cpu {
            identity.cpu = cpu;
        }
        class
    }

    /// Takes over one of them; what is to be written of its limits that no law moves.
    fn adopt(
        &mut self,
        found: Found,
        opened: anyhow::Result<Opened>,
    ) -> anyhow::Result<Option<(Arc<str>, Rewrite)>> {
        let Found {
            mut identity,
            running: _,
            started_unix_ns,
            pin,
            frozen,
            is_paused,
            is_yielded,
            stop,
            life,
            isolation,
            stated,
        } = found;
        let Opened { open, high, max, lease, prepared } = opened?;
        let class = self.class_again(&mut identity);
        let is_yielded = is_yielded && yielded::still(open.cgroup(), &class)?;
        let sample = open.sample(clock::now())?;
        let in_force = Limits { high: bytes(high), max: bytes(max) };
        // `memory.max` is never lowered here: that takes the law's patience.
        // What was enforced has a tripwire that stands, or a lease.
        let was_open = lease.is_none() && high == Limit::Max;
        let back_to = lease.map_or(in_force, |lease| Limits { high: lease.high, max: in_force.max });
        let mut law = Workload::adopt(identity.memory, self.memory_law(&class), back_to, sample);
        // To put limits on more than its ceiling would be to end it.
        let fits = sample.current.saturating_add(law.law().band_min) <= identity.memory.ceiling;
        let is_observed = is_yielded || (was_open && (class.mode == Mode::Observe || !fits));
        if !is_observed && law.limits() != in_force {
            put_back(&open, &mut law, (high, max), sample.current)?;
        }
        if pin.is_some_and(|pin| pin.memory) {
            law.pin();
        }
        let law = law.seated(self.seat(&identity, &class));
        self.budget.adopt(law.seat(), actuator::protected(class.mode, identity.memory.floor), law.granted());

        let published = Arc::new(Published::new(facts(&identity, started_unix_ns, false)));
        published.limits(in_force);
        published.set_yielded(is_yielded);
        published.would(is_observed.then(|| law.limits()));
        let (pid, is_running) = (open.running.pid(), open.running.process.is_some());
        if is_running {
            // An earlier agent has told of what was counted until now.
            published.sample(&sample);
            published.inherits();
            self.tenants.adds_to(&identity.tenant, &published);
        } else {
            self.tenants.adds_to(&identity.tenant, &published);
            published.sample(&sample);
        }
        // Of the command only its process is left, and nobody asks for more.
        let (argv, env, cwd) = (Vec::new(), Vec::new(), "/".to_owned());
        let spec = Arc::new(Spec { identity, argv, env, cwd, isolation, life });
        let version = self.versions.of(&self.journal, &class, law.law());
        let entry = self.registry.insert(|key| Entry::new(key, spec, class, &law, version, published));
        entry.shadow = is_observed.then(Shadow::default);
        entry.sampled = sample.at;
        entry.oom_kills = sample.events.oom_kill;
        pins::keep(entry, pin);
        let key = entry.key;
        if is_running {
            let finite = |limit| match limit {
                Limit::At(bytes) => Some(bytes),
                Limit::Max => None,
            };
            let what = What::TakenOver {
                pid,
                found_high: finite(high),
                found_max: finite(max),
                limits: entry.law.limits(),
                observed: is_observed,
            };
            self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
            self.metrics.taken_over.inc();
        }
        self.pin_ends = pins::first(self.pin_ends, pin);
        self.attend(key, open, Some(prepared));
        if is_paused {
            self.take_over_paused(key);
        } else if let Some(note) = frozen {
            self.take_over_frozen(key, note);
        }
        if let Some(stop) = stop {
            self.take_over_stop(key, stop);
        }
        if !is_running {
            self.process_ended(key);
            return Ok(None);
        }
        self.take_mode(key);
        Ok(self.restate(key, was_open, stated.as_deref()))
    }

    /// Has the files of a class written that are not as they would be written now: policies have changed while no agent ran, or
    /// an agent died in the middle of a change.
    fn restate(&mut self, key: Key, was_open: bool, noted: Option<&str>) -> Option<(Arc<str>, Rewrite)> {
        let entry = self.registry.get(key)?;
        let open = entry.open.as_ref()?;
        let identity = &entry.spec.identity;
        let stated = stated(identity, &entry.class);
        if noted == Some(stated.as_str()) {
            return None;
        }
        let before = match noted {
            Some(text) => stated::files(text),
            // An agent of old has noted nothing: by what it has enforced.
            None if was_open => Vec::new(),
            None => {
                actuator::class_files(identity, &Class { mode: Mode::Enforce, ..Class::clone(&entry.class) })
            }
        };
        let rewrite = Rewrite {
            running: Arc::clone(&open.running),
            files: actuator::changed_files(&before, &actuator::class_files(identity, &entry.class)),
            failsafe: Some(entry.law.released_max()),
            failsafe_cpu: failsafe_cpu(identity, entry.class.mode),
            stated: Some(stated),
        };
        Some((Arc::clone(&entry.name), rewrite))
    }
}

/// What a takeover opens of one, and the limits that it finds.
struct Opened {
    open: Box<Open>,
    /// `memory.high` in force.
    high: Limit,
    /// `memory.max` in force.
    max: Limit,
    /// The limits before they were opened, if they were.
    lease: Option<Lease>,
    prepared: Prepared,
}

/// What whoever opens a workload has made ready for the control thread.
pub(super) struct Prepared {
    /// What its quota is and was used of it, or why that is not known: then only its quota stays as it is.
    pub(super) quota: io::Result<Option<Standing>>,
    /// The watch on its `cpu.stat`.
    pub(super) cpu_stat: io::Result<Watch>,
}

impl Opened {
    fn of(found: &Found, listener: &Listener) -> anyhow::Result<Self> {
        let open = Box::new(Open::again(&found.running, found.identity.cpu.is_some())?);
        let (high, max) = open.limits()?;
        let lease = if high >= max { lease::read(open.cgroup())? } else { None };
        let quota = cpu_loop::standing(&open, quota_before(&open, lease.as_ref()));
        let cpu_stat = listener.cpu_stat(open.cgroup());
        Ok(Self { open, high, max, lease, prepared: Prepared { quota, cpu_stat } })
    }
}

/// The quota to begin with: that of the lease, where quotas were opened, and else what stands.
fn quota_before(open: &Open, lease: Option<&Lease>) -> Option<Cpus> {
    let files = open.cpu.as_ref()?;
    let leased = lease.and_then(|lease| parse::cpu_max(lease.cpu.as_ref()?.as_bytes()));
    leased.or_else(|| files.quota().ok()).flatten()
}

/// Puts limits back that do not stand as they should: `found` are `memory.high` and `memory.max`. Where nothing that was opened has
/// to be lowered onto use, both are what was governed, at once. Else the law has the tripwire stand open, and puts it back at the
/// next look; `memory.max` is set to what it then believes: up at once, down only where that leaves room above use. That of what
/// somebody else made is not touched.
pub(super) fn put_back(
    open: &Open,
    law: &mut Workload,
    found: (Limit, Limit),
    current: Bytes,
) -> io::Result<()> {
    let ((high, max), governed) = (found, law.limits());
    let room = law.law().band_min.max(current.scale(0.1));
    let has_room = |most: Bytes| current.saturating_add(room) <= most;
    let is_easy =
        high <= Limit::At(governed.high) && (max <= Limit::At(governed.max) || has_room(governed.max));
    let put = || open.write_max(governed.max).and_then(|()| open.high.write(Limit::At(governed.high)));
    if is_easy && put().is_ok() {
        return Ok(());
    }
    law.release();
    let most = law.limits().max;
    let is_due = max < Limit::At(most) || (max > Limit::At(most) && has_room(most));
    let written = if is_due { open.write_max(most) } else { Ok(()) };
    // A tripwire that stands while nobody governs would hold it for as long as the budget refuses what it needs.
    let written =
        written.and_then(|()| if high == Limit::Max { Ok(()) } else { open.high.write(Limit::Max) });
    // Whether it was written or not: a law that stays released governs nothing any more.
    law.rearm();
    written
}

/// The limits are governed again: what there was to go back to has been gone back to, or is past.
pub(super) fn end_lease(journal: &Writer, entry: &Entry) {
    let Some(open) = &entry.open else { return };
    if let Err(error) = lease::clear(open.cgroup()) {
        journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text: error.to_string() });
    }
}

pub(super) fn bytes(limit: Limit) -> Bytes {
    match limit {
        Limit::At(bytes) => bytes,
        Limit::Max => Bytes(u64::MAX),
    }
}
