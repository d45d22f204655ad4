//! The table of workloads: slots that are reused, with a generation that unmasks late news for a former occupant.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use bellows_policies::ruleset::{Adopt, Mode};
use bellows_policies::sample::Sample;
use bellows_policies::squeeze::Rung;
use bellows_policies::units::{Bytes, Instant, Limit};
use bellows_policies::{Class, Pin, Reason, Seat, Shadow, Workload};
use tokio::sync::oneshot;

use super::handle::{Ended, Launched, Refused};
use super::ladder::Way;
use super::lanes::DetailFiles;
use super::operate::Waiter;
use super::outcomes::Pending;
use super::pass::Rest;
use super::settings::Given;
use super::shrinker::{Shrink, SlowFiles};
use crate::journal::Caller;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::cpu::CpuFiles;
use crate::kernel::limit::LimitFile;
use crate::kernel::watch::Key;
use crate::kernel::{clock, parse};
use crate::metrics::Published;
use crate::workload::lifecycle::State;
use crate::workload::records::REMEMBERED;
use crate::workload::spec::{Identity, Name, Spec};
use crate::workload::stops::Stop;
use crate::workload::supervisor::Running;

/// One workload.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// `tenant/name`, shared with the journal.
    pub(super) name: Arc<str>,
    pub(super) spec: Arc<Spec>,
    /// The class that it is governed by: that of its identity, or standard where there is none of that name any more.
    pub(super) class: Arc<Class>,
    pub(super) state: State,
    /// Its end was seen: what is left of it is being cleared away.
    pub(super) is_clearing: bool,
    /// It was told to end.
    pub(super) stop: Option<Stop>,
    /// A freeze or a thaw by order is under way.
    pub(super) pausing: Option<Waiter>,
    /// What it is given by the piece is being changed.
    pub(super) giving: Option<Given>,
    /// How often it has asked for more in vain since its limit was raised.
    pub(super) denials: u32,
    pub(super) law: Workload,
    pub(super) published: Arc<Published>,
    pub(super) admitted: Instant,
    /// Set while its command runs.
    pub(super) open: Option<Box<Open>>,
    /// When to look again without being told.
    pub(super) due: Option<Instant>,
    /// When the last look was taken; a second signal of the same wake-up is skipped.
    pub(super) looked: Instant,
    /// The instant of the last sample: they never go back.
    pub(super) sampled: Instant,
    /// When its limits are to be compared with the kernel's.
    pub(super) compare_at: Instant,
    /// What the slow pass knows of it.
    pub(super) rest: Rest,
    /// A write of ours failed, and none has succeeded since: what stands in the kernel is not known.
    pub(super) is_unsure: bool,
    /// A look into `memory.stat` is under way.
    pub(super) detail_pending: bool,
    /// Somebody else made it; what its tenant's policy says of that.
    pub(super) adopted: Option<Adopt>,
    /// What the kernel would have shown: its decisions are only told.
    pub(super) shadow: Option<Shadow>,
    /// A shrink is under way.
    pub(super) shrink: Option<Arc<Shrink>>,
    /// An operator's word that limits stay.
    pub(super) pin: Option<Pin>,
    /// The last reason for which nothing was done: told once, not on every look.
    pub(super) held: Option<Reason>,
    /// The laws that govern it, by name.
    pub(super) version: Arc<str>,
    /// The last move of its limits, until what came of it is known.
    pub(super) outcome: Option<Pending>,
    /// What it gives way with for others.
    pub(super) way: Way,
    /// Why it was killed, if its own law had it killed.
    pub(super) killed_for: Option<Reason>,
    /// OOM kills that were told.
    pub(super) oom_kills: u64,
    pub(super) launched: Option<Launching>,
    pub(super) waiting: Vec<oneshot::Sender<Result<Ended, Refused>>>,
}

/// Who asked for a launch, and waits for the answer.
#[derive(Debug)]
pub(super) struct Launching {
    pub(super) by: Arc<Caller>,
    pub(super) reply: oneshot::Sender<Result<Launched, Refused>>,
}

impl Launching {
    /// Answers. A client that hung up hears nothing.
    pub(super) fn answer(self, result: Result<Launched, Refused>) {
        let _ = self.reply.send(result);
    }
}

