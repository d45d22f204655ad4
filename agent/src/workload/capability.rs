//! Capabilities by name, in the kernel's order: linux/capability.h.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The n-th is capability n.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// What programs that expect to be root make use of inside a box; each acts on the box alone.
const TENANT: [&str; 12] = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "net_bind_service",
    "net_raw",
    "sys_chroot",
    "setfcap",
];

/// A capability, by its name without `cap_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(u8);

/// There is no such capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no capability: they are named as in capabilities(7), for example net_bind_service")]
pub struct CapabilityError(String);

impl Capability {
    /// Those that a workload of an untrusted tenant keeps.
    #[must_use]
    pub fn of_a_tenant() -> Vec<Self> {
        TENANT.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// All that there are.
    #[must_use]
    pub fn all() -> Vec<Self> {
        (0..).take(NAMES.len()).map(Self).collect()
    }

    /// Its bit in the kernel's sets.
    #[must_use]
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("cap_").unwrap_or(&lower);
        let number = NAMES.iter().position(|n| *n == name).and_then(|n| u8::try_from(n).ok());
        number.map(Self).ok_or_else(|| CapabilityError(text.to_owned()))
    }
}

impl TryFrom<String> for Capability {
    type Error = CapabilityError;

    fn try_from(text: String) -> Result<Self, CapabilityError> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.to_string()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[usize::from(self.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        assert_eq!("CAP_SYS_ADMIN".parse::<Capability>().unwrap().bit(), 1 << 21);
        assert_eq!("checkpoint_restore".parse::<Capability>().unwrap().bit(), 1 << 40);
        assert_eq!("mknod".parse::<Capability>().unwrap().to_string(), "mknod");
        assert!("root".parse::<Capability>().is_err());
        assert_eq!(Capability::of_a_tenant().len(), TENANT.len());
    }
}
