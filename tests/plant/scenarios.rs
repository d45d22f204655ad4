//! The scenarios: what is wanted, as a trace, and what is compared.
//!
//! Need rises by 32 MiB a second, half of what the slowest machine can take up: what is compared is the answer of limits to a
//! rise, and not how fast a machine clears pages. Each rests for two seconds first, since a kernel's workloads are launched one
//! after the other before the trace begins.

use bellows_policies::{Bounds, Bytes, CpuBounds, Cpus};
use bellows_simulator::trace::{Life, Row, Trace};

use crate::plant::figures::{Bound, Figure};

/// A workload under a scenario, by its name in the trace, and the figures that matter of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The workload.
    pub name: &'static str,
    /// The figures, and how far they may be apart.
    pub figures: &'static [(Figure, Bound)],
}

/// Scenarios that are played at once, each beside the others' calm.
#[derive(Clone, Debug)]
pub struct Round {
    /// What all want.
    pub trace: Trace,
    /// What is compared.
    pub scenarios: &'static [Scenario],
}

/// Time in which need rises by 2 MiB, milliseconds.
const STEP_MS: u64 = 62;

/// The rounds.
#[must_use]
pub fn rounds() -> [Round; 2] {
    [memory(), cpu()]
}

fn memory() -> Round {
    let calm = vec![row(0, 16)];
    let step = rise(vec![row(0, 32)], 9_000, 256);
    let ceiling = rise(calm.clone(), 12_000, 160);
    let mut frees = rise(calm.clone(), 2_000, 160);
    frees.push(row(7_000, 16));
    let mut reader = calm;
    reader.push(Row { cache: Bytes::mib(128), ..row(20_000, 16) });
    let lives = vec![
        life("step", (48, 512), step, None),
        life("ceiling", (24, 96), ceiling, Some(20_500)),
        life("frees", (24, 512), frees, None),
        life("reader", (32, 512), reader, None),
    ];
    Round { trace: Trace { lives, ends: 30_000_000_000 }, scenarios: MEMORY }
}

fn cpu() -> Round {
    let lives =
        vec![worker("burst", vec![work(0, 0), work(8_000, 400)]), worker("steady", vec![work(0, 200)])];
    Round { trace: Trace { lives, ends: 20_000_000_000 }, scenarios: CPU }
}

/// Need comes at the trace's pace in both, and a limit that is not in the way costs nothing: what is left is the time between two
/// samples, and a moment in which a busy guest stands still.
const PACE: Bound = Bound::Times(1.2);
/// The plant uses what it needs; a program its own pages besides, some MiB.
const USE: Bound = Bound::Apart(0.04);
/// A step follows the growth that was seen. Need rises in pieces of 2 MiB, and how fast a piece is taken up depends on the
/// machine: so the same steps come at other sizes.
const STEPS: Bound = Bound::Apart(0.15);
/// The room above use at the end is that of the fastest growth seen: of a piece, as above.
const ROOM: Bound = Bound::Times(1.6);
/// Two holds of ten seconds, each begun by a look, and one that is begun anew by whatever comes late.
const HOLDS: Bound = Bound::Apart(3.0);
/// The answer to the first throttled period comes within two, and a step each 200 ms after it: one or two steps more or less.
const RELIEF: Bound = Bound::Apart(1.0);
/// Of 8 in the plant at most 10 more, those of the second that relief may be late; and never none.
const THROTTLED: Bound = Bound::Times(2.25);
/// The plant's work comes evenly, and needs no room above itself. A guest's does not, and the law leaves room for how far it
/// deviates.
const HEADROOM: Bound = Bound::Times(1.5);

