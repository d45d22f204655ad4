//! What the run showed, in words, and whether it showed what the demo claims.

use crate::compare::Density;
use crate::play::Outcome;
use crate::reports::Reports;
use crate::scenario::{BUDGET, PACK, REPORTS, TENANTS};
use crate::stage::{Way, share};

/// Two figures nearer than this are alike on a machine that does other things too.
const ALIKE: f64 = 0.1;

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
            format!("bellows: {} requests made only {} distinct keys", moved.redis.requests, moved.redis.keys),
        ),
        (moved.web.lost() == 0, format!("bellows: the web server did not serve {} requests", moved.web.lost())),
        (moved.reports.lost() == 0, format!("bellows: {} reports were not finished", moved.reports.lost())),
        (
            packed.has_read(),
            format!("bellows: the archive job compressed {} only, which proves nothing", packed.bytes),
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
    let mut words = vec![
        format!(
            "density         {count} tenants ran on {BUDGET}. Limits at their peaks add up to {}: at most {} of the \
             {count} would be admitted.",
            crate::live::mib(density.peaks),
            density.admitted
        ),
        format!("static limits   {}", describe_losses(fixed, &format!("{} each were too little", share()))),
        format!("kernel alone    {}", describe_losses(alone, "everybody fits until the peaks meet")),
    ];
    let waits = moved.reports.waited.len();
    words.push(match moved.lost() + moved.kills {
        0 => format!(
            "bellows         nobody was killed, nothing was lost: {waits} reports waited to be admitted, up to {:.0} s.",
            moved.reports.longest_wait()
        ),
        _ => format!("bellows         {}", describe_losses(moved, "it should have lost nothing")),
    });
    let better = better_than_bellows(alone, moved);
    if !better.is_empty() {
        words.push(format!("no better       than the kernel alone, for as long as that lasted: {}.", better.join(", ")));
    }
    words
}

fn describe_losses(outcome: &Outcome, why: &str) -> String {
    let mut losses = Vec::new();
    if let Some(at) = outcome.redis.died_at {
        losses.push(format!("redis was killed after {at:.0} s, with {} keys", outcome.redis.keys));
    }
    let killed = &outcome.reports.killed;
    if !killed.is_empty() {
        let mut owners: Vec<&str> = killed.iter().map(|&(at, _)| TENANTS[REPORTS + at].owner).collect();
        owners.dedup();
        losses.push(format!("{} of {} reports were killed ({})", killed.len(), Reports::ASKED, owners.join(", ")));
    }
    if losses.is_empty() {
        losses.push(format!("{} pieces of work were lost", outcome.lost()));
    }
    format!("{why}: {}.", losses.join("; "))
}

/// Where the kernel alone did better, by more than noise.
fn better_than_bellows(alone: &Outcome, moved: &Outcome) -> Vec<String> {
    debug_assert!(alone.way == Way::Kernel && moved.way == Way::Bellows);
    let p99 = |outcome: &Outcome| outcome.redis.p99_ms().map(|(median, _)| median);
    let mut better = Vec::new();
    let mut compare = |name: &str, unit: &str, alone: Option<f64>, moved: Option<f64>| {
        if let (Some(alone), Some(moved)) = (alone, moved)
            && alone < moved * (1.0 - ALIKE)
        {
            better.push(format!("{name} {moved:.0} {unit} against {alone:.0}"));
        }
    };
    compare("p99 of redis", "ms", p99(alone), p99(moved));
    compare("p99 of the web server", "ms", alone.web.latency_ms(99), moved.web.latency_ms(99));
    let (alone, moved) = (alone.packed.bytes, moved.packed.bytes);
    if moved < alone.scale(1.0 - ALIKE) {
        better.push(format!("{moved} compressed against {alone}"));
    }
    better
}
