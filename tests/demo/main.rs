//! `bellows-demo`: six tenants on one budget, three times.
//!
//! ```text
//!   static limits   an equal share for each                           what most set today
//!   kernel alone    memory.low, cpu.weight, no limit but the budget   what the kernel can do by itself
//!   bellows         floor..ceiling for each, moved by the agent
//! ```
//!
//! Redis under redis-benchmark, nginx under visitors, zstd over logs, and three report jobs (stress-ng) whose memory comes and
//! goes: programs of Debian, none of them written for this. Each way is offered the same work at the same times. Every
//! figure is measured; the exit code is 0 only if what the last lines claim is true of this run.

mod agent;
mod compare;
mod http;
mod journal;
mod live;
mod pace;
mod pack;
mod place;
mod play;
mod reports;
mod rounds;
mod scenario;
mod screen;
mod stage;
mod verdict;
mod warm;
mod watch;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use bellows_tests::programs::group::Group;

use compare::Density;
use place::Place;
use play::{Props, play};
use scenario::{BUDGET, LENGTH, TENANTS};
use screen::{Screen, Style};
use stage::Way;

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

/// All ways, then the comparison; returns what is not as it should be.
fn show() -> Result<Vec<String>> {
    let place = Place::find()?;
    let mut screen = Screen::open();
    let title = screen.paint(Style::Bold, "bellows demo");
    screen.say(&format!(
        "{title}: {} tenants, {BUDGET} for all of them, {LENGTH} s in each of three ways (kernel: {})",
        TENANTS.len(),
        place.kind
    ));
    Group::at(place.cgroup.clone()).hand_on_controllers()?;
    screen.say("preparing: a web site, logs to compress, and the programs into the page cache");
    let props = Props { site: web::create_site(&place.scratch)?, logs: pack::create_logs(&place.scratch)? };
    warm::read_code(&place, &props)?;

    let fixed = play(&place, &props, &mut screen, Way::Static)?;
    let alone = play(&place, &props, &mut screen, Way::Kernel)?;
    let moved = play(&place, &props, &mut screen, Way::Bellows)?;
    let failures = verdict::failures(&fixed, &alone, &moved);
    let density = Density::of(&moved);
    let words = verdict::words(&fixed, &alone, &moved, density);
    let outcomes = [fixed, alone, moved];
    compare::print(&mut screen, &outcomes);
    compare::write(&place.out, &outcomes, density, &failures)?;
    screen.say("");
    for line in words {
        screen.say(&line);
    }
    if failures.is_empty() {
        let passed = screen.paint(Style::Green, "passed");
        screen.say(&format!(
            "\n{passed}: where static limits and the kernel alone lost work, bellows lost none"
        ));
    }
    Ok(failures)
}
