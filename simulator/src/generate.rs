//! Traces from a seed: days, bursts, leaks, jobs, churn, and all of them mixed. The same on every machine: no function of the
//! mathematics library has a part in it.

use bellows_policies::{Bounds, Bytes, CpuBounds, Cpus};

use crate::chance::Chance;
use crate::faults::MS;
use crate::load::SECOND;
use crate::trace::{Life, Row, Trace};

/// What kind of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Services that follow the day: up and down once in 24 hours, or in the whole trace where that is shorter.
    Diurnal,
    /// Services that rest, and now and then want several times as much for a minute.
    Bursty,
    /// Services that grow slowly for ever, and are started anew at eight times their size.
    Leaking,
    /// Jobs of minutes: they read their input, fill their memory, and keep the cpu busy.
    Batch,
    /// Workloads that live for seconds.
    Churning,
    /// All of them, in turns.
    Mixed,
}

/// Time between two rows of a service.
const EVERY: u64 = 10 * SECOND;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// One workload under the generator's hands.
struct Maker<'c> {
    chance: &'c mut Chance,
    tenant: String,
    name: String,
    class: &'static str,
    /// Memory at rest, MiB, and cpus at rest, thousandths.
    mib: u64,
    milli: u64,
    /// Cpu time of a piece of work, microseconds.
    piece_us: u64,
    ends: u64,
    lives: Vec<Life>,
}

/// A trace of so many workloads at a time, and of so many nanoseconds.
#[must_use]
pub fn generate(kind: Kind, workloads: usize, length: u64, seed: u64) -> Trace {
    let mut chance = Chance::new(seed);
    let mut lives = Vec::new();
    for index in 0..workloads {
        let mut own = chance.fork();
        lives.extend(make(kind, index, length, &mut own));
    }
    lives.sort_by_key(Life::begins);
    Trace { lives, ends: length }
}

fn make(kind: Kind, index: usize, length: u64, chance: &mut Chance) -> Vec<Life> {
    const ALL: [Kind; 5] = [Kind::Diurnal, Kind::Bursty, Kind::Leaking, Kind::Batch, Kind::Churning];
    let (tenant, class) = match kind {
        Kind::Mixed => return make(ALL[index % ALL.len()], index, length, chance),
        Kind::Diurnal => ("day", "latency"),
        Kind::Bursty => ("burst", "standard"),
        Kind::Leaking => ("leak", "standard"),
        Kind::Batch => ("farm", "batch"),
        Kind::Churning => ("churn", "standard"),
    };
    let (mib, milli) = (chance.between(32, 256), chance.between(200, 1500));
    // Requests of a service.
    let piece_us = chance.of(&[200, 500, 1000]);
    let (tenant, name) = (tenant.to_owned(), format!("{tenant}-{index}"));
    let mut maker = Maker { chance, tenant, name, class, mib, milli, piece_us, ends: length, lives: vec![] };
    match kind {
        Kind::Diurnal => maker.day(),
        Kind::Bursty => maker.bursts(),
        Kind::Leaking => maker.leak(),
        Kind::Batch => maker.jobs(),
        Kind::Churning | Kind::Mixed => maker.churn(),
    }
    maker.lives
}

