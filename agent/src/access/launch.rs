//! What a tenant's caller may have started: the whole box, and nothing of the host but what its tenant was given.

use std::path::Path;

use bellows_policies::units::Bytes;

use super::lists::TenantCallers;
use super::rights::{Need, Rights};
use crate::workload::change::{Change, Setting};
use crate::workload::isolation::{Isolation, Mount, Resource, Root};
use crate::workload::life::{Life, LogBounds};
use crate::workload::spec::{Asked, Name, Spec};
use crate::workload::walls;

/// Arguments and environment of a command: kept on disk for a detached one.
const COMMAND: usize = 256 * 1024;
/// In so many words: each is looked at by the control loop.
const WORDS: usize = 4096;
/// The log of a workload, in all its files: as without flags.
const LOG: Bytes = Bytes::mib(4);
/// Why a line of `io.max` is refused.
const DEVICES: &str = "--io-max is refused: the devices of the host are an operator's";
/// Limits by which real-time scheduling can be had, which no cpu quota bounds.
const REALTIME: [Resource; 2] = [Resource::Rtprio, Resource::Nice];

impl Rights {
    /// Whether this may be started, by itself or in place of another; or why not, and what to do. `spec` is sound otherwise.
    pub fn may_launch(&self, spec: &Spec<Asked>) -> Result<(), String> {
        let Asked { tenant, class, .. } = &spec.identity;
        self.may(Need::Act, Some(tenant.as_str()))?;
        let Some(own) = self.own(tenant.as_str()).filter(|_| !self.is_operator()) else { return Ok(()) };
        let problem = class_problem(class.as_ref(), &own.terms)
            .or_else(|| box_problem(&spec.isolation, &own.terms))
            .or_else(|| life_problem(&spec.life))
            .or_else(|| {
                let names_a_device = !spec.identity.resources.io_max.is_empty();
                names_a_device.then(|| DEVICES.to_owned())
            })
            .or_else(|| {
                let words = spec.argv.len() + spec.env.len();
                (words > WORDS)
                    .then(|| format!("a command and an environment of {words} words are more than {WORDS}"))
            })
            .or_else(|| {
                let size: usize = spec.argv.iter().chain(&spec.env).map(String::len).sum();
                (size > COMMAND)
                    .then(|| format!("a command and an environment of {size} bytes are more than {COMMAND}"))
            });
        problem.map_or(Ok(()), |text| Err(format!("{text} (for the callers of {tenant})")))
    }

    /// Whether a workload of `tenant` may be governed otherwise by this.
    pub fn may_change(&self, tenant: &Name, change: &Change) -> Result<(), String> {
        let Some(own) = self.own(tenant.as_str()).filter(|_| !self.is_operator()) else { return Ok(()) };
        // It counts beside those of other tenants, too.
        if matches!(change.weight, Some(Setting::Own(_))) {
            return Err("only operators may give a workload a weight of its own".to_owned());
        }
        if matches!(change.io_max, Some(Setting::Own(_))) {
            return Err(DEVICES.to_owned());
        }
        class_problem(change.class.as_ref(), &own.terms).map_or(Ok(()), Err)
    }

    /// How many workloads a tenant may have, where this caller is bound by that.
    #[must_use]
    pub fn most_workloads(&self, tenant: &str) -> Option<usize> {
        self.own(tenant).filter(|_| !self.is_operator()).map(|own| own.terms.workloads)
    }
}

fn class_problem(class: Option<&Name>, terms: &TenantCallers) -> Option<String> {
    let class = class.filter(|class| !terms.classes.contains(class))?;
    let names: Vec<&str> = terms.classes.iter().map(Name::as_str).collect();
    let instead = if names.is_empty() {
        "leave --class out, and policies say it".to_owned()
    } else {
        format!("leave --class out, or ask for one of {}", names.join(", "))
    };
    Some(format!("the class {class} is refused: {instead}"))
}

