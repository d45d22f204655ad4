//! One agent with 1, 100 and 1000 workloads that sleep, each with bounds of memory and of its quota. Three cells share it,
//! since launches take longer than what is measured of them: what it costs while nothing happens (`idle`), what a tick of its
//! cpu loop costs (`tick`), and what a takeover does (`takeover`).

use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use crate::agent::{Agent, Range, Setup};
use crate::crew::{CEILING, FIRST_LIMIT};
use crate::idle;
use crate::reaction::MORE_THAN_THERE_IS;
use crate::report::Report;
use crate::tree::Place;
use crate::{takeover, tick};

/// Workloads at each stage.
const STAGES: [usize; 3] = [1, 100, 1000];
/// Launches are over, and what they left behind is done.
const SETTLE: Duration = Duration::from_secs(6);
/// Everybody has been at rest for so long, as far as the agent knows, that it looks at nobody more rarely after that.
const REST: Duration = Duration::from_secs(75);
/// Under its own defaults, but for the budget, which has to cover a thousand floors.
const SETUP: Setup = Setup { name: "scale", config: "", flags: MORE_THAN_THERE_IS };

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) idle: bool,
    pub(crate) cpu: bool,
    pub(crate) takeover: bool,
}

/// Measures what is wanted, into the report.
pub(crate) fn measure(place: &Place, wanted: Wanted, report: &mut Report) -> anyhow::Result<()> {
    let mut agent = Agent::start(place, &SETUP)?;
    let range = Range::of_memory(FIRST_LIMIT, CEILING)?.and_cpu("0.1..1")?;
    let mut launched = 0;
    let (&most, fewer) = STAGES.split_last().context("there are stages")?;
    let stages = if wanted.cpu || wanted.takeover { fewer } else { &[] };
    for &count in stages.iter().chain([&most]) {
        agent.launch_idle(launched..count, range).context("cannot start the sleepers")?;
        launched = count;
        sleep(SETTLE);
        if wanted.idle && count == most {
            sleep(REST);
            report.idle = Some(idle::watch(&agent, count)?);
            eprintln!("bellows-bench: {count} idle workloads: watched");
        }
        if wanted.cpu {
            tick::measure(&agent, &format!("idle_{count}"), &format!("{count} idle"), &mut report.cpu)?;
            if count == STAGES[0] {
                tick::with_hot_ones(&mut agent, &mut report.cpu)?;
            }
            eprintln!("bellows-bench: {count} idle workloads: ticks of the cpu loop");
        }
        if wanted.takeover {
            takeover::measure(&mut agent, count, &mut report.takeover)?;
            eprintln!("bellows-bench: {count} idle workloads: taken over");
        }
    }
    agent.stop()
}
