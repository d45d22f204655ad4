//! Where the demo runs: what the harness says in the environment, and the programs it needs.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bellows_tests::programs::{find_program, find_sibling};

/// Directories and programs.
#[derive(Debug)]
pub(crate) struct Place {
    /// A cgroup v2 directory to use as one's own root.
    pub(crate) cgroup: PathBuf,
    /// A directory on a disk.
    pub(crate) scratch: PathBuf,
    /// Where `demo.json` goes.
    pub(crate) out: PathBuf,
    /// What kind of kernel this is: native, kvm or tcg.
    pub(crate) kind: String,
    /// The agent's program.
    pub(crate) bellows: PathBuf,
    /// Debian's redis-server.
    pub(crate) redis_server: PathBuf,
    /// Debian's redis-benchmark.
    pub(crate) redis_benchmark: PathBuf,
    /// Debian's nginx.
    pub(crate) nginx: PathBuf,
    /// Debian's zstd.
    pub(crate) zstd: PathBuf,
    /// Debian's stress-ng.
    pub(crate) stress_ng: PathBuf,
}

impl Place {
    /// Looks everything up, so that what is missing is told before anything starts.
    pub(crate) fn find() -> Result<Self> {
        let dir = |name: &str| {
            env::var_os(name).map(PathBuf::from).filter(|path| path.is_dir()).with_context(|| {
                format!("${name} names no directory: start the demo by `make demo` or `bellows-kernel run -- bellows-demo`")
            })
        };
        Ok(Self {
            cgroup: dir("BELLOWS_CGROUP")?,
            scratch: dir("BELLOWS_SCRATCH")?,
            out: dir("BELLOWS_OUT")?,
            kind: env::var("BELLOWS_KERNEL_KIND").unwrap_or_else(|_| "unknown".to_owned()),
            bellows: find_sibling("bellows")?,
            redis_server: find_program("redis-server", "redis-server")?,
            redis_benchmark: find_program("redis-benchmark", "redis-tools")?,
            nginx: find_program("nginx", "nginx-light")?,
            zstd: find_program("zstd", "zstd")?,
            stress_ng: find_program("stress-ng", "stress-ng")?,
        })
    }
}
