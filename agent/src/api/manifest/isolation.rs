//! The flags of a workload's box, of `bellows run` and, in the same words, of a manifest.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use bellows_policies::units::Bytes;
use clap::Args;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::workload::capability::Capability;
use crate::workload::isolation::{Isolation, Mount, Namespaces, Preset, Rlimit, Root, Whose};

/// A workload's box, as it is asked for on the command line.
#[derive(Debug, Default, Args, Deserialize, JsonSchema)]
#[command(next_help_heading = "Isolation")]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// How much of the machine it sees. `tenant` is the whole box: users, network and devices of its own, few capabilities, a
    /// seccomp filter, and the host's root file system read-only unless --rootfs names another.
    #[arg(long, value_enum, default_value_t)]
    #[serde(rename = "preset")]
    isolation: Preset,
    /// A directory that is its root file system, read-only. No part of the path may be a symbolic link.
    #[arg(long, value_name = "DIR")]
    rootfs: Option<String>,
    /// Let it write to its root file system, into a tmpfs of this size that ends with it.
    #[arg(long, value_name = "SIZE", requires = "rootfs")]
    #[serde(deserialize_with = "size")]
    #[schemars(with = "Option<String>")]
    overlay: Option<Bytes>,
    /// Mount a file or a directory of the host, read-only unless :rw; repeatable.
    #[arg(long, value_name = "SOURCE:TARGET[:rw]")]
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Vec<String>")]
    bind: Vec<Bind>,
    /// Mount a tmpfs; repeatable.
    #[arg(long, value_name = "TARGET:SIZE")]
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Vec<String>")]
    tmpfs: Vec<Tmpfs>,
    /// Its host name [default: its name].
    #[arg(long)]
    hostname: Option<String>,
    /// Its NIS domain name [default: `(none)`].
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Who its command is, by number or by a name of its root file system, in the groups that are listed there [default: root].
    #[arg(long, value_name = "WHO[:GROUP]")]
    user: Option<String>,
    /// Its network: `host`, `new` for a loopback device alone, or `join:PATH` for one that is there, as `ip netns add` makes them; no
    /// part of the path may be a symbolic link [default: as --isolation says].
    #[arg(long, value_name = "NET")]
    net: Option<Whose>,
    /// System V IPC and message queues: `new`, `host`, or `join:PATH` [default: new].
    #[arg(long, value_name = "IPC")]
    ipc: Option<Whose>,
    /// Host and domain name: `new`, or `host` or `join:PATH`, where they are as they are there [default: new].
    #[arg(long, value_name = "UTS")]
    uts: Option<Whose>,
    /// Its users: `host`, `new` for a range of its tenant's, or `join:PATH`, whose root it is then [default: as --isolation says].
    #[arg(long, value_name = "USERS")]
    userns: Option<Whose>,
    /// The processes that it sees: `new` for its own, or `host` or `join:PATH` for those of others, too [default: new].
    #[arg(long, value_name = "PID")]
    pid: Option<Whose>,
    /// Its mounts: `new`, or `join:PATH` with the root file system that is there [default: new].
    #[arg(long, value_name = "MOUNTS")]
    mount: Option<Whose>,
    /// What it sees as the root of all cgroups: `new` for its own, or `join:PATH` [default: new].
    #[arg(long, value_name = "CGROUP")]
    cgroup: Option<Whose>,
    /// Its monotonic and boot-time clocks: `host`, `new` for ones that begin with it, or `join:PATH` [default: host].
    #[arg(long, value_name = "TIME")]
    time: Option<Whose>,
    /// Let it have containers inside: cgroups, mounts and namespaces of its own, and all capabilities over them. Its limits stay out
    /// of its reach, but the wall is a smaller one. Needs --isolation tenant.
    #[arg(long)]
    nested: bool,
    /// Keep a capability that --isolation takes away, for example net_admin; repeatable.
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<Capability>,
    /// Take a capability away; repeatable.
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Capability>,
    /// Refuse system calls that only administrate a machine [default: as --isolation says].
    #[arg(long)]
    seccomp: Option<bool>,
    /// Let nothing that it executes gain rights, as set-user-ID programs do [default: as --isolation says].
    #[arg(long)]
    no_new_privs: Option<bool>,
    /// A limit of its processes, for example nofile=1024:4096; repeatable.
    #[arg(long, value_name = "RESOURCE=SOFT[:HARD]")]
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Vec<String>")]
    ulimit: Vec<Ulimit>,
    /// As in a spec: its root file system.
    #[arg(skip)]
    root: Option<Root>,
    /// As in a spec: what is mounted before what `bind` and `tmpfs` say.
    #[arg(skip)]
    mounts: Vec<Mount>,
    /// As in a spec: whose namespaces it is in, of those that are named.
    #[arg(skip)]
    #[schemars(extend("propertyNames" = { "enum": Namespaces::default().each().map(|(name, _)| name) }))]
    namespaces: BTreeMap<String, Whose>,
    /// As in a spec: the capabilities that are kept, instead of the preset's.
    #[arg(skip)]
    capabilities: Option<Vec<Capability>>,
    /// As in a spec: limits of its processes, besides what `ulimit` says.
    #[arg(skip)]
    rlimits: Vec<Rlimit>,
}

