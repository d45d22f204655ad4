//! The first way: fixed limits, no agent.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::child::Job;
use crate::fill::{VALUE_BYTES, fill};
use crate::group::OwnGroup;
use crate::journal::Moves;
use crate::live::Live;
use crate::place::Place;
use crate::reader::{ReadFile, Reader};
use crate::redis::{self, Client};
use crate::report::Way;
use crate::{READER_FLOOR, REDIS_FLOOR};

/// Runs redis and the reader with the limits that the second way starts with.
pub(crate) fn run(place: &Place, file: &ReadFile) -> Result<Way> {
    println!("\nstatic: redis with memory.max = {REDIS_FLOOR}, beside it a reader with {READER_FLOOR}");
    let own = OwnGroup::make(place.cgroup.join("bellows-demo-static"))?;
    own.group().hand_on_controllers()?;
    let redis_group = own.group().make_limited_child("redis", REDIS_FLOOR)?;
    let reader_group = own.group().make_limited_child("reader", READER_FLOOR)?;

    file.forget()?;
    let passes = place.scratch.join("passes.static");
    let mut command = reader_group.command("sh".as_ref());
    command.args(file.loop_arguments()).stdin(Stdio::null()).stdout(File::create(&passes)?);
    let reader = Job::start("the reader", &mut command)?;

    let port = redis::find_port()?;
    let log = place.scratch.join("redis.static.log");
    let mut command = redis_group.command(&place.redis_server);
    command.args(redis::arguments(port)).current_dir(&place.scratch);
    let mut server = Job::start("redis-server", with_log(&mut command, &log)?)?;
    redis::await_server(&mut server, port, &log)?;

    let mut live = Live::new(port, own.group().clone(), redis_group, reader_group, None);
    live.look()?;
    let filled = fill(&place.redis_benchmark, port, &mut server, &mut live)?;
    live.look_now()?;
    let kept = match server.ended()? {
        Some(status) => {
            println!("redis-server is gone, {status}, with {} keys in it", filled.keys);
            0
        }
        // One that lives and does not answer serves nothing either.
        None => Client::connect(port).and_then(|mut c| c.count_served(VALUE_BYTES)).unwrap_or(0),
    };
    let last = live.last_in_use();
    let way = Way {
        kills: own.group().kills()?,
        lost: filled.keys.saturating_sub(kept),
        filled,
        moves: Moves::default(),
        granted: REDIS_FLOOR,
        used: last.used,
        reader: Reader::sum_up(live.reader_granted(), live.last().reader_used, &passes)?,
    };
    drop((server, reader));
    own.remove()?;
    Ok(way)
}

/// Sends output and errors of `command` to a file.
pub(crate) fn with_log<'a>(command: &'a mut Command, log: &std::path::Path) -> Result<&'a mut Command> {
    let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    Ok(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
}
