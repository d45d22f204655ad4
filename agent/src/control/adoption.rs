//! Adoption: cgroups that somebody else makes in a tenant's are governed too, where policy says so.
//!
//! ```text
//! policies name a tenant that adopts      furnish    its cgroup is made ready by a worker, listened to, and looked through
//! a cgroup is made in it                  notice     a worker opens it
//!   -> adopted                                       class by rule, tenant or default; observed at first
//!   -> take_mode                          observe    enforced at once, if class and tenant say so and it fits
//! it is removed, or policy says no more   let_go     given back as it was
//! ```
//!
//! It is taken in when it is made, empty or not: so its first page is seen. It begins where it is found, never below use. Of what
//! others made `memory.high` is written and nothing else: bands, weights, quotas and protection are its maker's, and as
//! `memory.high` only throttles, nothing that bellows does can end it. Where the stall rule would, its `memory.high` is opened.

use std::sync::Arc;

use bellows_policies::ruleset::{Adopt, Class};
use bellows_policies::units::{Bounds, Bytes, Limit};
use bellows_policies::{Assignment, Limits, Plan, Reason, Resources, Shadow, Verb, Workload};

use super::actuator;
use super::control_loop::Control;
use super::lanes::Job;
use super::life::facts;
use super::registry::{Entry, Open};
use crate::journal::What;
use crate::kernel::cgroup::CgroupError;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::Published;
use crate::workload::adoption;
use crate::workload::isolation::Isolation;
use crate::workload::life::Life;
use crate::workload::spec::{ByClass, Identity, Name, NameError, Spec};
use crate::workload::yielded;

impl Entry {
    /// Publishes the limits in force. Of what somebody else made `memory.max` is not known.
    pub(super) fn publish(&self, limits: Limits) {
        let max = if self.adopted.is_some() { Bytes(u64::MAX) } else { limits.max };
        self.published.limits(Limits { max, ..limits });
    }

    /// Whether a plan moves only the `memory.max` of what somebody else made: the law reckons with it, and nobody writes or tells.
    pub(super) fn takes_band(&mut self, plan: &Plan) -> bool {
        match *plan {
            Plan::Write { verb: Verb::Shrink, from, to, reason, .. }
                if self.adopted.is_some() && from.high == to.high && reason != Reason::Rearmed =>
            {
                self.law.commit(to, clock::now());
                true
            }
            Plan::Write { .. } | Plan::Reclaim { .. } | Plan::Nothing { .. } => false,
        }
    }
}

impl Control {
    /// Has the cgroups of all tenants that adopt made ready.
    pub(super) fn furnish_tenants(&mut self) {
        let adopts = |name: &str| self.rules.adopts(name) != Adopt::No;
        let names: Vec<Name> = self
            .rules
            .tenants
            .keys()
            .filter(|name| adopts(name))
            .filter_map(|name| name.parse().ok())
            .collect();
        for tenant in names {
            let limits = actuator::tenant_limits(self.tenant_bounds(&tenant).weight);
            self.submit_or_tell(&tenant, Job::Furnish(tenant.clone(), limits));
        }
    }

    /// A tenant's cgroup is ready: listens to it, and takes in what is there already.
    pub(super) fn furnished(&mut self, tenant: &Name, result: Result<(), CgroupError>) {
        if let Err(error) = result {
            return self.tell_of(tenant, &format!("nothing is adopted in it: {error}"));
        }
        self.watch_tenant(tenant);
        let found = self.ground.workloads.child(tenant.as_str()).and_then(|cgroup| cgroup.children());
        for name in found.unwrap_or_default() {
            self.notice(tenant, &name);
        }
    }

    /// Somebody made a cgroup in a tenant's, or it was found there: it is adopted, or left alone and told.
    pub(super) fn notice(&mut self, tenant: &Name, name: &str) {
        let parsed = name.parse::<Name>();
        if parsed.as_ref().is_ok_and(|name| self.registry.find(tenant, name).is_some()) {
            return;
        }
        match parsed {
            Ok(name) if self.rules.adopts(tenant.as_str()) != Adopt::No => {
                self.submit_or_tell(tenant, Job::Adopt(tenant.clone(), name));
            }
            Ok(_) | Err(_) => {
                let what = What::ForeignCgroup { name: format!("{tenant}/{name}") };
                self.journal.record(clock::unix_nanoseconds(), &self.node, what);
            }
        }
    }

    /// A worker has opened what somebody else made: from here on it is looked at like any other workload.
    pub(super) fn adopted(&mut self, tenant: &Name, name: &Name, result: Result<Box<Open>, CgroupError>) {
        let adopt = self.rules.adopts(tenant.as_str());
        let is_known = self.registry.find(tenant, name).is_some();
        if is_known || adopt == Adopt::No || self.stopping || self.released {
            return;
        }
        let adopted =
            result.map_err(anyhow::Error::from).and_then(|open| self.take_in(tenant, name, adopt, open));
        match adopted {
            Ok(key) => {
                self.metrics.adopted.inc();
                self.take_mode(key);
                self.look(key, clock::now());
            }
            Err(error) if error.downcast_ref::<CgroupError>().is_some_and(CgroupError::is_gone) => {}
            Err(error) => self.tell_of(tenant, &format!("{tenant}/{name} is not adopted: {error}")),
        }
    }