impl Flags {
    /// The box that they ask for.
    #[must_use]
    pub fn isolation(mut self) -> Isolation {
        let mut isolation = Isolation::of(self.isolation);
        if let Some(root) = self.root {
            isolation.root = root;
        }
        if let Some(path) = self.rootfs {
            isolation.root = Root::Directory { path, upper: self.overlay };
        }
        isolation.mounts = self.mounts;
        isolation.mounts.extend(self.bind.into_iter().map(|bind| bind.0));
        isolation.mounts.extend(self.tmpfs.into_iter().map(|tmpfs| tmpfs.0));
        isolation.hostname = self.hostname;
        isolation.domainname = self.domainname;
        isolation.user = self.user;
        isolation.nested = self.nested;
        let Namespaces { user, pid, mount, net, ipc, uts, cgroup, time } = &mut isolation.namespaces;
        for (name, whose, flag) in [
            ("user", user, self.userns),
            ("pid", pid, self.pid),
            ("mount", mount, self.mount),
            ("net", net, self.net),
            ("ipc", ipc, self.ipc),
            ("uts", uts, self.uts),
            ("cgroup", cgroup, self.cgroup),
            ("time", time, self.time),
        ] {
            if let Some(asked) = flag.or_else(|| self.namespaces.remove(name)) {
                *whose = asked;
            }
        }
        isolation.seccomp = self.seccomp.unwrap_or(isolation.seccomp);
        isolation.no_new_privs = self.no_new_privs.unwrap_or(isolation.no_new_privs);
        isolation.rlimits = self.rlimits;
        isolation.rlimits.extend(self.ulimit.into_iter().map(|ulimit| ulimit.0));
        // What runs in a nested one may have any.
        let preset = isolation.capabilities.filter(|_| !self.nested);
        isolation.capabilities = kept(self.capabilities.or(preset), &self.cap_add, &self.cap_drop);
        isolation
    }
}

/// What is kept of capabilities, where it is not all. The lists may be as long as a request: each is looked at once.
fn kept(kept: Option<Vec<Capability>>, add: &[Capability], drop: &[Capability]) -> Option<Vec<Capability>> {
    let set = |of: &[Capability]| of.iter().fold(0, |set, one| set | one.bit());
    let dropped = set(drop);
    if kept.is_none() && dropped == 0 {
        return None;
    }
    let kept = (kept.map_or(u64::MAX, |kept| set(&kept)) | set(add)) & !dropped;
    Some(Capability::all().into_iter().filter(|one| kept & one.bit() != 0).collect())
}

/// The box in a manifest: the name of a preset, or a table in the words of the flags, `preset` for `--isolation`.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Isolation, D::Error> {
    /// By what comes, not by serde's untagged enum: that would keep all of it, and say of every mistake the same.
    struct Written;

    impl<'de> Visitor<'de> for Written {
        type Value = Isolation;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a preset, or a table of flags")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Isolation, E> {
            Preset::deserialize(name.into_deserializer()).map(Isolation::of)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Isolation, A::Error> {
            let flags = Flags::deserialize(MapAccessDeserializer::new(map))?;
            if flags.overlay.is_some() && flags.rootfs.is_none() {
                return Err(A::Error::custom("overlay needs rootfs: the directory below it"));
            }
            let all = Namespaces::default();
            let unknown = |name: &&String| !all.each().iter().any(|(known, _)| known == name);
            match flags.namespaces.keys().find(unknown) {
                Some(name) => Err(A::Error::custom(format!("there is no namespace {name:?}"))),
                None => Ok(flags.isolation()),
            }
        }
    }

    deserializer.deserialize_any(Written)
}

/// What [`read`] takes, for the description of the API.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [Preset::json_schema(generator), Flags::json_schema(generator)] })
}

/// Texts, each as on the command line.
fn words<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}"))))
        .collect()
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse()).transpose().map_err(D::Error::custom)
}

#[derive(Debug, Clone)]
struct Bind(Mount);

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, writable) = match parts[..] {
            [source, target] | [source, target, "ro"] => (source, target, false),
            [source, target, "rw"] => (source, target, true),
            _ => return Err("expected SOURCE:TARGET, and :rw if it may be written".to_owned()),
        };
        Ok(Self(Mount::Bind { source: source.to_owned(), target: target.to_owned(), writable }))
    }
}

#[derive(Debug, Clone)]
struct Tmpfs(Mount);

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (target, size) = text.rsplit_once(':').ok_or("expected TARGET:SIZE, for example /tmp:16M")?;
        let size = size.parse().map_err(|e| format!("{e}"))?;
        Ok(Self(Mount::Tmpfs { target: target.to_owned(), size }))
    }
}