impl Entry {
    /// An entry about which nothing is known yet but what it is.
    pub(super) fn new(
        key: Key,
        spec: Arc<Spec>,
        class: Arc<Class>,
        law: &Workload,
        version: Arc<str>,
        published: Arc<Published>,
    ) -> Self {
        Self {
            key,
            name: spec.identity.to_string().into(),
            adopted: None,
            shadow: (class.mode == Mode::Observe).then(Shadow::default),
            spec,
            class,
            state: State::Created,
            is_clearing: false,
            stop: None,
            pausing: None,
            giving: None,
            denials: 0,
            law: *law,
            published,
            admitted: clock::now(),
            open: None,
            due: None,
            looked: Instant(0),
            sampled: Instant(0),
            compare_at: Instant(0),
            rest: Rest::default(),
            is_unsure: false,
            detail_pending: false,
            shrink: None,
            pin: None,
            held: None,
            version,
            outcome: None,
            way: Way::default(),
            killed_for: None,
            oom_kills: 0,
            launched: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.spec.identity
    }

    /// From whom is taken first: the lowest.
    pub(super) fn priority(&self) -> u32 {
        self.class.priority
    }

    /// The more, the less is taken.
    pub(super) fn weight(&self) -> u32 {
        self.class.cpu.law.weight
    }

    /// Whether its policy lets it be squeezed so far. On paper there is nothing to give, and of what somebody else made only
    /// what a tripwire can take.
    pub(super) fn may_give(&self, rung: Rung) -> bool {
        let is_mild = match rung {
            Rung::Slack | Rung::Reclaim => true,
        };
        !self.is_observed()
            && (is_mild || self.adopted.is_none())
            && self.class.rungs.iter().any(|allowed| allowed == rung.as_str())
    }

    /// Whether its command runs, be it that it stands still or was told to end, and it has limits that can be moved.
    pub(super) fn is_governed(&self) -> bool {
        let is_up = matches!(self.state, State::Running | State::Frozen | State::Stopping);
        is_up && !self.is_clearing
    }

    pub(super) fn move_to(&mut self, state: State) {
        self.state = state;
        let pid = self.open.as_ref().map_or(0, |o| o.running.pid());
        self.published.life(state as u8, pid);
    }
}

/// The open files of a running workload: everything that a turn needs, so that it opens nothing.
#[derive(Debug)]
pub struct Open {
    pub(super) running: Arc<Running>,
    pub(super) memory_events: File,
    memory_current: File,
    pub(super) cgroup_events: File,
    pub(super) high: LimitFile,
    /// None of what somebody else made: there it is its maker's.
    pub(super) max: Option<LimitFile>,
    /// What `memory.high` is opened to.
    pub(super) before: Limit,
    pub(super) slow: Arc<Later<SlowFiles>>,
    /// Taken by the cpu loop, if the quota is governed.
    pub(super) cpu: Option<CpuFiles>,
    pub(super) detail: Arc<Later<DetailFiles>>,
}

/// Files of a workload that only the lanes use: opened by whoever needs them first, so that a takeover of many does not wait for files
/// that most of them need much later.
#[derive(Debug)]
pub(super) struct Later<T> {
    running: Arc<Running>,
    open: fn(&Cgroup) -> Result<T, CgroupError>,
    opened: OnceLock<T>,
}

impl<T> Later<T> {
    fn new(running: &Arc<Running>, open: fn(&Cgroup) -> Result<T, CgroupError>) -> Arc<Self> {
        Arc::new(Self { running: Arc::clone(running), open, opened: OnceLock::new() })
    }

    pub(super) fn get(&self) -> Result<&T, CgroupError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = (self.open)(&self.running.cgroup)?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

impl Open {
    /// Opens all of a new one. `has_quota`: its cpu quota is governed.
    pub(super) fn new(running: &Arc<Running>, has_quota: bool) -> Result<Self, CgroupError> {
        let open = Self::again(running, has_quota)?;
        open.slow.get()?;
        open.detail.get()?;
        Ok(open)
    }

    /// Opens what a turn needs of one that another agent has started.
    pub(super) fn again(running: &Arc<Running>, has_quota: bool) -> Result<Self, CgroupError> {
        let max = LimitFile::open(&running.cgroup, "memory.max")?;
        Self::with(running, has_quota, Some(max), Limit::Max)
    }

    /// Opens what somebody else made. `before` is what its `memory.high` is given back to.
    pub(super) fn adopt(running: &Arc<Running>, before: Limit) -> Result<Self, CgroupError> {
        Self::with(running, false, None, before)
    }