impl Maker<'_> {
    fn day(&mut self) {
        let day = DAY.min(self.ends);
        let phase = self.chance.below(day / 4);
        let swing = self.chance.between(30, 80) as f64 / 100.0;
        let rows = (0..self.ends).step_by(step(EVERY)).map(|at| {
            let level = 1.0 + swing * wave((at + phase) % day, day);
            self.row(at, level, level, self.mib / 4)
        });
        let rows = rows.collect();
        self.live(rows, None);
    }

    fn bursts(&mut self) {
        let (mut rows, mut until, mut level) = (Vec::new(), 0, 1.0);
        for at in (0..self.ends).step_by(step(EVERY)) {
            if at >= until {
                level = if self.chance.one_in(20) { self.chance.between(20, 50) as f64 / 10.0 } else { 1.0 };
                until = at + if level > 1.0 { self.time(20 * SECOND, 2 * MINUTE) } else { 0 };
            }
            rows.push(self.row(at, level, level, self.mib / 2));
        }
        self.live(rows, None);
    }

    fn leak(&mut self) {
        let per_minute = self.chance.between(1, 16) as f64;
        let mut begun = 0;
        while begun < self.ends {
            let lasts = (self.mib as f64 * 7.0 / per_minute).max(1.0);
            let ends = begun.saturating_add(Bytes(MINUTE).scale(lasts).0 / EVERY * EVERY);
            let rows = (begun..ends.min(self.ends)).step_by(step(EVERY)).map(|at| {
                let grown = per_minute * (at - begun) as f64 / MINUTE as f64;
                self.row(at, 1.0 + grown / self.mib as f64, 1.0, 16)
            });
            let rows = rows.collect();
            self.live(rows, Some(ends).filter(|ends| *ends < self.ends));
            begun = ends.saturating_add(EVERY);
        }
    }

    fn jobs(&mut self) {
        let mut begun = self.time(0, 2 * MINUTE);
        while begun < self.ends {
            let ends = begun + self.time(MINUTE, 15 * MINUTE);
            (self.mib, self.milli) = (self.chance.between(64, 768), self.chance.between(500, 3000));
            let mut rows = vec![self.row(begun, 0.2, 0.5, self.mib / 2)];
            for at in (begun + EVERY..ends.min(self.ends)).step_by(step(EVERY)) {
                let share = ((at - begun) as f64 / (ends - begun) as f64 * 10.0).min(1.0);
                rows.push(self.row(at, 0.2 + 0.8 * share, 1.0, self.mib / 2));
            }
            self.live(rows, Some(ends).filter(|ends| *ends < self.ends));
            begun = ends + self.time(0, 2 * MINUTE);
        }
    }

    fn churn(&mut self) {
        let name = self.name.clone();
        let (mut begun, mut number) = (self.time(0, 30 * SECOND), 0);
        while begun < self.ends {
            let ends = begun + self.time(3 * SECOND, MINUTE);
            (self.mib, self.milli) = (self.chance.between(8, 96), self.chance.between(20, 1000));
            self.name = format!("{name}-{number}");
            let rows = vec![self.row(begun, 1.0, 1.0, 4)];
            self.live(rows, Some(ends).filter(|ends| *ends < self.ends));
            begun = ends + self.time(0, 20 * SECOND);
            number += 1;
        }
    }

    /// A time from `least` to `most`, in whole milliseconds as people write them.
    fn time(&mut self, least: u64, most: u64) -> u64 {
        self.chance.between(least, most) / MS * MS
    }

    /// A row at these levels of memory and cpu, a little off them as everything real is.
    fn row(&mut self, at: u64, memory: f64, cpu: f64, cache_mib: u64) -> Row {
        let mut near = |value: f64, percent: u64| {
            value * (100 - percent + self.chance.below(2 * percent + 1)) as f64 / 100.0
        };
        let need = Bytes::mib(self.mib).scale(near(memory, 2)).page_floor();
        let cores = Cpus::milli(self.milli).scale(near(cpu, 10)).0 / 1000 * 1000;
        Row { at, need, cache: Bytes::mib(cache_mib), cores: Cpus(cores), piece_us: self.piece_us }
    }

    fn live(&mut self, rows: Vec<Row>, ends: Option<u64>) {
        let most = |of: fn(&Row) -> u64| rows.iter().map(of).max().unwrap_or_default();
        let memory = Bytes(most(|row| row.need.saturating_add(row.cache).0)).scale(1.5).page_ceil();
        let cores = Cpus(most(|row| row.cores.0)).scale(3.0).max(Cpus::milli(500));
        let floor = Bytes::mib(self.mib / 2).max(Bytes::mib(8)).min(memory);
        self.lives.push(Life {
            tenant: self.tenant.clone(),
            name: self.name.clone(),
            class: Some(self.class.to_owned()),
            memory: Some(Bounds { floor, ceiling: memory }),
            cpu: Some(CpuBounds { floor: Cpus::milli(50), ceiling: cores }),
            rows: rows.into(),
            ends,
        });
    }
}

/// A wave from -1 to 1 and back, as a sine runs but made of two parabolas.
fn wave(at: u64, period: u64) -> f64 {
    let turn = at as f64 / period as f64;
    let half = |x: f64| 16.0 * x * (0.5 - x);
    if turn < 0.5 { half(turn) } else { -half(turn - 0.5) }
}

fn step(ns: u64) -> usize {
    usize::try_from(ns).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_trace_and_each_kind_has_its_shape() {
        let hour = 60 * MINUTE;
        for (kind, is_many) in [
            (Kind::Diurnal, false),
            (Kind::Bursty, false),
            (Kind::Leaking, false),
            (Kind::Batch, true),
            (Kind::Churning, true),
            (Kind::Mixed, true),
        ] {
            let trace = generate(kind, 5, hour, 7);
            assert_eq!(trace, generate(kind, 5, hour, 7), "{kind:?}");
            assert_ne!(trace, generate(kind, 5, hour, 8), "{kind:?}");
            assert!(
                trace.lives.len() >= 5 && (trace.lives.len() > 12) == is_many,
                "{kind:?}: {}",
                trace.lives.len()
            );
            assert!(trace.lives.is_sorted_by_key(Life::begins), "{kind:?}");
            for life in &trace.lives {
                assert!(!life.rows.is_empty() && life.rows.is_sorted_by_key(|row| row.at), "{}", life.name);
                let ends = life.ends.unwrap_or(trace.ends);
                assert!(life.rows.iter().all(|row| row.at < ends), "{}", life.name);
            }
        }
        let peak = |kind| {
            let trace = generate(kind, 1, hour, 3);
            let needs = trace.lives[0].rows.iter().map(|row| row.need.0);
            needs.clone().max().unwrap_or(0) as f64 / needs.min().unwrap_or(1) as f64
        };
        assert!(peak(Kind::Diurnal) > 1.5 && peak(Kind::Bursty) > 1.9 && peak(Kind::Leaking) > 1.5);
    }

    #[test]
    fn the_wave_goes_round() {
        for (at, level) in [(0, 0.0), (25, 1.0), (50, 0.0), (75, -1.0)] {
            assert!((wave(at, 100) - level).abs() < 1e-9, "{at}");
        }
    }
}
