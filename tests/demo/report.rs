//! The comparison, for people and as `demo.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use serde_json::{Value, json};

use crate::READER_FLOOR;
use crate::fill::Filled;
use crate::journal::Moves;
use crate::live::mib;
use crate::reader::Reader;

/// What was measured in one way.
#[derive(Debug)]
pub(crate) struct Way {
    /// OOM kills.
    pub(crate) kills: u64,
    /// Keys that were acknowledged and are not served any more.
    pub(crate) lost: u64,
    /// The load.
    pub(crate) filled: Filled,
    /// How the limits of redis moved.
    pub(crate) moves: Moves,
    /// What redis was granted at the end of its life, or of the load.
    pub(crate) granted: Bytes,
    /// What it used then.
    pub(crate) used: Bytes,
    /// The tenant beside it.
    pub(crate) reader: Reader,
}

/// Prints both ways side by side.
pub(crate) fn print(fixed: &Way, moved: &Way) {
    let (fixed_rows, moved_rows) = (rows(fixed), rows(moved));
    println!("\n{:<34}  {:>20}  {:>20}", "", "static", "bellows");
    for ((name, left), (_, right)) in fixed_rows.iter().zip(&moved_rows) {
        println!("{name:<34}  {left:>20}  {right:>20}");
    }
    println!();
}

/// Writes `demo.json`.
pub(crate) fn write(out: &Path, fixed: &Way, moved: &Way) -> Result<()> {
    let path = out.join("demo.json");
    let figures = json!({ "static": figures(fixed), "bellows": figures(moved) });
    fs::write(&path, format!("{figures:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

fn rows(way: &Way) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"));
    let time =
        |percent| way.moves.wake_to_write_us(percent).map_or_else(|| "-".to_owned(), |us| format!("{us} us"));
    let reader = &way.reader;
    vec![
        ("OOM kills", way.kills.to_string()),
        ("requests done", way.filled.requests.to_string()),
        ("work kept: keys still served", (way.filled.keys.saturating_sub(way.lost)).to_string()),
        ("work lost: keys gone", way.lost.to_string()),
        ("requests/s", number(way.filled.requests_per_s())),
        ("p99 of the worst round, ms", number(way.filled.p99_ms())),
        ("limits moved", way.moves.count.to_string()),
        ("grows of the limit (n)", way.moves.grows().to_string()),
        ("  wake to write, p50", time(50)),
        ("  wake to write, p99", time(99)),
        ("granted / used", format!("{} / {}", mib(way.granted), mib(way.used))),
        ("reader: granted / floor", format!("{} / {}", mib(reader.granted), mib(READER_FLOOR))),
        (
            "reader: granted, median / peak",
            format!("{} / {}", mib(reader.granted_median), mib(reader.granted_peak)),
        ),
        ("reader: times through its file", reader.passes.to_string()),
    ]
}

fn figures(way: &Way) -> Value {
    let mib = |bytes: Bytes| bytes.0 as f64 / Bytes::MIB.0 as f64;
    json!({
        "kills": way.kills,
        "lost": way.lost,
        "work_done": way.filled.requests,
        "requests_per_s": way.filled.requests_per_s(),
        "p99_ms": way.filled.p99_ms(),
        "limits_moved": way.moves.count,
        "wake_to_write_p50_us": way.moves.wake_to_write_us(50),
        "wake_to_write_p99_us": way.moves.wake_to_write_us(99),
        "granted_mib": mib(way.granted),
        "used_mib": mib(way.used),
        "reader": {
            "floor_mib": mib(READER_FLOOR),
            "granted_mib": mib(way.reader.granted),
            "granted_median_mib": mib(way.reader.granted_median),
            "granted_peak_mib": mib(way.reader.granted_peak),
            "used_mib": mib(way.reader.used),
            "passes": way.reader.passes,
        },
    })
}
