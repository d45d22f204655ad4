//! The flags of `bellows run` for what it is given by the piece.

use std::str::FromStr;

use bellows_policies::Resources;
use bellows_policies::units::Bytes;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
#[group(skip)]
pub(super) struct Flags {
    /// The most processes and threads that it has, its init included; within what its class allows [default: that].
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// The most of it that may be swapped out, 0 for nothing; within what its class allows [default: that].
    #[arg(long, value_name = "SIZE")]
    swap: Option<Bytes>,
    /// Its share of the disks beside others of its tenant, 1 to 10000 [default: its class's, or 100].
    #[arg(long, value_name = "N")]
    io_weight: Option<u32>,
    /// A line of io.max, for example "8:0 rbps=1048576 wiops=120"; within what its class allows; repeatable.
    #[arg(long, value_name = "LINE")]
    io_max: Vec<String>,
    /// The cpus that it runs on, for example 0-3,8 [default: all].
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes that it allocates from [default: all].
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The most huge pages of a size that it has, for example 2MB=64M; repeatable [default: as many as there are].
    #[arg(long, value_name = "PAGE=SIZE")]
    hugetlb: Vec<Hugetlb>,
}

impl Flags {
    /// What they ask for.
    pub(super) fn resources(self) -> Resources {
        let Self { pids, swap, io_weight, io_max, cpuset_cpus, cpuset_mems, hugetlb } = self;
        let hugetlb = hugetlb.into_iter().map(|Hugetlb(page, most)| (page, most)).collect();
        Resources { pids, swap, io_weight, io_max, cpuset_cpus, cpuset_mems, hugetlb }
    }
}

/// The most huge pages of a size.
#[derive(Debug, Clone)]
pub(super) struct Hugetlb(pub(super) String, pub(super) Bytes);

impl FromStr for Hugetlb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (page, most) = text.split_once('=').ok_or("expected PAGE=SIZE, for example 2MB=64M")?;
        Ok(Self(page.to_owned(), most.parse().map_err(|e| format!("{e}"))?))
    }
}
