//! What happens to a workload besides growing: launch, end, and the answers of the lanes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bellows_policies::ruleset::Mode;
use bellows_policies::sample::Detail;
use bellows_policies::units::Bytes;
use bellows_policies::{Class, Cpus, Law, MemoryLaw, Pin, Plan, Workload, settle};
use tokio::sync::oneshot;

use super::control_loop::{CLEAR_AGAIN, Control};
use super::handle::{Ended, Launched, Refused};
use super::lanes::{Full, Job};
use super::registry::{Entry, Launching, Open};
use super::takeover::Prepared;
use super::tenants::{no_room, told};
use super::{actuator, cpu_loop, incidents};
use crate::journal::{Caller, Kind, What};
use crate::kernel::cgroup::CgroupError;
use crate::kernel::clock;
use crate::kernel::watch::{Key, Sources};
use crate::metrics::{Facts, Published, Terms};
use crate::workload::blame::LaunchError;
use crate::workload::lifecycle::Event;
use crate::workload::logs::Stdio;
use crate::workload::records::Last;
use crate::workload::spec::{Asked, Identity, Name, Spec};
use crate::workload::stated;
use crate::workload::supervisor::{LaunchOrder, Remains, Running};

impl Control {
    pub(super) fn launch(
        &mut self,
        spec: Spec<Asked>,
        stdio: Option<[OwnedFd; 3]>,
        by: Arc<Caller>,
        reply: oneshot::Sender<Result<Launched, Refused>>,
    ) {
        match self.begin_launch(spec, stdio, Some(&by)) {
            Ok(key) => {
                if let Some(entry) = self.registry.get(key) {
                    entry.launched = Some(Launching { by, reply });
                }
            }
            Err(refused) => {
                let _ = reply.send(Err(refused));
            }
        }
    }

    /// Admits a workload, and has it started. Without `stdio` it is a detached one.
    pub(super) fn begin_launch(
        &mut self,
        spec: Spec<Asked>,
        stdio: Option<[OwnedFd; 3]>,
        by: Option<&Arc<Caller>>,
    ) -> Result<Key, Refused> {
        let name: Arc<str> = spec.identity.to_string().into();
        if self.stopping {
            return Err(Refused::Stopping);
        }
        if self.registry.find(&spec.identity.tenant, &spec.identity.name).is_some() {
            return Err(Refused::Exists(name.to_string()));
        }
        let kept = self.kept_for(&name, &spec, stdio.is_none(), by.is_some())?;
        let weight = kept.as_ref().and_then(|kept| kept.weight);
        let (spec, class) = match self.admit(spec, weight) {
            Ok(admitted) => admitted,
            Err(text) => {
                self.launch_failed(&name, by, text.clone());
                return Err(Refused::NotAllowed(text));
            }
        };
        let identity = &spec.identity;
        if let Some(text) = self.tenants.problem(&identity.tenant) {
            self.launch_failed(&name, by, text.clone());
            return Err(Refused::NoRoomNow(text));
        }
        let law = Workload::new(identity.memory, self.memory_law(&class)).seated(self.seat(identity, &class));
        let plan = match bellows_policies::launch(&law, &mut self.budget) {
            Ok(plan) => plan,
            Err(refusal) => {
                self.unseat(&identity.tenant, law.seat());
                let refused = no_room(&identity.tenant, refusal);
                self.launch_failed(&name, by, told(&identity.tenant, refusal));
                return Err(refused);
            }
        };
        let Plan::Write { to, .. } = plan else { return Err(Refused::Busy) };
        let in_force = actuator::in_force(class.mode, to, law.released_max());
        if let Some(seat) = law.seat().filter(|_| class.mode == Mode::Observe) {
            self.budget.regrade(seat, class.base, class.cpu.law.weight, Bytes::ZERO);
        }
        let order = LaunchOrder {
            limits: actuator::launch_limits(identity, &class, in_force),
            stated: stated(identity, &class),
            failsafe: law.released_max(),
            failsafe_cpu: failsafe_cpu(identity, class.mode),
            tenant_limits: actuator::tenant_limits(self.tenant_bounds(&identity.tenant).weight),
            spec: Arc::clone(&spec),
            stdio: stdio.map_or_else(|| self.logged(&spec), Stdio::Passed),
        };
        let version = self.versions.of(&self.journal, &class, law.law());
        let published = Arc::new(Published::new(facts(identity, clock::unix_nanoseconds(), false)));
        self.tenants.adds_to(&identity.tenant, &published);
        published.limits(in_force);
        published.would((class.mode == Mode::Observe).then_some(to));
        let entry = self.registry.insert(|key| Entry::new(key, spec, class, &law, version, published));
        let key = entry.key;
        let is_taken = match kept {
            Some(kept) => self.keep.launch(&name, kept, key, order),
            None => self.lanes.submit(Job::Launch(key, Box::new(order))).is_ok(),
        };
        if !is_taken {
            if let Some(entry) = self.registry.remove(key) {
                self.unseat(&entry.identity().tenant, entry.law.seat());
            }
            return Err(Refused::Busy);
        }
        settle(&plan, &mut self.budget);
        if let Some(entry) = self.registry.get(key) {
            entry.move_to(entry.state.after(Event::LaunchBegun));
        }
        Ok(key)
    }