#[derive(Debug, Clone, Copy)]
struct Ulimit(Rlimit);

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, value) = text.split_once('=').ok_or("expected RESOURCE=SOFT[:HARD]")?;
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let number = |text: &str| match text {
            "unlimited" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| format!("{digits:?} is no number")),
        };
        Ok(Self(Rlimit { resource: resource.parse()?, soft: number(soft)?, hard: number(hard)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parsed(arguments: &[&str]) -> Isolation {
        let line = std::iter::once(&"run").chain(arguments);
        <Line as clap::Parser>::try_parse_from(line).unwrap().flags.isolation()
    }

    /// One of the box, as `bellows apply` reads it.
    #[derive(Debug, Deserialize)]
    struct File {
        #[serde(deserialize_with = "read")]
        isolation: Isolation,
    }

    fn filed(text: &str) -> Result<Isolation, String> {
        toml::from_str::<File>(text).map(|file| file.isolation).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_and_flags_say_the_same() {
        let text = r#"
            [isolation]
            preset = "tenant"
            rootfs = "/srv/root"
            overlay = "16M"
            bind = ["/usr:/usr", "/srv/data:/data:rw"]
            tmpfs = ["/tmp:1M"]
            cap_add = ["net_admin"]
            cap_drop = ["net_raw"]
            net = "host"
            ulimit = ["nofile=10:20"]
        "#;
        let flags = [
            "--isolation tenant --rootfs /srv/root --overlay 16M --bind /usr:/usr --bind /srv/data:/data:rw",
            "--tmpfs /tmp:1M --cap-add net_admin --cap-drop net_raw --net host --ulimit nofile=10:20",
        ];
        let flags: Vec<&str> = flags.iter().flat_map(|line| line.split(' ')).collect();
        assert_eq!(filed(text).unwrap(), parsed(&flags));
        let nested =
            filed("isolation = { preset = \"tenant\", nested = true, capabilities = [\"chown\"] }").unwrap();
        assert_eq!(nested.capabilities.map(|kept| kept.len()), Some(1), "what is asked for");
        for (text, said) in [
            ("overlay = \"1M\"", "overlay needs rootfs"),
            ("bind = [\"/usr\"]", "expected SOURCE:TARGET"),
            ("rootfs = \"/a\", overlay = \"much\"", "much"),
            ("read_only = true", "read_only"),
        ] {
            let error = filed(&format!("isolation = {{ {text} }}")).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    /// What programs write that leave nothing out.
    #[test]
    fn null_is_as_without() {
        let sent = |text: &str| {
            read(&mut serde_json::Deserializer::from_str(text)).map_err(|error| error.to_string())
        };
        let text = r#"{"preset":"tenant","capabilities":null,"root":null,"hostname":null,"seccomp":null,"net":null}"#;
        assert_eq!(sent(text), Ok(Isolation::tenant()));
        assert!(
            sent(r#"{"namespaces":{"nett":"new"}}"#).unwrap_err().contains("there is no namespace \"nett\"")
        );
        // As long as a request may be, and answered at once.
        let many = |name: &str| format!("[{}]", vec![format!("\"{name}\""); 80_000].join(","));
        let text = format!(r#"{{"preset":"tenant","cap_add":{},"cap_drop":{}}}"#, many("bpf"), many("kill"));
        assert_eq!(sent(&text).unwrap().capabilities.unwrap().len(), 12);
    }

    #[test]
    fn without_flags_a_workload_is_what_it_was() {
        assert_eq!(parsed(&[]), Isolation::default());
        assert_eq!(parsed(&["--isolation", "tenant"]), Isolation::tenant());
    }

    #[test]
    fn each_namespace_has_a_flag() {
        for (name, _) in Namespaces::default().each() {
            let flag = if name == "user" { "--userns".to_owned() } else { format!("--{name}") };
            let asked = parsed(&[&flag, "join:/n"]).namespaces;
            let joined: Vec<&str> =
                asked.each().into_iter().filter(|n| n.1.is_joined()).map(|n| n.0).collect();
            assert_eq!(joined, [name]);
        }
    }

    #[test]
    fn flags_add_to_the_box() {
        let isolation = parsed(&[
            "--isolation",
            "tenant",
            "--rootfs",
            "/srv/root",
            "--overlay",
            "16M",
            "--bind",
            "/usr:/usr",
            "--tmpfs",
            "/tmp:1M",
            "--cap-add",
            "net_admin",
            "--cap-drop",
            "net_raw",
            "--net",
            "host",
            "--ulimit",
            "nofile=10:20",
        ]);
        assert_eq!(isolation.problem(), None);
        let root = Root::Directory { path: "/srv/root".to_owned(), upper: Some(Bytes::mib(16)) };
        assert_eq!((isolation.root, isolation.mounts.len()), (root, 2));
        let kept: Vec<String> = isolation.capabilities.unwrap().iter().map(ToString::to_string).collect();
        assert!(kept.contains(&"net_admin".to_owned()) && !kept.contains(&"net_raw".to_owned()));
        assert_eq!((isolation.namespaces.net, isolation.namespaces.user), (Whose::Host, Whose::New));
        assert_eq!((isolation.rlimits[0].soft, isolation.rlimits[0].hard), (Some(10), Some(20)));
    }
}