    fn take_in(&mut self, tenant: &Name, name: &Name, adopt: Adopt, open: Box<Open>) -> anyhow::Result<Key> {
        if let Some(text) = self.tenants.problem(tenant) {
            anyhow::bail!(text);
        }
        let sample = open.sample(clock::now())?;
        let found = open.high.read()?;
        let Assignment { class, by, .. } = self.rules.assign(tenant.as_str(), name.as_str(), None)?;
        let identity = Identity {
            tenant: tenant.clone(),
            name: name.clone(),
            class: class.name.parse().map_err(|error: NameError| anyhow::anyhow!(error))?,
            memory: self.bounds_of(&class, &open)?,
            cpu: None,
            by_class: ByClass { memory: true, cpu: false },
            assigned: Some(by),
            weight: None,
            resources: Resources::default(),
        };
        let law = self.memory_law(&class);
        let is_yielded = yielded::still(open.cgroup(), &class)?;
        // What it is given back to is no tripwire of ours.
        let high = match found {
            Limit::At(bytes) if open.before == Limit::Max => bytes,
            Limit::At(_) | Limit::Max => Bytes(u64::MAX),
        };
        let max = Workload::new(identity.memory, law).released_max();
        let law = Workload::adopt(identity.memory, law, Limits { high, max }, sample);
        let law = law.seated(self.seat(&identity, &class));
        self.budget.adopt(law.seat(), Bytes::ZERO, law.granted());

        let unix_ns = clock::unix_nanoseconds();
        let published = Arc::new(Published::new(facts(&identity, unix_ns, true)));
        let in_force = |limit| if let Limit::At(bytes) = limit { bytes } else { Bytes(u64::MAX) };
        published.limits(Limits { high: in_force(found), max: Bytes(u64::MAX) });
        published.would(Some(law.limits()));
        published.sample(&sample);
        published.inherits();
        self.tenants.adds_to(tenant, &published);
        let (isolation, life) = (Isolation::default(), Life::default());
        let (argv, env, cwd) = (Vec::new(), Vec::new(), "/".to_owned());
        let spec = Arc::new(Spec { identity, argv, env, cwd, isolation, life });
        let version = self.versions.of(&self.journal, &class, law.law());
        let entry = self.registry.insert(|key| Entry::new(key, spec, class, &law, version, published));
        entry.adopted = Some(adopt);
        entry.shadow = Some(Shadow::default());
        entry.published.set_yielded(is_yielded);
        entry.sampled = sample.at;
        entry.oom_kills = sample.events.oom_kill;
        let found_high = if let Limit::At(bytes) = found { Some(bytes) } else { None };
        let what = What::Adopted { class: entry.class.name.clone(), found_high, limits: law.limits() };
        self.journal.record(unix_ns, &entry.name, what);
        let key = entry.key;
        self.attend(key, open, None);
        self.protect(tenant);
        Ok(key)
    }

    /// The bounds that its class gives it; where that gives none, those that its maker did, or the node's.
    fn bounds_of(&self, class: &Class, open: &Open) -> anyhow::Result<Bounds> {
        if let Ok(bounds) = class.memory_bounds(None, self.budget.capacity) {
            return Ok(bounds);
        }
        let (_, max) = crate::workload::lease::in_force(open.cgroup())?;
        let own = if let Limit::At(max) = max { max } else { self.budget.pool() };
        let bytes = |amount: bellows_policies::field::Amount| amount.of(self.budget.capacity).page_floor();
        let floor = class.memory.floor.map_or(Bytes::MIB, bytes);
        let ceiling = class.memory.ceiling.map_or(own.min(self.budget.pool()).page_floor(), bytes);
        Ok(Bounds::new(floor, ceiling.max(floor))?)
    }

    /// Policies have changed: what is not adopted any more is given back.
    pub(super) fn readopt(&mut self) {
        for entry in self.registry.iter_mut().filter(|entry| entry.adopted.is_some()) {
            entry.adopted = Some(self.rules.adopts(entry.spec.identity.tenant.as_str()));
        }
        let keys: Vec<Key> = self.registry.iter_mut().map(|entry| entry.key).collect();
        for key in keys {
            self.take_mode(key);
            self.let_go_of_unwanted(key);
        }
        self.furnish_tenants();
    }

    /// Lets go of what policy does not adopt any more, once nothing of ours is on its way to its limits.
    pub(super) fn let_go_of_unwanted(&mut self, key: Key) {
        let is_unwanted = |entry: &mut Entry| entry.adopted == Some(Adopt::No) && entry.shrink.is_none();
        if self.registry.get(key).is_some_and(is_unwanted) {
            self.let_go(key, false);
        }
    }

    /// Forgets an adopted cgroup. `is_gone`: it was removed.
    pub(super) fn let_go(&mut self, key: Key, is_gone: bool) {
        self.watcher.remove(key);
        let Some(entry) = self.registry.remove(key) else { return };
        self.unseat(&entry.identity().tenant, entry.law.seat());
        self.protect(&entry.identity().tenant);
        entry.published.ended(0);
        self.table.end(&entry.published, clock::unix_nanoseconds());
        let what = What::LetGo { gone: is_gone };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
    }

    /// Gives back what an earlier agent had adopted and this one is not to.
    pub(super) fn give_back(&self, tenant: &Name, name: &Name) {
        let given = adoption::open(&self.ground, tenant, name).and_then(|running| {
            let given = adoption::give_back(&running.cgroup)?;
            adoption::forget(&running.cgroup).map(|()| given)
        });
        if let Err(error) = given {
            self.tell_of(tenant, &format!("{tenant}/{name} is not given back: {error}"));
        }
    }

    fn submit_or_tell(&mut self, tenant: &Name, job: Job) {
        if self.lanes.submit(job).is_err() {
            self.tell_of(tenant, "the workers have too much to do to adopt in it: reload once more");
        }
    }

    fn tell_of(&self, tenant: &Name, text: &str) {
        let text = format!("tenant {tenant}: {text}");
        self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
    }
}