fn box_problem(isolation: &Isolation, terms: &TenantCallers) -> Option<String> {
    if !walls::are_whole(isolation) {
        let text = "its box has to be whole: --isolation tenant, without --cap-add, namespaces that are not its own, --seccomp false, --no-new-privs false, --nested";
        return Some(text.to_owned());
    }
    let root = match &isolation.root {
        Root::Host => None,
        Root::Directory { path, .. } => Some(path),
    };
    let sources = isolation.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind { source, .. } => Some(source),
        Mount::Tmpfs { .. } => None,
    });
    // No part of it may be a link, which whoever opens it makes sure of: so the path says where it leads.
    let is_given = |path: &str| terms.directories.iter().any(|given| Path::new(path).starts_with(given));
    if let Some(path) = root.into_iter().chain(sources).find(|path| !is_given(path)) {
        let given: Vec<String> = terms.directories.iter().map(|given| given.display().to_string()).collect();
        let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
        return Some(format!("{path} of the host is refused: what may be mounted is what is in {given}"));
    }
    let limit =
        isolation.rlimits.iter().find(|limit| REALTIME.contains(&limit.resource) && limit.hard != Some(0))?;
    Some(format!("a limit of {} is refused: no cpu quota bounds what it allows", limit.resource))
}

fn life_problem(life: &Life) -> Option<String> {
    if life.journal {
        return Some("the system's journal is refused: it is the host's".to_owned());
    }
    let LogBounds { bytes, files } = life.log;
    let whole = Bytes(bytes.0.saturating_mul(u64::from(files)));
    (whole > LOG).then(|| format!("a log of {whole} is refused: {LOG} at most, in all its files"))
}

#[cfg(test)]
mod tests {
    use super::super::rights::Access;
    use super::*;
    use crate::workload::isolation::Whose;

    const LISTS: &str = r#"
        operators = { users = [10] }
        [tenants]
        acme = { users = [20], directories = ["/srv/acme"], classes = ["batch"] }
        bare = { users = [20] }
    "#;

    type Alter = fn(&mut Spec<Asked>);

