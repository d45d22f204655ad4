//! The loop that governs the plant. Events are told at once after a quiet spell and else every 12 ms; grows are written
//! at once and details read 1 ms later. The slow lane takes one plan at a time, a while after it was decided, and a grow
//! cancels it; before it lowers `memory.max` it looks at use once more, and 1 ms passes before the write.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fmt::Write;

use bellows_policies::{
    Bounds, Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, Plan, Reason, Room, Verb, Workload,
    launch, plan, settle, step, undo,
};

use super::{Demand, Plant, TICK_NS};

pub(crate) struct Rig {
    pub(crate) plant: Plant,
    pub(crate) workload: Workload,
    pub(crate) budget: Budget,
    pub(crate) log: String,
    pub(crate) writes: u64,
    /// Instants of the shrinks written, ns.
    pub(crate) shrinks: Vec<u64>,
    /// Instants of the reclaims, ns.
    pub(crate) reclaims: Vec<u64>,
    pub(crate) refused: u64,
    pub(crate) details: u64,
    pub(crate) looks: u64,
    pub(crate) failed_at: Option<u64>,
    /// How long the slow lane takes to come to a plan, ns.
    pub(crate) lane_ns: u64,
    /// How long the loop takes to wake up, ns.
    pub(crate) wake_ns: u64,
    /// The slow pass: a look each so many ns, if any.
    pub(crate) pass_ns: Option<u64>,
    passed: u64,
    told: (MemoryEvents, u64),
    wake_at: Option<u64>,
    look_at: Option<u64>,
    detail: Option<(u64, Detail)>,
    job: Option<Job>,
    last_reason: Option<Reason>,
    last_reclaim: Option<Reason>,
}

/// A plan on the slow lane.
#[derive(Clone, Copy)]
struct Job {
    due: u64,
    plan: Plan,
    room: Room,
    /// Use was looked at, and the write is on its way.
    checked: bool,
}

impl Rig {
    pub(crate) fn new(bounds: &str, budget: Budget) -> Self {
        Self::under(&Law::default(), bounds, budget)
    }

    pub(crate) fn under(law: &Law, bounds: &str, budget: Budget) -> Self {
        let bounds: Bounds = bounds.parse().unwrap();
        let mut budget = budget;
        let workload = Workload::new(bounds, *law);
        let first = launch(&workload, &mut budget).unwrap();
        settle(&first, &mut budget);
        let mut log = String::new();
        writeln!(log, "{:>9}  {:<7} {:<18} {:>9} {:>9} {:>9}", "ms", "verb", "reason", "use", "high", "max")
            .unwrap();
        Self {
            plant: Plant::new(workload.launch_limits()),
            workload,
            budget,
            log,
            writes: 0,
            shrinks: Vec::new(),
            reclaims: Vec::new(),
            refused: 0,
            details: 0,
            looks: 0,
            failed_at: None,
            lane_ns: 2_000_000,
            wake_ns: 0,
            pass_ns: None,
            passed: 0,
            told: (MemoryEvents::default(), 0),
            wake_at: None,
            look_at: None,
            detail: None,
            job: None,
            last_reason: None,
            last_reclaim: None,
        }
    }

    /// The same with a look each second.
    pub(crate) fn with_passes(self) -> Self {
        Self { pass_ns: Some(1_000_000_000), ..self }
    }

