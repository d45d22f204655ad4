//! The comparison, for people and as `demo.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use serde_json::{Value, json};

use crate::live::mib;
use crate::play::Outcome;
use crate::reports::Reports;
use crate::rounds::Served;
use crate::scenario::{BUDGET, LENGTH, PACK, TENANTS, admitted_at_peak};
use crate::screen::{Screen, Style};
use crate::web::Visitors;

/// What limits at everybody's peak would do to this budget. The peaks are those seen under bellows, where page cache that
/// serves nobody does not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Density {
    /// All peaks together.
    pub(crate) peaks: Bytes,
    /// Tenants that would be admitted at most.
    pub(crate) admitted: usize,
}

impl Density {
    /// By the peaks of one way.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let peaks = outcome.peaks.iter().fold(Bytes::ZERO, |sum, &peak| sum.saturating_add(peak));
        Self { peaks, admitted: admitted_at_peak(BUDGET, &outcome.peaks) }
    }
}

/// Prints all ways side by side.
pub(crate) fn print(screen: &mut Screen, outcomes: &[Outcome]) {
    let head: String = cells(outcomes.iter().map(|outcome| outcome.way.to_string()));
    let head =
        screen.paint(Style::Bold, &format!("\n{:<43}{head}", format!("{LENGTH} s of work each, {BUDGET}")));
    screen.say(&head);
    let all: Vec<Vec<(String, String)>> = outcomes.iter().map(rows).collect();
    for (at, (name, _)) in all[0].iter().enumerate() {
        screen.say(&format!("{name:<43}{}", cells(all.iter().map(|rows| rows[at].1.clone()))));
    }
}

/// Writes `demo.json`.
pub(crate) fn write(out: &Path, outcomes: &[Outcome], density: Density, failures: &[String]) -> Result<()> {
    let path = out.join("demo.json");
    let mut all: serde_json::Map<String, Value> =
        outcomes.iter().map(|outcome| (outcome.way.key().to_owned(), figures(outcome))).collect();
    let whole = json!({
        "passed": failures.is_empty(),
        "failures": failures,
        "budget_mib": size(BUDGET),
        "tenants": TENANTS.len(),
        "sum_of_peaks_mib": size(density.peaks),
        "tenants_admitted_with_static_limits_at_peak": density.admitted,
        "seconds_of_work": LENGTH,
    });
    if let Value::Object(more) = whole {
        all.extend(more);
    }
    let text = format!("{:#}\n", Value::Object(all));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A row of the table without its name.
fn cells(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("{text:>19}")).collect::<Vec<_>>().concat()
}

fn rows(outcome: &Outcome) -> Vec<(String, String)> {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    let seconds = |s: f64| if s > 0.0 { format!("{s:.1} s") } else { "-".to_owned() };
    let us = |percent| match outcome.moves.wake_to_write_us(percent) {
        Some(us) => format!("{us} us"),
        None => "-".to_owned(),
    };
    let (up, down) = outcome.moves.quotas;
    let raised = outcome.moves.grows() as u64;
    let redis = &outcome.redis;
    let rows = [
        ("OOM kills".to_owned(), outcome.kills.to_string()),
        ("work lost (requests, keys, reports)".to_owned(), outcome.lost().to_string()),
        (format!("redis: requests served, of {}", Served::OFFERED), redis.requests.to_string()),
        (
            "  keys that were stored and are gone".to_owned(),
            redis.keys.saturating_sub(redis.kept).to_string(),
        ),
        ("  p99 latency while filled, median round".to_owned(), ms(redis.p99_filling_ms())),
        ("  p99 latency, worst round".to_owned(), ms(redis.p99_worst_ms())),
        (format!("web: requests served, of {}", Visitors::offered()), outcome.web.served().to_string()),
        ("  p50 latency".to_owned(), ms(outcome.web.latency_ms(50))),
        ("  p99 latency".to_owned(), ms(outcome.web.latency_ms(99))),
        (format!("reports finished, of {}", Reports::ASKED), outcome.reports.finished.to_string()),
        ("  the slowest of these".to_owned(), seconds(outcome.reports.slowest)),
        ("  of that, waiting to be admitted".to_owned(), seconds(outcome.reports.longest_wait())),
        ("archive: logs compressed".to_owned(), mib(outcome.packed.bytes)),
        (
            format!("  granted half of the time, floor {}", TENANTS[PACK].floor),
            mib(outcome.packed.granted_median),
        ),
        ("cpu quotas raised / lowered".to_owned(), format!("{up} / {down}")),
        ("memory limits raised / lowered".to_owned(), format!("{raised} / {}", outcome.moves.count - raised)),
        ("  from wake-up to write, p50".to_owned(), us(50)),
        ("  from wake-up to write, p99".to_owned(), us(99)),
        ("speed of the machine, steps per us of cpu".to_owned(), format!("{:.0}", outcome.speed)),
    ];
    rows.into()
}

/// The first demo's names, and more.
fn figures(outcome: &Outcome) -> Value {
    let (redis, packed, reports) = (&outcome.redis, &outcome.packed, &outcome.reports);
    let peaks: serde_json::Map<String, Value> = TENANTS
        .iter()
        .zip(&outcome.peaks)
        .map(|(tenant, &peak)| (tenant.path(), json!(size(peak))))
        .collect();
    json!({
        "kills": outcome.kills,
        "lost": outcome.lost(),
        "work_done": redis.requests,
        "requests_per_s": redis.requests_per_s(),
        "p99_ms": redis.p99_worst_ms(),
        "limits_moved": outcome.moves.count,
        "quotas_moved": outcome.moves.quotas.0 + outcome.moves.quotas.1,
        "wake_to_write_p50_us": outcome.moves.wake_to_write_us(50),
        "wake_to_write_p99_us": outcome.moves.wake_to_write_us(99),
        "granted_mib": size(outcome.redis_in_use.granted.min(BUDGET)),
        "used_mib": size(outcome.redis_in_use.used),
        "reader": {
            "floor_mib": size(TENANTS[PACK].floor),
            "granted_mib": size(packed.granted.min(BUDGET)),
            "granted_median_mib": size(packed.granted_median.min(BUDGET)),
            "granted_peak_mib": size(packed.granted_peak.min(BUDGET)),
            "used_mib": size(packed.used),
            "passes": packed.passes(),
        },
        "seconds": outcome.seconds,
        "redis": {
            "offered": Served::OFFERED,
            "served": redis.requests,
            "keys": redis.keys,
            "keys_kept": redis.kept,
            "lost": redis.lost(),
            "died_at_s": redis.died_at,
            "p99_filling_median_round_ms": redis.p99_filling_ms(),
            "p99_worst_round_ms": redis.p99_worst_ms(),
        },
        "web": {
            "offered": Visitors::offered(),
            "served": outcome.web.served(),
            "lost": outcome.web.lost(),
            "p50_ms": outcome.web.latency_ms(50),
            "p99_ms": outcome.web.latency_ms(99),
        },
        "reports": {
            "asked": Reports::ASKED,
            "finished": reports.finished,
            "killed": reports.killed.len(),
            "lost": reports.lost(),
            "slowest_s": reports.slowest,
            "longest_wait_s": reports.longest_wait(),
        },
        "archive": { "compressed_mib": size(packed.bytes) },
        "machine_speed": outcome.speed,
        "peaks_mib": peaks,
    })
}

fn size(bytes: Bytes) -> f64 {
    (bytes.0 as f64 / Bytes::MIB.0 as f64 * 10.0).round() / 10.0
}