    /// The class of a workload, and the bounds that it has by that and by what it asks for.
    pub(super) fn admit(
        &self,
        spec: Spec<Asked>,
        weight: Option<u32>,
    ) -> Result<(Arc<Spec>, Arc<Class>), String> {
        let Spec { identity: asked, argv, env, cwd, isolation, life } = spec;
        let class = asked.class.as_ref().map(Name::as_str);
        let assignment = self
            .rules
            .assign(asked.tenant.as_str(), asked.name.as_str(), class)
            .map_err(|e| e.to_string())?;
        let identity = Identity { weight, ..asked.become_of(&assignment, self.budget.capacity)? };
        let class = assignment.class.weighing(weight);
        Ok((Arc::new(Spec { identity, argv, env, cwd, isolation, life }), class))
    }

    /// The memory law of a class, on this kernel.
    pub(super) fn memory_law(&self, class: &Class) -> Law {
        let law = class.memory.law;
        Law { reclaim_factor: if self.can_reclaim { law.reclaim_factor } else { 0.0 }, ..law }
    }

    pub(super) fn launch_done(&mut self, key: Key, result: Result<Box<Open>, LaunchError>) {
        let Some(entry) = self.registry.get(key) else { return };
        match result.map_err(|e| e.to_string()) {
            Ok(open) => {
                let (id, pid) = (open.cgroup().id(), open.running.pid());
                let tenant = entry.identity().tenant.clone();
                let took = clock::now().since(entry.admitted);
                let limits = entry.law.limits();
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                let evidence = entry.law.evidence(MemoryLaw::Launch);
                let observed = entry.is_observed();
                let Identity { class, assigned, .. } = entry.identity();
                let (class, assigned) = (class.to_string(), assigned.clone());
                let what = What::Launched { pid, class, assigned, limits, took_us, evidence, observed };
                let launching = entry.launched.take();
                let by = launching.as_ref().map(|launching| Arc::clone(&launching.by));
                self.journal.decided_for(clock::unix_nanoseconds(), &entry.name, &entry.version, by, what);
                self.metrics.launch.observe(took.as_secs_f64());
                if let Some(launching) = launching {
                    launching.answer(Ok(Launched { id, pid }));
                }
                if let Some(name) = self.registry.get(key).map(|entry| Arc::clone(&entry.name)) {
                    self.kept_runs(&name, id);
                }
                self.attend(key, open, None);
                self.protect(&tenant);
                // Its class may have changed while it was started.
                let changed = self.reform(key);
                self.rewrite(changed);
                self.raise_to_floor(key, clock::now());
                if self.released {
                    self.release_one(key);
                }
                if self.ends_workloads {
                    self.kill(key);
                }
                // What happened before we listened.
                self.look(key, clock::now());
            }
            Err(text) => {
                let Some(mut entry) = self.registry.remove(key) else { return };
                self.unseat(&entry.identity().tenant, entry.law.seat());
                self.protect(&entry.identity().tenant);
                entry.state = entry.state.after(Event::StartFailed);
                let by = entry.launched.as_ref().map(|launching| Arc::clone(&launching.by));
                self.launch_failed(&entry.name, by.as_ref(), text.clone());
                self.kept_failed(&entry.name, &text, by.is_some());
                if let Some(launching) = entry.launched {
                    launching.answer(Err(Refused::Failed(text)));
                }
            }
        }
    }