    /// Runs for `ms`.
    pub(crate) fn run(&mut self, ms: u64, demand: Demand) {
        for _ in 0..ms * 1_000_000 / TICK_NS {
            self.plant.tick(demand);
            let now = self.plant.now;
            let answer = self.detail.take_if(|(due, _)| *due <= now);
            if let Some((_, detail)) = answer {
                self.workload.observe(&detail);
            }
            if let Some(job) = self.job.take_if(|job| job.due <= now) {
                self.work(&job);
            }
            if self.told.0 != self.plant.events && now >= self.told.1 + 12_000_000 {
                self.told = (self.plant.events, now);
                self.wake_at = self.wake_at.or(Some(now + self.wake_ns));
            }
            let heard = self.wake_at.take_if(|due| *due <= now).is_some();
            let passes = self.pass_ns.is_some_and(|every| now >= self.passed + every);
            if passes {
                self.passed = now;
            }
            // An agent looks on every answer; without a pass this is left out, and looks are those of the law alone.
            let answered = answer.is_some() && self.pass_ns.is_some();
            if heard || passes || answered || self.look_at.is_some_and(|due| due <= now) {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let now = self.plant.now;
        self.looks += 1;
        let sample = self.plant.sample();
        let step = step(&mut self.workload, &sample);
        self.look_at = step.look_again.map(|wait| Instant(now).plus(wait).0);
        if step.read_detail && self.detail.is_none() {
            self.details += 1;
            let Plant { stat, pressure, io, .. } = self.plant;
            self.detail = Some((
                now + 1_000_000,
                Detail { at: Instant(now), stat, pressure, io, threads: 4, ..Detail::default() },
            ));
        }
        let plan = plan(&self.workload, step.decision, &mut self.budget);
        match plan {
            Plan::Nothing { reason } => self.note(Verb::Hold, reason, self.workload.limits()),
            Plan::Write { verb: Verb::Shrink, .. } | Plan::Reclaim { .. } => {
                assert!(!matches!(plan, Plan::Write { clamped: true, .. }), "{plan:?}");
                if self.job.is_some() {
                    self.refuse(&plan);
                } else {
                    let room = self.workload.room();
                    self.job = Some(Job { due: now + self.lane_ns, plan, room, checked: false });
                }
            }
            Plan::Write { clamped, .. } => {
                assert!(!clamped, "{plan:?}");
                if let Some(cancelled) = self.job.take() {
                    self.refuse(&cancelled.plan);
                }
                self.write(&plan);
            }
        }
    }

    fn refuse(&mut self, plan: &Plan) {
        self.refused += 1;
        undo(plan, &mut self.budget);
        self.workload.shrink_refused(Instant(self.plant.now));
    }

    fn work(&mut self, job: &Job) {
        let now = self.plant.now;
        match job.plan {
            Plan::Reclaim { bytes, reason, .. } => {
                super::replays(&job.plan, self.workload.law());
                self.plant.take(bytes.0);
                self.reclaims.push(now);
                self.workload.reclaimed(Instant(now));
                self.note(Verb::Reclaim, reason, self.workload.limits());
            }
            Plan::Write { from, to, .. } if to.max < from.max && !job.checked => {
                if job.room.above(Bytes(self.plant.usage())) > to.max {
                    self.refuse(&job.plan);
                } else {
                    self.job = Some(Job { due: now + 1_000_000, checked: true, ..*job });
                }
            }
            Plan::Write { to, .. } if job.checked && Bytes(self.plant.usage()) > to.max => {
                self.refuse(&job.plan);
            }
            Plan::Write { .. } => self.write(&job.plan),
            Plan::Nothing { .. } => {}
        }
    }

    fn write(&mut self, plan: &Plan) {
        let Plan::Write { verb, from, to, reason, .. } = *plan else { return };
        super::replays(plan, self.workload.law());
        self.writes += 1;
        self.plant.limits = to;
        match verb {
            Verb::Shrink => {
                assert!(to.high <= from.high && to.max <= from.max && to != from, "{plan:?}");
                self.shrinks.push(self.plant.now);
                self.plant.reclaim_to(to.high);
            }
            Verb::Fail => {
                self.failed_at.get_or_insert(self.plant.now);
            }
            Verb::Grow | Verb::Hold | Verb::Reclaim => {}
        }
        if verb != Verb::Fail {
            let law = self.workload.law();
            let bounds = self.workload.bounds();
            assert!(bounds.floor <= to.high && to.high <= bounds.ceiling, "{plan:?}");
            assert!(to.max >= to.high.saturating_add(law.band_min), "{plan:?}");
        }
        settle(plan, &mut self.budget);
        self.workload.commit(to, Instant(self.plant.now));
        self.note(verb, reason, to);
    }

    /// One row per write, per hold for another reason than the row before, and per reclaim for another than the last one.
    fn note(&mut self, verb: Verb, reason: Reason, limits: Limits) {
        let quiet = matches!(reason, Reason::RoomLeft | Reason::VerdictAwaited);
        match verb {
            Verb::Hold if quiet || self.last_reason == Some(reason) => return,
            Verb::Reclaim if self.last_reclaim.replace(reason) == Some(reason) => return,
            Verb::Grow | Verb::Shrink | Verb::Reclaim | Verb::Hold | Verb::Fail => {}
        }
        self.last_reason = Some(reason);
        let ms = self.plant.now as f64 / 1e6;
        let current = Bytes(self.plant.usage());
        let Limits { high, max } = limits;
        writeln!(self.log, "{ms:>9.1}  {verb:<7} {:<18} {current:>9} {high:>9} {max:>9}", reason.as_str())
            .unwrap();
    }
}
