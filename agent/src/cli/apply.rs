//! `bellows apply`: detached workloads as files say, one a file or several as `[[workload]]`.
//!
//! All files are read, and told what is wrong with them, before anything is asked for. What differs is shown before it is done.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{CpuBounds, Resources};
use clap::Args;
use serde::Deserialize;

use super::Connection;
use super::isolation::of_file;
use super::kill::SignalNumber;
use super::stop;
use crate::api::types::ApplyRequest;
use crate::client::Client;
use crate::workload::apply::{Action, ApplyPlan};
use crate::workload::isolation::Isolation;
use crate::workload::life::{Life, LogBounds, Restart};
use crate::workload::spec::{Asked, Name, Spec};

/// Where programs are looked for, when nobody says otherwise.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const AFTER_HELP: &str = r#"A file, with all that it can say; a name and a command are needed:

  tenant = "acme"
  name = "web"
  class = "latency"
  memory = "64M..1G"
  cpu = "0.1..2"
  command = ["/usr/bin/web", "--port", "80"]
  env = { MODE = "production" }
  cwd = "/srv/web"
  stop = { signal = "INT", grace = "30s" }
  restart = "on-failure"
  log = { size = "4M", files = 3 }    # or { journal = true }
  terminal = false
  isolation = "tenant"                # or { preset = "tenant", rootfs = "/srv/web", bind = ["/srv/data:/data:rw"] }
  resources = { pids = 256, swap = "0", cpuset_cpus = "0-3", hugetlb = { 2MB = "64M" } }

Several in one file are each a table [[workload]]. What a file does not say is as of `bellows run --detach` without that flag; of
this command's environment and working directory nothing is passed on. Bounds, class and resources are changed while the workload runs; so is how it
ends and when it is started again. Anything else stops it and starts it again. Applied twice, a file changes nothing the second time."#;

/// What has failed or was stopped is started; what has ended with code 0 is done, and is started only by a changed file.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Files; - is standard input.
    #[arg(required = true)]
    files: Vec<String>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object per workload.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Several(Several),
    One(Box<Wanted>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    workload: Vec<Wanted>,
}