    fn with(
        running: &Arc<Running>,
        has_quota: bool,
        max: Option<LimitFile>,
        before: Limit,
    ) -> Result<Self, CgroupError> {
        let cgroup = &running.cgroup;
        Ok(Self {
            memory_events: cgroup.open_read("memory.events.local")?,
            memory_current: cgroup.open_read("memory.current")?,
            cgroup_events: cgroup.open_read("cgroup.events")?,
            high: LimitFile::open(cgroup, "memory.high")?,
            max,
            before,
            slow: Later::new(running, SlowFiles::open),
            cpu: has_quota.then(|| CpuFiles::open(cgroup)).transpose()?,
            detail: Later::new(running, DetailFiles::open),
            running: Arc::clone(running),
        })
    }

    /// The two cheap reads. Reading the events also re-arms their POLLPRI.
    pub(super) fn sample(&self, at: Instant) -> io::Result<Sample> {
        let mut text = [0_u8; 256];
        let length = self.memory_events.read_at(&mut text, 0)?;
        let events = parse::memory_events(&text[..length]);
        Ok(Sample { at, current: self.current()?, events })
    }

    /// `memory.current`.
    pub(super) fn current(&self) -> io::Result<Bytes> {
        let mut text = [0_u8; 32];
        let length = self.memory_current.read_at(&mut text, 0)?;
        Ok(Bytes(parse::number(&text[..length]).unwrap_or(0)))
    }

    /// `memory.high` and `memory.max` in force; the latter is not read where it is not ours.
    pub(super) fn limits(&self) -> io::Result<(Limit, Limit)> {
        let max = self.max.as_ref().map_or(Ok(Limit::Max), LimitFile::read)?;
        Ok((self.high.read()?, max))
    }

    /// Writes `memory.max`, where that is ours.
    pub(super) fn write_max(&self, max: Bytes) -> io::Result<()> {
        self.max.as_ref().map_or(Ok(()), |file| file.write(Limit::At(max)))
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.running.cgroup
    }
}

/// All workloads, and the last ends.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Vec<Option<Entry>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    names: HashMap<Arc<str>, Key>,
    /// Who has which seat in the budget.
    seats: Vec<Option<Key>>,
    ended: VecDeque<(u64, Ended)>,
}

impl Registry {
    /// Reserves a slot; the entry is built with its key.
    pub(super) fn insert(&mut self, entry: impl FnOnce(Key) -> Entry) -> &mut Entry {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let index = slot as usize;
        self.generations[index] = (self.generations[index] + 1) & 0x00FF_FFFF;
        let entry = entry(Key { slot, generation: self.generations[index] });
        self.names.insert(Arc::clone(&entry.name), entry.key);
        if let Some(seat) = entry.law.seat().map(Seat::index) {
            self.seats.resize(self.seats.len().max(seat + 1), None);
            self.seats[seat] = Some(entry.key);
        }
        self.slots[index].insert(entry)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Entry> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|e| e.key == key)
    }

    /// Who has this seat in the budget.
    pub(super) fn seated(&self, seat: Seat) -> Option<Key> {
        *self.seats.get(seat.index())?
    }

    pub(super) fn find(&mut self, tenant: &Name, name: &Name) -> Option<&mut Entry> {
        let key = *self.names.get(format!("{tenant}/{name}").as_str())?;
        self.get(key)
    }

    pub(super) fn find_id(&mut self, id: u64) -> Option<&mut Entry> {
        self.iter_mut().find(|e| e.open.as_ref().is_some_and(|o| o.cgroup().id() == id))
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        self.get(key)?;
        let entry = self.slots[key.slot as usize].take()?;
        self.names.remove(&entry.name);
        if let Some(seat) = entry.law.seat() {
            self.seats[seat.index()] = None;
        }
        self.free.push(key.slot);
        Some(entry)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }

    /// The next occupied slot at or after `slot`, as a key.
    pub(super) fn next_from(&self, slot: usize) -> Option<Key> {
        self.slots.get(slot..)?.iter().flatten().next().map(|e| e.key)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn remember(&mut self, id: u64, ended: Ended) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((id, ended));
    }

    pub(super) fn recall(&self, id: u64) -> Option<&Ended> {
        self.ended.iter().rev().find(|(i, _)| *i == id).map(|(_, e)| e)
    }
}
