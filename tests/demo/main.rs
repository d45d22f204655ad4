//! `bellows-demo`: the same redis, filled the same way, twice.
//!
//! ```text
//!   static   memory.max = 64 MiB, as an operator would set it   way_static
//!   bellows  64 MiB..1 GiB, moved by the agent                   way_bellows
//! ```
//!
//! Beside redis, both times, a second tenant reads a file many times larger than its limit: page cache, which the
//! agent must not take for need. Every figure is measured; the exit code is 0 only if the static way lost its work,
//! the agent lost nothing, and the reader was not inflated.

mod child;
mod fill;
mod forward;
mod group;
mod http;
mod journal;
mod live;
mod place;
mod reader;
mod redis;
mod report;
mod warm;
mod way_bellows;
mod way_static;

use std::process::ExitCode;

use anyhow::Result;
use bellows_policies::units::Bytes;

use place::Place;
use report::Way;

/// Where redis starts, and in the static way what it has to do with.
pub(crate) const REDIS_FLOOR: Bytes = Bytes::mib(64);
/// What the agent may grant redis.
pub(crate) const REDIS_CEILING: Bytes = Bytes::mib(1024);
/// Where the reader starts, and in the static way what it has to do with.
pub(crate) const READER_FLOOR: Bytes = Bytes::mib(48);
/// What the agent may grant the reader, and must not.
pub(crate) const READER_CEILING: Bytes = Bytes::mib(512);

fn main() -> ExitCode {
    match show() {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            for failure in failures {
                eprintln!("bellows-demo: FAILED: {failure}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bellows-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Both ways, then the comparison; returns what is not as it should be.
fn show() -> Result<Vec<String>> {
    let place = Place::find()?;
    println!("bellows demo, kernel: {}", place.kind);
    group::Group::at(place.cgroup.clone()).hand_on_controllers()?;
    println!("preparing: {} for the reader, redis-server into the page cache", reader::FILE);
    warm::read_code(&place)?;
    let file = reader::ReadFile::create(&place.scratch)?;
    let fixed = way_static::run(&place, &file)?;
    let moved = way_bellows::run(&place, &file)?;
    report::print(&fixed, &moved);
    report::write(&place.out, &fixed, &moved)?;
    let failures = judge(&fixed, &moved);
    if failures.is_empty() {
        println!(
            "passed: the static limit lost the work, bellows kept all of it, the reader got no more for its cache"
        );
    }
    Ok(failures)
}

fn judge(fixed: &Way, moved: &Way) -> Vec<String> {
    let served = moved.filled.keys.saturating_sub(moved.lost);
    let conditions = [
        (
            fixed.kills > 0 || fixed.lost > 0,
            format!("static: redis survived {} requests within {REDIS_FLOOR}", fixed.filled.requests),
        ),
        (moved.kills == 0, format!("bellows: {} OOM kills", moved.kills)),
        (
            moved.lost == 0,
            format!("bellows: of {} acknowledged keys only {served} are served", moved.filled.keys),
        ),
        (
            moved.filled.end == fill::End::Done,
            format!(
                "bellows: redis {} after {} of {} requests",
                moved.filled.end,
                moved.filled.requests,
                fill::REQUESTS
            ),
        ),
        (
            moved.filled.are_keys_plausible(),
            format!(
                "bellows: {} requests made only {} distinct keys",
                moved.filled.requests, moved.filled.keys
            ),
        ),
        (
            !moved.reader.is_inflated(),
            format!(
                "bellows: the reader was inflated: granted {} at the end, {} half of the time, from a floor of \
                 {READER_FLOOR}",
                moved.reader.granted, moved.reader.granted_median
            ),
        ),
        (
            moved.reader.has_read(),
            format!("bellows: the reader did not fill its {READER_FLOOR}, so it proves nothing"),
        ),
    ];
    conditions.into_iter().filter_map(|(is_met, failure)| (!is_met).then_some(failure)).collect()
}