    /// A workload runs: listens to it, has its quota governed, and shows it. `prepared` is what a takeover has made ready. What its
    /// tenant is protected by is to be written after this.
    pub(super) fn attend(&mut self, key: Key, open: Box<Open>, prepared: Option<Prepared>) {
        let Some(entry) = self.registry.get(key) else { return };
        let (quota, cpu_stat) = match prepared {
            Some(Prepared { quota, cpu_stat }) => (quota, cpu_stat),
            None => (Ok(None), self.watcher.listener().cpu_stat(open.cgroup())),
        };
        let sources = Sources {
            cgroup: open.cgroup(),
            memory_events: &open.memory_events,
            cgroup_events: &open.cgroup_events,
            process: open.running.process.as_ref().map(|process| process.pidfd.as_fd()),
            cpu_stat,
        };
        if let Err(error) = self.watcher.add(key, sources) {
            // Deaf but not blind: the slow pass still looks at it.
            let text = format!("cannot listen to it: {error}");
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
        entry.open = Some(open);
        if !entry.is_observed()
            && let Err(error) = quota.and_then(|quota| cpu_loop::govern(&self.cpu, entry, quota))
        {
            let text = format!("its cpu quota stays as it is: {error}");
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
        // What was found was begun by another agent.
        entry.move_to(entry.state.after(Event::LaunchBegun).after(Event::Started));
        self.table.begin(Arc::clone(&entry.published));
        let tenant = entry.identity().tenant.clone();
        self.watch_tenant(&tenant);
    }

    fn launch_failed(&mut self, name: &Arc<str>, by: Option<&Arc<Caller>>, error: String) {
        self.metrics.launches_failed.inc();
        self.journal.ordered(clock::unix_nanoseconds(), name, by, What::LaunchFailed { error });
    }

    /// The first process of a workload has ended: what is left is cleared away.
    pub(super) fn process_ended(&mut self, key: Key) {
        self.begin_clearing(key, Event::ProcessEnded);
    }

    /// Its files answer ENODEV: somebody removed the cgroup.
    pub(super) fn vanished(&mut self, key: Key) {
        if self.registry.get(key).is_some_and(|entry| entry.adopted.is_some()) {
            return self.let_go(key, true);
        }
        self.begin_clearing(key, Event::Vanished);
    }

    fn begin_clearing(&mut self, key: Key, event: Event) {
        let Some(entry) = self.registry.get(key) else { return };
        if entry.is_clearing || entry.open.is_none() {
            return;
        }
        entry.is_clearing = true;
        entry.move_to(entry.state.after(event));
        self.cpu.forget(key);
        self.forget_way(key);
        let Some(entry) = self.registry.get(key) else { return };
        // From now on its timer is that of a teardown that has to be tried again.
        entry.due = None;
        self.clear(key);
    }

    /// Hands the teardown to the workers; when they are too busy, tries again by timer.
    pub(super) fn clear(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(open) = &entry.open else { return };
        let last =
            Last { granted: entry.law.limits().high, denials: entry.denials, killed_for: entry.killed_for };
        let job = Job::Clear(key, Arc::clone(&entry.spec), Arc::clone(&open.running), last);
        if let Err(Full(_)) = self.lanes.submit(job) {
            let again = clock::now().plus(CLEAR_AGAIN);
            entry.due = Some(again);
            self.timers.push(again, key);
        }
    }

    pub(super) fn clear_done(&mut self, key: Key, result: Result<Remains, (CgroupError, Arc<Running>)>) {
        let remains = match result {
            Ok(remains) => remains,
            Err((error, _)) => {
                if let Some(entry) = self.registry.get(key) {
                    let text = format!("{error}; trying again");
                    self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
                    let again = clock::now().plus(CLEAR_AGAIN);
                    entry.due = Some(again);
                    self.timers.push(again, key);
                }
                return;
            }
        };
        self.watcher.remove(key);
        let Some(mut entry) = self.registry.remove(key) else { return };
        entry.state = entry.state.after(Event::cleared(remains.ended.exit, entry.stop.is_some()));
        // With all that was charged: of a shrink under way the answer finds nobody.
        self.unseat(&entry.identity().tenant, entry.law.seat());
        self.protect(&entry.identity().tenant);
        entry.published.ended(remains.events.oom_kill);
        self.table.end(&entry.published, clock::unix_nanoseconds());
        self.metrics.ended.inc();
        if remains.events.oom_kill > entry.oom_kills {
            incidents::tell(&self.lanes, &self.metrics, &entry, Kind::OomKilled);
        }
        let ended = remains.ended;
        let what = What::Ended { how: ended.text.clone(), code: ended.code };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
        self.kept_ended(&entry, &ended);
        if let Some(open) = &entry.open {
            self.registry.remember(open.cgroup().id(), ended.clone());
        }
        for reply in entry.waiting {
            let _ = reply.send(Ok(ended.clone()));
        }
        for waiter in entry.pausing.into_iter().chain(entry.giving.and_then(|given| given.waiter)) {
            let _ = waiter.reply.send(Err(Refused::NotFound(entry.name.to_string())));
        }
    }

    pub(super) fn wait_for_end(
        &mut self,
        id: u64,
        whose: Option<&[String]>,
        reply: oneshot::Sender<Result<Ended, Refused>>,
    ) {
        let is_seen = |tenant: &Name| whose.is_none_or(|own| own.iter().any(|own| own == tenant.as_str()));
        // Those that live first: an end may be remembered from before a reboot, with the same id.
        if let Some(entry) = self.registry.find_id(id).filter(|entry| is_seen(&entry.identity().tenant)) {
            // Clients that hung up wait no more.
            entry.waiting.retain(|waiting| !waiting.is_closed());
            entry.waiting.push(reply);
        } else if let Some(ended) = self
            .registry
            .recall(id)
            .filter(|ended| whose.is_none() || ended.tenant.as_ref().is_some_and(is_seen))
        {
            let _ = reply.send(Ok(ended.clone()));
        } else {
            let _ = reply.send(Err(Refused::NotFound(format!("with id {id}"))));
        }
    }

    pub(super) fn detail_read(&mut self, key: Key, detail: Option<Detail>) {
        let Some(entry) = self.registry.get(key) else { return };
        entry.detail_pending = false;
        let Some(detail) = detail else { return };
        let seen = entry.shadow.as_mut().map_or(detail, |shadow| shadow.detail(&detail));
        entry.law.observe(&seen);
        entry.published.detail(&detail);
        // The verdict may allow what the last look had to wait for.
        self.look(key, clock::now());
    }
}

/// What is published of what only an order changes.
pub(super) fn terms(identity: &Identity, pin: Option<Pin>) -> Terms {
    Terms {
        class: identity.class.as_str().into(),
        assigned: identity.assigned.clone(),
        pin,
        resources: identity.resources.clone(),
    }
}

/// The quota that a workload of this mode is opened to when its agent dies, if it has any.
pub(super) fn failsafe_cpu(identity: &Identity, mode: Mode) -> Option<Cpus> {
    identity.cpu.filter(|_| mode == Mode::Enforce).map(|bounds| bounds.ceiling)
}

/// What is noted of a workload's limits that no law moves, by its class.
pub(super) fn stated(identity: &Identity, class: &Class) -> String {
    let files = actuator::class_files(identity, class);
    stated::text(&files, identity.memory.ceiling, failsafe_cpu(identity, class.mode))
}

/// What is published of a workload from its birth on.
pub(super) fn facts(identity: &Identity, started_unix_ns: u64, adopted: bool) -> Facts {
    Facts {
        tenant: identity.tenant.to_string(),
        workload: identity.name.to_string(),
        terms: terms(identity, None),
        memory: identity.memory,
        cpu: identity.cpu,
        started_unix_ns,
        adopted,
    }
}