    fn spec(change: impl FnOnce(&mut Spec<Asked>)) -> Spec<Asked> {
        let identity = serde_json::from_str(r#"{"tenant":"acme","name":"x"}"#).unwrap();
        let (isolation, life) = (Isolation::tenant(), Life::default());
        let mut spec = Spec {
            identity,
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            isolation,
            life,
        };
        change(&mut spec);
        spec
    }

    fn bind(source: &str) -> Mount {
        Mount::Bind { source: source.to_owned(), target: "/data".to_owned(), writable: true }
    }

    /// As a tenant who wants out.
    #[test]
    fn a_tenant_asks_for_the_whole_box_and_its_own_directories() {
        let access = Access::new(&toml::from_str(LISTS).unwrap()).unwrap();
        let said = |user: u32, change: Alter| {
            let spec = spec(change);
            assert_eq!(spec.problem(), None);
            access.rights(user, &[]).may_launch(&spec).err().unwrap_or_default()
        };
        let root = |path: &str| Root::Directory { path: path.to_owned(), upper: None };
        let allowed: [Alter; 9] = [
            |_| {},
            |s| s.isolation.mounts = vec![bind("/srv/acme/data"), bind("/srv/acme")],
            |s| {
                s.isolation.root =
                    Root::Directory { path: "/srv/acme/root".to_owned(), upper: Some(Bytes::MIB) };
            },
            |s| s.identity.class = "batch".parse().ok(),
            |s| s.isolation.capabilities = Some(Vec::new()),
            |s| s.isolation.user = Some("web".to_owned()),
            |s| (s.identity.resources.pids, s.identity.resources.swap) = (Some(9), Some(Bytes(0))),
            |s| {
                s.isolation.rlimits =
                    serde_json::from_str(r#"[{"resource":"nofile","soft":10,"hard":20}]"#).unwrap();
            },
            |s| {
                s.isolation.rlimits =
                    serde_json::from_str(r#"[{"resource":"rtprio","soft":0,"hard":0}]"#).unwrap();
            },
        ];
        for change in allowed {
            assert_eq!(said(20, change), "");
            assert_eq!(said(10, change), "");
        }
        let refused: [(Alter, &str); 27] = [
            (|s| s.isolation = Isolation::default(), "--isolation tenant"),
            (|s| s.isolation.namespaces.user = Whose::Host, "has to be whole"),
            (|s| s.isolation.namespaces.net = Whose::Host, "has to be whole"),
            (|s| s.isolation.namespaces.net = Whose::Join("/run/netns/a".to_owned()), "has to be whole"),
            (|s| s.isolation.namespaces.ipc = Whose::Join("/run/ipc".to_owned()), "has to be whole"),
            (|s| s.isolation.namespaces.uts = Whose::Join("/run/uts".to_owned()), "has to be whole"),
            (|s| s.isolation.namespaces.user = Whose::Join("/run/user".to_owned()), "has to be whole"),
            (|s| s.isolation.namespaces.pid = Whose::Host, "has to be whole"),
            (|s| s.isolation.namespaces.mount = Whose::Join("/run/mnt".to_owned()), "has to be whole"),
            (|s| s.isolation.namespaces.time = Whose::Join("/run/time".to_owned()), "has to be whole"),
            (|s| s.isolation.seccomp = false, "has to be whole"),
            (|s| s.isolation.nested = true, "has to be whole"),
            (|s| s.isolation.no_new_privs = false, "has to be whole"),
            (|s| s.isolation.capabilities = None, "has to be whole"),
            (|s| s.isolation.capabilities = Some(vec!["sys_admin".parse().unwrap()]), "has to be whole"),
            (|s| s.isolation.mounts = vec![bind("/etc")], "/etc of the host is refused"),
            (|s| s.isolation.mounts = vec![bind("/srv/acme2")], "/srv/acme2 of the host"),
            (|s| s.isolation.mounts = vec![bind("/srv")], "/srv of the host"),
            (|s| s.isolation.mounts = vec![bind("/srv/acme/ok"), bind("//etc/")], "//etc/ of the host"),
            (|s| s.identity.class = "latency".parse().ok(), "leave --class out, or ask for one of batch"),
            (|s| s.identity.resources.io_max = vec!["8:0 rbps=1".to_owned()], "--io-max is refused"),
            (|s| s.life.log.files = 100, "a log of 100 MiB is refused"),
            (|s| s.life.journal = true, "the system's journal is refused"),
            (|s| s.env = vec![format!("A={}", "x".repeat(COMMAND))], "bytes are more than"),
            (|s| s.env = vec!["A=".to_owned(); WORDS], "4097 words are more than"),
            (
                |s| s.isolation.rlimits = serde_json::from_str(r#"[{"resource":"rtprio"}]"#).unwrap(),
                "a limit of rtprio is refused",
            ),
            (
                |s| {
                    s.isolation.rlimits =
                        serde_json::from_str(r#"[{"resource":"nice","soft":1,"hard":40}]"#).unwrap();
                },
                "a limit of nice is refused",
            ),
        ];
        for (change, text) in refused {
            let said_to = said(20, change);
            assert!(
                said_to.contains(text) && said_to.ends_with("(for the callers of acme)"),
                "{text}: {said_to}"
            );
            assert_eq!(said(10, change), "", "an operator may");
        }
        let mut other = spec(|s| s.isolation.root = root("/srv/acme"));
        other.identity.tenant = "bare".parse().unwrap();
        assert!(access.rights(20, &[]).may_launch(&other).unwrap_err().contains("what is in nothing"));
        other.identity.tenant = "default".parse().unwrap();
        assert!(access.rights(20, &[]).may_launch(&other).unwrap_err().contains("act for acme, bare"));
    }

    #[test]
    fn a_tenant_changes_bounds_and_no_weights() {
        let access = Access::new(&toml::from_str(LISTS).unwrap()).unwrap();
        let acme = "acme".parse().unwrap();
        let may = |user: u32, text: &str| {
            access.rights(user, &[]).may_change(&acme, &serde_json::from_str(text).unwrap()).is_ok()
        };
        for (text, is_allowed) in [
            (r#"{"memory":{"own":{"floor":1048576,"ceiling":2097152}}}"#, true),
            (r#"{"class":"batch"}"#, true),
            (r#"{"weight":"class"}"#, true),
            (r#"{"class":"latency"}"#, false),
            (r#"{"weight":{"own":10000}}"#, false),
            (r#"{"cpuset_cpus":{"own":"0"},"io_weight":{"own":5},"io_max":"class"}"#, true),
            (r#"{"io_max":{"own":["8:0 rbps=1"]}}"#, false),
        ] {
            assert_eq!(may(20, text), is_allowed, "{text}");
            assert!(may(10, text), "{text}");
        }
    }
}
