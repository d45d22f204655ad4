//! Where the demo runs: what the harness says in the environment, and the programs it needs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where administration programs live; `PATH` may lack it.
const SBIN: &str = "/usr/sbin";

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

fn find_program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs = env::split_paths(&path).chain([PathBuf::from(SBIN)]);
    match dirs.find_map(|dir| Some(dir.join(name)).filter(|program| program.is_file())) {
        Some(program) => Ok(program),
        None => bail!("{name} is missing: apt-get install {package}"),
    }
}

fn find_sibling(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this executable")?;
    let sibling = own.parent().unwrap_or(Path::new("/")).join(name);
    if !sibling.is_file() {
        bail!("{} is missing: build it with `cargo build --release --workspace`", sibling.display());
    }
    Ok(sibling)
}