/// A workload, in the words of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    tenant: Option<Name>,
    name: Name,
    class: Option<Name>,
    memory: Option<String>,
    cpu: Option<String>,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    #[serde(default)]
    resources: Resources,
    #[serde(default, deserialize_with = "of_file")]
    isolation: Isolation,
    #[serde(default)]
    stop: Stop,
    restart: Option<Restart>,
    #[serde(default)]
    terminal: bool,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    signal: Option<String>,
    grace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    size: Option<String>,
    files: Option<u32>,
    #[serde(default)]
    journal: bool,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut specs: Vec<Spec<Asked>> = Vec::new();
    for file in &arguments.files {
        let text = read(file)?;
        for spec in parse(&text).with_context(|| format!("{file} is not understood"))? {
            let Asked { tenant, name, .. } = &spec.identity;
            if specs.iter().any(|other| (&other.identity.tenant, &other.identity.name) == (tenant, name)) {
                bail!("{file}: {tenant}/{name} is asked for twice");
            }
            specs.push(spec);
        }
    }
    let client = Client::new(&arguments.connection.runtime_dir);
    for spec in specs {
        let label = format!("{}/{}", spec.identity.tenant, spec.identity.name);
        // What is to be done is told before it is done.
        let plan = client.apply(&ApplyRequest { spec: spec.clone(), dry_run: true }).await?;
        if arguments.json {
            println!(
                "{}",
                serde_json::json!({ "workload": label, "dry_run": arguments.dry_run, "plan": plan })
            );
        } else {
            print!("{}", told(&label, &plan, arguments.dry_run));
        }
        if !arguments.dry_run && plan.action != Action::Nothing {
            let _: ApplyPlan = client.apply(&ApplyRequest { spec, dry_run: false }).await.context(label)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &str) -> anyhow::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

/// What is to be done, and what differs.
fn told(label: &str, plan: &ApplyPlan, is_dry: bool) -> String {
    let would = if is_dry { "would be " } else { "" };
    let because = plan.because.as_ref().map(|how| format!(" (it has {how})")).unwrap_or_default();
    let mut text = match plan.action {
        Action::Nothing => format!("{label}: unchanged\n"),
        Action::Start => format!("{label}: {would}started{because}\n"),
        Action::Change => format!("{label}: {would}changed while it runs\n"),
        Action::Restart => format!("{label}: {would}stopped and started again\n"),
    };
    for difference in &plan.differences {
        let _ = writeln!(text, "  {}: {} -> {}", difference.field, difference.from, difference.to);
    }
    text
}

/// The workloads that a file asks for; each could be launched by what it says.
pub fn parse(text: &str) -> anyhow::Result<Vec<Spec<Asked>>> {
    // Not by serde's untagged enum, which would say of every mistake the same.
    let is_several = toml::from_str::<toml::Table>(text)?.contains_key("workload");
    let document = if is_several {
        Document::Several(toml::from_str(text)?)
    } else {
        Document::One(Box::new(toml::from_str(text)?))
    };
    match document {
        Document::Several(Several { workload }) => workload.into_iter().map(spec).collect(),
        Document::One(wanted) => Ok(vec![spec(*wanted)?]),
    }
}

fn spec(wanted: Wanted) -> anyhow::Result<Spec<Asked>> {
    let name = wanted.name.clone();
    let read = |wanted: Wanted| -> Result<Spec<Asked>, String> {
        let usual = Life::default();
        let tenant = wanted.tenant.map_or_else(|| "default".parse().map_err(|e| format!("{e}")), Ok)?;
        let memory = wanted.memory.map(|text| text.parse::<Bounds>().map_err(|e| format!("memory: {e}")));
        let cpu = wanted.cpu.map(|text| text.parse::<CpuBounds>().map_err(|e| format!("cpu: {e}")));
        let signal = wanted.stop.signal.map(|text| text.parse::<SignalNumber>().map(|number| number.0));
        let grace = wanted.stop.grace.map(|text| stop::seconds(&text));
        if wanted.log.journal && (wanted.log.size.is_some() || wanted.log.files.is_some()) {
            return Err("log: the journal has bounds of its own: no size and no files".to_owned());
        }
        let bytes = wanted.log.size.map(|text| text.parse::<Bytes>().map_err(|e| format!("log.size: {e}")));
        if let Some(name) = wanted.env.keys().find(|name| name.contains('=')) {
            return Err(format!("env: {name:?} is no name of a variable"));
        }
        let mut env: Vec<String> = wanted.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !wanted.env.contains_key("PATH") {
            env.push(format!("PATH={PATH}"));
        }
        let identity = Asked {
            tenant,
            name: wanted.name,
            class: wanted.class,
            memory: memory.transpose()?,
            cpu: cpu.transpose()?,
            resources: wanted.resources,
        };
        let life = Life {
            stop_signal: signal.transpose()?.unwrap_or(usual.stop_signal),
            grace_seconds: grace.transpose()?.unwrap_or(usual.grace_seconds),
            restart: wanted.restart.unwrap_or(usual.restart),
            log: LogBounds {
                bytes: bytes.transpose()?.unwrap_or(usual.log.bytes),
                files: wanted.log.files.unwrap_or(usual.log.files),
            },
            journal: wanted.log.journal,
            terminal: wanted.terminal,
        };
        let cwd = wanted.cwd.unwrap_or_else(|| "/".to_owned());
        let spec = Spec { identity, argv: wanted.command, env, cwd, isolation: wanted.isolation, life };
        spec.problem().map_or(Ok(spec), Err)
    };
    read(wanted).map_err(|text| anyhow::anyhow!("{name}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let one = parse("name = \"web\"\ncommand = [\"true\"]\n").unwrap();
        assert_eq!((one.len(), one[0].identity.tenant.as_str(), one[0].cwd.as_str()), (1, "default", "/"));
        assert_eq!(one[0].life, Life::default());
        let text = "[[workload]]\nname = \"a\"\ntenant = \"acme\"\nmemory = \"64M..1G\"\ncommand = [\"x\", \"y\"]\n\
                    env = { B = \"2\", A = \"1\" }\nstop = { signal = \"INT\", grace = \"30s\" }\n\
                    restart = \"on-failure\"\nlog = { size = \"4M\", files = 3 }\n\
                    [[workload]]\nname = \"b\"\ncommand = [\"z\"]\n";
        let two = parse(text).unwrap();
        assert_eq!(two.len(), 2);
        let Life { stop_signal, grace_seconds, restart, log, .. } = two[0].life.clone();
        assert_eq!((stop_signal, grace_seconds, restart), (2, 30, Restart::OnFailure));
        assert_eq!((log.bytes, log.files), (Bytes::mib(4), 3));
        assert_eq!(two[0].env[..2], ["A=1", "B=2"]);
    }

    #[test]
    fn a_box_begins_with_a_preset() {
        let boxed = |text: &str| {
            let parsed = parse(&format!("name = \"a\"\ncommand = [\"x\"]\nisolation = {text}\n"));
            parsed.map(|specs| specs[0].isolation.clone()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(boxed("\"tenant\"").unwrap(), Isolation::tenant());
        assert_eq!(boxed("{}").unwrap(), Isolation::default());
        let own = boxed("{ preset = \"tenant\", user = \"33\", namespaces = { net = \"host\" } }").unwrap();
        let mut expected = Isolation { user: Some("33".to_owned()), ..Isolation::tenant() };
        expected.namespaces.net = crate::workload::isolation::Whose::Host;
        assert_eq!(own, expected);
        let nested = boxed("{ preset = \"tenant\", nested = true }").unwrap();
        assert!(nested.nested && nested.capabilities.is_none());
        for (text, said) in [
            ("\"tenat\"", "tenat"),
            ("{ preset = \"tenant\", usr = \"x\" }", "usr"),
            ("{ nested = true }", "nested needs"),
        ] {
            let error = boxed(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let table = [
            ("name = \"web\"\n", "missing field `command`"),
            ("name = \"../x\"\ncommand = [\"x\"]\n", "is not a name"),
            ("name = \"web\"\ncommand = [\"x\"]\nmemroy = \"1M..2M\"\n", "memroy"),
            ("name = \"web\"\ncommand = [\"x\"]\nmemory = \"2M..1M\"\n", "web: memory:"),
            ("name = \"web\"\ncommand = [\"x\"]\nrestart = \"sometimes\"\n", "sometimes"),
            ("name = \"web\"\ncommand = [\"x\"]\nstop = { signal = \"NOPE\" }\n", "is not a signal"),
            ("name = \"web\"\ncommand = []\n", "no command was given"),
            (
                "name = \"web\"\ncommand = [\"x\"]\nlog = { journal = true, files = 2 }\n",
                "no size and no files",
            ),
            ("name = \"web\"\ncommand = [\"x\"]\nenv = { \"A=B\" = \"1\" }\n", "is no name of a variable"),
            ("name = \"web\"\ncommand = [\"x\"]\nenv = { \"\" = \"1\" }\n", "NAME=VALUE is needed"),
            ("[[workload]]\nname = \"web\"\n", "missing field `command`"),
        ];
        for (text, said) in table {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
