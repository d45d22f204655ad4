//! What a guest is to become: written into its initramfs by the host, read by init. In a file rather than on the
//! kernel's command line, which has no good quoting for paths.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Name of the file in the initramfs.
pub const PLAN_FILE: &str = "plan";
/// Directory of the modules in the initramfs; they are loaded in the order of their names.
pub const MODULES_DIR: &str = "modules";
/// Tag of the 9p share of the host's root.
pub const ROOT_TAG: &str = "hostroot";
/// Tag of the 9p share of [`Plan::share`].
pub const SHARE_TAG: &str = "share";
/// Name of the control port, on which orders arrive.
pub const CONTROL_PORT: &str = "control";
/// Serial of the disk that is mounted at [`SCRATCH`].
pub const SCRATCH_DISK: &str = "scratch";
/// Serial of the disk that is swapped to.
pub const SWAP_DISK: &str = "swap";
/// `$BELLOWS_SCRATCH` in a guest.
pub const SCRATCH: &str = "/scratch";
/// `$BELLOWS_CGROUP` in a guest.
pub const CGROUP: &str = "/sys/fs/cgroup";

/// What differs between guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The shared directory, see [`job`](super::job).
    pub share: PathBuf,
    /// Whether there is a network card.
    pub has_network: bool,
    /// Whether there is a disk for swap.
    pub has_swap: bool,
}

impl Plan {
    /// As text.
    pub fn encode(&self) -> Result<String> {
        let share = self.share.to_str().context("the path of the run directory is not UTF-8")?;
        Ok(format!("network={}\nswap={}\nshare={share}", self.has_network, self.has_swap))
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(text: &str) -> Result<Self> {
        // The share is last: only it may contain whatever a path may.
        let fields = text.splitn(3, '\n').filter_map(|line| line.split_once('=')).collect::<Vec<_>>();
        match *fields {
            [("network", network), ("swap", swap), ("share", share)] => {
                Ok(Self { share: share.into(), has_network: network.parse()?, has_swap: swap.parse()? })
            }
            _ => bail!("`{text}` is no plan of a guest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_survives_its_encoding() {
        let plan = Plan { share: "/a b=c\nd/e".into(), has_network: true, has_swap: false };
        assert_eq!(Plan::decode(&plan.encode().unwrap()).unwrap(), plan);
        assert!(Plan::decode("swap=true").is_err());
    }
}