const MEMORY: &[Scenario] = &[
    Scenario {
        name: "step",
        figures: &[
            (Figure::Used(9.0, 250), PACE),
            (Figure::Kills, Bound::Equal),
            (Figure::Grows, Bound::Apart(3.0)),
            (Figure::LastHigh, Bound::Times(1.25)),
            (Figure::UseCurve, USE),
            (Figure::HighCurve, STEPS),
        ],
    },
    Scenario {
        name: "ceiling",
        // How long it is parked at its ceiling is up to the kernel's throttling: a task sleeps up to 2 s for a charge.
        figures: &[
            (Figure::Kills, Bound::Equal),
            (Figure::Gone(12.0), Bound::Apart(2.0)),
            (Figure::UseCurve, USE),
        ],
    },
    Scenario {
        name: "frees",
        figures: &[
            // Well below what it comes to: the last pieces may be late, or its program's pages be charged to another.
            (Figure::Used(2.0, 145), PACE),
            (Figure::Lowered(7.0, 80), HOLDS),
            (Figure::Kills, Bound::Equal),
            (Figure::LastHigh, ROOM),
            (Figure::UseCurve, USE),
            (Figure::HighCurve, STEPS),
        ],
    },
    Scenario {
        name: "reader",
        // One step above need, given ahead of the verdict, and no more: a second one would be half as much again.
        figures: &[
            (Figure::Kills, Bound::Equal),
            (Figure::LastHigh, Bound::Times(1.1)),
            (Figure::UseCurve, USE),
        ],
    },
];

const CPU: &[Scenario] = &[
    Scenario {
        name: "burst",
        figures: &[
            (Figure::Relieved(8.0, 400), RELIEF),
            (Figure::Throttled(8.0, 4.0), THROTTLED),
            (Figure::QuotaRises(8.0), Bound::Apart(3.0)),
            (Figure::Headroom(4.0), HEADROOM),
        ],
    },
    Scenario {
        name: "steady",
        figures: &[
            (Figure::Relieved(0.0, 200), RELIEF),
            // Converged, it is hardly throttled any more.
            (Figure::Throttled(12.0, 7.0), Bound::Apart(3.0)),
            (Figure::Headroom(4.0), HEADROOM),
        ],
    },
];

fn row(at_ms: u64, need_mib: u64) -> Row {
    Row { at: at_ms * 1_000_000, need: Bytes::mib(need_mib), ..Row::default() }
}

fn work(at_ms: u64, milli: u64) -> Row {
    Row { cores: Cpus::milli(milli), ..row(at_ms, 12) }
}

/// From an instant on need rises from what it is to `most_mib`.
fn rise(mut rows: Vec<Row>, from_ms: u64, most_mib: u64) -> Vec<Row> {
    let least = rows.last().map_or(0, |row| row.need.0 >> 20);
    let steps = (least + 2..=most_mib).step_by(2).zip(0..);
    rows.extend(steps.map(|(mib, step)| row(from_ms + step * STEP_MS, mib)));
    rows
}

/// One whose quota is never in its way.
fn life(name: &str, (floor, ceiling): (u64, u64), rows: Vec<Row>, ends_ms: Option<u64>) -> Life {
    Life {
        tenant: "default".to_owned(),
        name: name.to_owned(),
        class: None,
        memory: Some(Bounds { floor: Bytes::mib(floor), ceiling: Bytes::mib(ceiling) }),
        cpu: Some(CpuBounds { floor: Cpus::milli(1500), ceiling: Cpus::milli(2000) }),
        rows: rows.into(),
        ends: ends_ms.map(|ms| ms * 1_000_000),
    }
}

/// One whose memory is never in its way.
fn worker(name: &str, rows: Vec<Row>) -> Life {
    let cpu = Some(CpuBounds { floor: Cpus::milli(100), ceiling: Cpus::milli(1500) });
    Life { cpu, ..life(name, (32, 64), rows, None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::course::in_the_plant;
    use crate::plant::figures::compare;

    /// In the plant alone each scenario comes to what it is for, and a course agrees with itself.
    #[test]
    fn each_scenario_shows_what_it_is_for() {
        for round in rounds() {
            let courses = in_the_plant(&round.trace);
            for scenario in round.scenarios {
                let course = &courses[scenario.name];
                for &(figure, bound) in scenario.figures {
                    let line = compare(scenario.name, figure, bound, course, course);
                    println!("{}", line.text);
                    assert!(line.agrees, "{}", line.text);
                }
            }
            let kills: u64 = courses.values().map(|course| course.kills).sum();
            assert_eq!(kills, u64::from(courses.contains_key("ceiling")));
        }
    }
}
