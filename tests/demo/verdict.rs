//! What the run showed, in words, and whether it showed what the demo claims.

use crate::compare::Density;
use crate::play::Outcome;
use crate::reports::Reports;
use crate::scenario::{BUDGET, PACK, TENANTS};
use crate::stage::share;

/// Two figures nearer than this are alike on a machine that does other things too.
const ALIKE: f64 = 0.15;

/// Share of its floor that the archive job must have filled, for its page cache to have asked for more.
const FULL: f64 = 0.8;

/// What is not as it should be. The claims hold on any machine, however slow: no latency or speed is among them.
pub(crate) fn failures(fixed: &Outcome, alone: &Outcome, moved: &Outcome) -> Vec<String> {
    let packed = &moved.packed;
    let conditions = [
        (fixed.lost() > 0, "static limits lost nothing, so there is nothing to show".to_owned()),
        (alone.kills > 0, "the kernel alone killed nobody, so there is nothing to show".to_owned()),
        (moved.kills == 0, format!("bellows: {} OOM kills", moved.kills)),
        (
            moved.redis.lost() == 0,
            format!(
                "bellows: redis served {} requests, and of {} keys {} are there",
                moved.redis.requests, moved.redis.keys, moved.redis.kept
            ),
        ),
        (
            moved.redis.are_keys_plausible(),
            format!(
                "bellows: {} requests made only {} distinct keys",
                moved.redis.requests, moved.redis.keys
            ),
        ),
        (
            moved.web.lost() == 0,
            format!("bellows: the web server did not serve {} requests", moved.web.lost()),
        ),
        (moved.reports.lost() == 0, format!("bellows: {} reports were not finished", moved.reports.lost())),
        (
            moved.peaks[PACK] >= TENANTS[PACK].floor.scale(FULL),
            format!(
                "bellows: the archive job used {} at most, so its cache proves nothing",
                moved.peaks[PACK]
            ),
        ),
        (
            !packed.is_inflated(),
            format!(
                "bellows: the archive job was inflated: granted {} at the end, {} half of the time, from a floor of {}",
                packed.granted, packed.granted_median, TENANTS[PACK].floor
            ),
        ),
        (moved.moves.grows() > 0, "bellows: no limit was raised".to_owned()),
    ];
    conditions.into_iter().filter_map(|(is_met, failure)| (!is_met).then_some(failure)).collect()
}

/// The run in some sentences.
pub(crate) fn words(fixed: &Outcome, alone: &Outcome, moved: &Outcome, density: Density) -> Vec<String> {
    let count = TENANTS.len();
    let waits = moved.reports.waited.len();
    let mut words = vec![
        format!(
            "density        {count} tenants ran on {BUDGET}; limits at their peaks, {} in all, would admit {} of them",
            crate::live::mib(density.peaks),
            density.admitted
        ),
        format!("static limits  {} each: {}", share(), describe_losses(fixed)),
        format!("kernel alone   no bounds: {}", describe_losses(alone)),
    ];
    words.push(match moved.lost() + moved.kills {
        0 => format!(
            "bellows        nobody killed, nothing lost; {waits} reports waited to be admitted, up to {:.0} s",
            moved.reports.longest_wait()
        ),
        _ => format!("bellows        {}", describe_losses(moved)),
    });
    words.extend(compare_speed(alone, moved));
    words
}

fn describe_losses(outcome: &Outcome) -> String {
    let mut losses = Vec::new();
    if let Some(at) = outcome.redis.died_at {
        losses.push(format!("redis killed after {at:.0} s with {} keys", outcome.redis.keys));
    }
    let killed = outcome.reports.killed.len();
    if killed > 0 {
        losses.push(format!("{killed} of {} reports killed", Reports::ASKED));
    }
    if losses.is_empty() {
        losses.push(format!("{} pieces of work lost", outcome.lost()));
    }
    losses.join(", ")
}

/// Where the kernel alone did better, by more than noise; or that nobody can say.
fn compare_speed(alone: &Outcome, moved: &Outcome) -> Option<String> {
    let speed = moved.speed / alone.speed;
    if !(1.0 - ALIKE..=1.0 + ALIKE).contains(&speed) {
        return Some(format!(
            "speed          does not compare: under bellows the machine was {speed:.1} times as fast"
        ));
    }
    let mut better = Vec::new();
    let mut compare = |name: &str, alone: Option<f64>, moved: Option<f64>| {
        if let (Some(alone), Some(moved)) = (alone, moved)
            && alone < moved * (1.0 - ALIKE)
        {
            better.push(format!("{name} {moved:.0} ms against {alone:.0}"));
        }
    };
    compare("p99 of redis", alone.redis.p99_filling_ms(), moved.redis.p99_filling_ms());
    compare("p99 of the web", alone.web.latency_ms(99), moved.web.latency_ms(99));
    let freed = alone.redis.died_at.is_some();
    let (alone, moved) = (alone.packed.bytes, moved.packed.bytes);
    if moved < alone.scale(1.0 - ALIKE) {
        let why = if freed { ", where redis was dead" } else { "" };
        let (alone, moved) = (crate::live::mib(alone), crate::live::mib(moved));
        better.push(format!("{moved} compressed against {alone}{why}"));
    }
    (!better.is_empty()).then(|| format!("no better      than the kernel alone: {}", better.join(", ")))
}
