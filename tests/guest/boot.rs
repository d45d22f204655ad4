//! What a guest is to become: written into its initramfs by the host, read by init. In a file rather than on the
//! kernel's command line, which has no good quoting for paths.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The shared directory, see [`job`](super::job).
    pub share: PathBuf,
    /// Whether there is a network card.
    pub has_network: bool,
    /// Whether there is a disk for swap.
    pub has_swap: bool,
    /// The directory of the host that is the guest's root, with systemd as PID 1; without one it is the host's own root.
    pub system: Option<PathBuf>,
    /// What of the host such a guest sees besides.
    pub shown: Vec<PathBuf>,
}

impl Plan {
    /// As text: lines with a NUL between them, which no path contains.
    pub fn encode(&self) -> Result<String> {
        let mut lines = vec![format!("network={}", self.has_network), format!("swap={}", self.has_swap)];
        let own = [Some(("share", &self.share)), self.system.as_ref().map(|path| ("system", path))];
        let shown = self.shown.iter().map(|path| ("show", path));
        for (key, path) in own.into_iter().flatten().chain(shown) {
            let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
            lines.push(format!("{key}={path}"));
        }
        Ok(lines.join("\0"))
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(text: &str) -> Result<Self> {
        let mut plan = Self::default();
        for line in text.split_terminator('\0') {
            match line.split_once('=') {
                Some(("network", value)) => plan.has_network = value.parse()?,
                Some(("swap", value)) => plan.has_swap = value.parse()?,
                Some(("share", path)) => plan.share = path.into(),
                Some(("system", path)) => plan.system = Some(path.into()),
                Some(("show", path)) => plan.shown.push(path.into()),
                _ => bail!("`{line}` is no part of a guest's plan"),
            }
        }
        ensure!(!plan.share.as_os_str().is_empty(), "`{text}` is no plan of a guest");
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_survives_its_encoding() {
        let plan = Plan { share: "/a b=c\nd/e".into(), has_network: true, ..Plan::default() };
        assert_eq!(Plan::decode(&plan.encode().unwrap()).unwrap(), plan);
        let plan = Plan { system: Some("/s".into()), shown: vec!["/a".into(), "/b".into()], ..plan };
        assert_eq!(Plan::decode(&plan.encode().unwrap()).unwrap(), plan);
        assert!(Plan::decode("swap=true").is_err());
        assert!(Plan::decode("share=/a\0other=1").is_err());
    }
}
