//! Figures of two courses, and whether they agree.

use crate::plant::course::{Course, Sample};

const MIB: f64 = (1 << 20) as f64;

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    /// Seconds from an instant until so many MiB are used.
    Used(f64, u64),
    /// Seconds from an instant until `memory.high` is at most so many MiB.
    Lowered(f64, u64),
    /// Seconds from an instant until the quota is at least so many thousandths of a cpu.
    Relieved(f64, u64),
    /// Kills by the kernel.
    Kills,
    /// Seconds from an instant until it is gone.
    Gone(f64),
    /// Raises of the memory limits.
    Grows,
    /// Raises of the quota from an instant on, as far as two samples show them.
    QuotaRises(f64),
    /// `memory.high` at the end, MiB.
    LastHigh,
    /// The quota at the end over use in the seconds before it.
    Headroom(f64),
    /// Throttled periods from an instant on, and so many seconds long.
    Throttled(f64, f64),
    /// The curve of use: the mean distance, over mean use; half a second earlier or later is no distance.
    UseCurve,
    /// The same of `memory.high`.
    HighCurve,
}

/// How far apart they may be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not at all.
    Equal,
    /// The larger is at most so many times the smaller.
    Times(f64),
    /// By so much at most.
    Apart(f64),
}

/// One line of the comparison.
#[derive(Clone, Debug)]
pub struct Line {
    /// In words.
    pub what: String,
    /// On the kernel, and in the plant; none where it never came to it.
    pub kernel: Option<f64>,
    /// In the plant.
    pub plant: Option<f64>,
    /// Whether they agree.
    pub agrees: bool,
    /// As a table has it: scenario, figure, kernel, plant, bound.
    pub text: String,
}

/// Compares one figure of a scenario.
#[must_use]
pub fn compare(scenario: &str, figure: Figure, bound: Bound, kernel: &Course, plant: &Course) -> Line {
    let (what, [kernel, plant]) = match figure {
        Figure::UseCurve => {
            ("use: mean distance".to_owned(), distance(kernel, plant, |sample| sample.current))
        }
        Figure::HighCurve => {
            ("memory.high: mean distance".to_owned(), distance(kernel, plant, |sample| sample.high))
        }
        figure => (figure.name(), [kernel, plant].map(|course| figure.of(course))),
    };
    let agrees = match (kernel, plant) {
        (Some(kernel), Some(plant)) => bound.allows(kernel, plant),
        _ => false,
    };
    let number = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| format!("{value:.2}"));
    let text = format!("| {scenario} | {what} | {} | {} | {bound} |", number(kernel), number(plant));
    Line { what, kernel, plant, agrees, text }
}

impl Figure {
    fn name(self) -> String {
        match self {
            Self::Used(_, mib) => format!("time to {mib} MiB, s"),
            Self::Lowered(_, mib) => format!("time until memory.high is below {mib} MiB, s"),
            Self::Relieved(_, milli) => format!("time to a quota of {} cpus, s", milli as f64 / 1e3),
            Self::Kills => "kills".to_owned(),
            Self::Gone(_) => "time to its end, s".to_owned(),
            Self::Grows => "raises of the limits".to_owned(),
            Self::QuotaRises(_) => "raises of the quota".to_owned(),
            Self::LastHigh => "memory.high at the end, MiB".to_owned(),
            Self::Headroom(_) => "quota at the end, over use".to_owned(),
            Self::Throttled(from, length) => {
                format!("throttled periods from {from} s to {} s", from + length)
            }
            Self::UseCurve | Self::HighCurve => "mean distance".to_owned(),
        }
    }

    fn of(self, course: &Course) -> Option<f64> {
        match self {
            Self::Used(since, mib) => course.until(since, |sample| sample.current >= mib << 20),
            Self::Lowered(since, mib) => course.until(since, |sample| sample.high <= mib << 20),
            Self::Relieved(since, milli) => course.until(since, |sample| sample.quota >= milli * 1000),
            Self::Kills => Some(course.kills as f64),
            Self::Gone(since) => course.ends().map(|end| end - since),
            Self::Grows => Some(course.grows as f64),
            Self::QuotaRises(since) => {
                let after: Vec<u64> = course.since(since).map(|sample| sample.quota).collect();
                Some(after.windows(2).filter(|pair| pair[1] > pair[0]).count() as f64)
            }
            Self::LastHigh => Some(course.last().high as f64 / MIB),
            Self::Headroom(seconds) => {
                let last = course.last();
                let first = course.at(course.ends()? - seconds)?;
                let used = last.used_us.saturating_sub(first.used_us) as f64 / seconds / 1e6;
                (used > 0.0).then(|| last.quota as f64 / 1e6 / used)
            }
            Self::Throttled(from, length) => {
                let throttled = |at| course.at(at).map(|sample| sample.throttled);
                let (before, after) = (throttled(from)?, throttled(from + length)?);
                Some(after.saturating_sub(before) as f64)
            }
            Self::UseCurve | Self::HighCurve => None,
        }
    }
}

impl Bound {
    fn allows(self, kernel: f64, plant: f64) -> bool {
        let (least, most) = (kernel.min(plant), kernel.max(plant));
        match self {
            Self::Equal => most - least < 1e-9,
            Self::Times(times) => most <= least * times,
            Self::Apart(apart) => most - least <= apart,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::Times(times) => write!(f, "x {times}"),
            Self::Apart(apart) => write!(f, "± {apart}"),
        }
    }
}

/// By how many samples a curve may be shifted: half a second. When something comes is compared by figures of its own.
const SHIFT: u64 = 2;

/// The mean distance of two curves over the mean of the plant's, where both have samples; beside it zero, the plant's distance
/// from itself. A sample is held against the range that the plant goes through within [`SHIFT`] of it.
fn distance(kernel: &Course, plant: &Course, of: fn(&Sample) -> u64) -> [Option<f64>; 2] {
    let (mut apart, mut all) = (0, 0);
    // The last one may have been taken while a workload that is killed gives back what it had.
    for (number, sample) in kernel.samples.iter().rev().skip(1) {
        let Some(other) = plant.samples.get(number) else { continue };
        let near = plant.samples.range(number.saturating_sub(SHIFT)..=number + SHIFT);
        let (least, most) =
            near.fold((u64::MAX, 0), |(least, most), (_, near)| (least.min(of(near)), most.max(of(near))));
        apart += of(sample).abs_diff(of(sample).clamp(least, most));
        all += of(other);
    }
    [(all > 0).then(|| apart as f64 / all as f64), Some(0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rises by 8 MiB a sample, `late` samples late, and stays at 100 MiB; all of it times `level` hundredths.
    fn curve(late: u64, level: u64) -> Course {
        let use_of = |number: u64| (8 * number.saturating_sub(late)).clamp(16, 100);
        let sample = |number| Sample { current: (use_of(number) << 20) * level / 100, ..Sample::default() };
        Course { samples: (0..40).map(|number| (number, sample(number))).collect(), ..Course::default() }
    }

    #[test]
    fn half_a_second_is_no_distance_and_another_level_is() {
        let apart = |late, level| {
            distance(&curve(late, level), &curve(0, 100), |sample| sample.current)[0].expect("samples")
        };
        assert!(apart(2, 100) < 1e-9);
        assert!((0.02..0.08).contains(&apart(4, 100)), "{}", apart(4, 100));
        assert!((0.06..0.1).contains(&apart(0, 110)), "{}", apart(0, 110));
    }
}
