//! `bellows set`: changes what a running workload is governed by.

use std::process::ExitCode;

use bellows_policies::CpuBounds;
use bellows_policies::units::{Bounds, Bytes};
use clap::Args;

use super::order::Target;
use super::resources::Hugetlb;
use crate::workload::change::{Change, Setting};
use crate::workload::spec::Name;

/// What is not given stays. A value of the workload's own stays with it over reloads of policies and restarts of the agent;
/// `class` gives the value back to its class.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Wanted {
    /// Its class: latency, standard, batch, or one of the agent's policies.
    #[arg(long)]
    class: Option<Name>,
    /// Floor and ceiling of its memory limit, for example 64M..1G; within those of its class.
    #[arg(long, value_name = "FLOOR..CEILING|class")]
    memory: Option<Setting<Bounds>>,
    /// Floor and ceiling of its cpu quota, for example 0.1..2; only of a workload that was launched with a quota.
    #[arg(long, value_name = "FLOOR..CEILING|class")]
    cpu: Option<Setting<CpuBounds>>,
    /// Its share of memory and cpu beside others, from 1 to 10000.
    #[arg(long, value_name = "WEIGHT|class")]
    weight: Option<Setting<u32>>,
    /// The most processes and threads that it has; within what its class allows.
    #[arg(long, value_name = "N|class")]
    pids: Option<Setting<u64>>,
    /// The most of it that may be swapped out, 0 for nothing; within what its class allows.
    #[arg(long, value_name = "SIZE|class")]
    swap: Option<Setting<Bytes>>,
    /// Its share of the disks beside others of its tenant, 1 to 10000.
    #[arg(long, value_name = "N|class")]
    io_weight: Option<Setting<u32>>,
    /// A line of io.max, within what its class allows; repeatable: all that are its own.
    #[arg(long, value_name = "LINE|class")]
    io_max: Vec<Setting<String>>,
    /// The cpus that it runs on, for example 0-3,8; no class has any, so `class` is all.
    #[arg(long, value_name = "LIST|class")]
    cpuset_cpus: Option<Setting<String>>,
    /// The memory nodes that it allocates from, the same; what it has allocated moves there.
    #[arg(long, value_name = "LIST|class")]
    cpuset_mems: Option<Setting<String>>,
    /// The most huge pages of a size that it has, for example 2MB=64M; repeatable: all sizes that are bounded.
    #[arg(long, value_name = "PAGE=SIZE|class")]
    hugetlb: Vec<Setting<Hugetlb>>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    arguments.target.give("set", &arguments.wanted.change()).await
}

impl Wanted {
    fn change(self) -> Change {
        let Self { class, memory, cpu, weight, pids, swap, io_weight, cpuset_cpus, cpuset_mems, .. } = self;
        let (io_max, hugetlb) = (all(self.io_max), all(self.hugetlb));
        let hugetlb = hugetlb.map(|setting| match setting {
            Setting::Own(sizes) => {
                Setting::Own(sizes.into_iter().map(|Hugetlb(page, most)| (page, most)).collect())
            }
            Setting::Class => Setting::Class,
        });
        Change {
            class,
            memory,
            cpu,
            weight,
            pids,
            swap,
            io_weight,
            io_max,
            cpuset_cpus,
            cpuset_mems,
            hugetlb,
        }
    }
}

/// The values of a flag that may be given several times. Beside others `class` says nothing: what its class has holds besides.
fn all<T>(values: Vec<Setting<T>>) -> Option<Setting<Vec<T>>> {
    let is_asked = !values.is_empty();
    let own = |value| match value {
        Setting::Own(value) => Some(value),
        Setting::Class => None,
    };
    let own: Vec<T> = values.into_iter().filter_map(own).collect();
    is_asked.then(|| if own.is_empty() { Setting::Class } else { Setting::Own(own) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        wanted: Wanted,
    }

    #[test]
    fn what_is_named_several_times_is_set_whole() {
        let change = |text: &str| {
            let line = Line::try_parse_from(["set"].into_iter().chain(text.split('|')));
            line.map(|line| serde_json::to_string(&line.wanted.change()).unwrap())
        };
        for (flags, expected) in [
            (
                "--io-max|8:0 rbps=1|--io-max|8:16 wbps=2",
                r#"{"io_max":{"own":["8:0 rbps=1","8:16 wbps=2"]}}"#,
            ),
            ("--io-max|class", r#"{"io_max":"class"}"#),
            ("--io-max|class|--io-max|8:0 rbps=1", r#"{"io_max":{"own":["8:0 rbps=1"]}}"#),
            ("--hugetlb|2MB=4M|--hugetlb|1GB=0", r#"{"hugetlb":{"own":{"1GB":0,"2MB":4194304}}}"#),
            ("--hugetlb|class|--cpuset-cpus|class", r#"{"cpuset_cpus":"class","hugetlb":"class"}"#),
            ("--cpuset-cpus|0-3|--io-weight|7", r#"{"io_weight":{"own":7},"cpuset_cpus":{"own":"0-3"}}"#),
        ] {
            assert_eq!(change(flags).unwrap(), expected, "{flags}");
        }
        assert!(change("--hugetlb|64M").is_err());
    }
}
