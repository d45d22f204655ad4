//! `bellows apply`: detached workloads as files say, one a file or several as `[[workload]]`.
//!
//! All files are read, and told what is wrong with them, before anything is asked for. What differs is shown before it is done.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;

use super::Connection;
use crate::api::manifest::Manifest;
use crate::api::types::ApplyRequest;
use crate::client::Client;
use crate::workload::apply::{Action, ApplyPlan};

const AFTER_HELP: &str = r#"A file, with all that it can say; a name and a command are needed:

  tenant = "acme"
  name = "web"
  class = "latency"
  memory = "64M..1G"
  cpu = "0.1..2"
  command = ["/usr/bin/web", "--port", "80"]
  env = { MODE = "production" }
  cwd = "/srv/web"
  stop_signal = "INT"
  grace = "30s"
  restart = "on-failure"
  log_size = "4M"                     # or log_journal = true, without these two
  log_files = 3
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

/// A file that asks for several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    workload: Vec<Manifest>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut all: Vec<Manifest> = Vec::new();
    for file in &arguments.files {
        let text = read(file)?;
        for one in parse(&text).with_context(|| format!("{file} is not understood"))? {
            let Manifest { tenant, name, .. } = &one;
            if all.iter().any(|other| (&other.tenant, &other.name) == (tenant, name)) {
                bail!("{file}: {tenant}/{name} is asked for twice");
            }
            all.push(one);
        }
    }
    let client = Client::new(&arguments.connection.runtime_dir);
    for one in all {
        let label = format!("{}/{}", one.tenant, one.name);
        let mut request = ApplyRequest { workload: Some(one), spec: None, dry_run: true };
        // What is to be done is told before it is done.
        let plan = client.apply(&request).await?;
        if arguments.json {
            println!(
                "{}",
                serde_json::json!({ "workload": label, "dry_run": arguments.dry_run, "plan": plan })
            );
        } else {
            print!("{}", told(&label, &plan, arguments.dry_run));
        }
        if !arguments.dry_run && plan.action != Action::Nothing {
            request.dry_run = false;
            let _: ApplyPlan = client.apply(&request).await.context(label)?;
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
pub fn parse(text: &str) -> anyhow::Result<Vec<Manifest>> {
    // Not by serde's untagged enum, which would say of every mistake the same.
    let is_several = toml::from_str::<toml::Table>(text)?.contains_key("workload");
    let all =
        if is_several { toml::from_str::<Several>(text)?.workload } else { vec![toml::from_str(text)?] };
    for one in &all {
        one.clone().spec().map_err(|text| anyhow::anyhow!("{}: {text}", one.name))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bellows_policies::units::Bytes;
    use clap::CommandFactory;

    use super::*;
    use crate::workload::isolation::Isolation;
    use crate::workload::life::{Life, Restart};
    use crate::workload::spec::{Asked, Spec};

    fn parse(text: &str) -> anyhow::Result<Vec<Spec<Asked>>> {
        super::parse(text).map(|all| all.into_iter().filter_map(|one| one.spec().ok()).collect())
    }

    /// Each flag of a detached workload is a word of a file, at its place.
    #[test]
    fn a_file_has_each_flag() {
        let line = crate::cli::Cli::command();
        let run = line.find_subcommand("run").unwrap();
        // Of this command itself, and of what is not to stay.
        let others = BTreeSet::from(["detach", "json", "runtime-dir"]);
        let flags = run.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag.get_help_heading())));
        let flags: Vec<_> = flags.filter(|(flag, _)| !others.contains(flag)).collect();
        assert!(flags.len() > 35, "{flags:?}");
        for (flag, heading) in flags {
            let word = if flag == "isolation" { "preset".to_owned() } else { flag.replace('-', "_") };
            let said = match heading {
                Some(table) => format!("{} = {{ {word} = 0.5 }}", table.to_lowercase()),
                None => format!("{word} = 0.5"),
            };
            let least =
                ["name = \"web\"", "command = [\"x\"]"].into_iter().filter(|line| !line.starts_with(flag));
            let text = format!("{said}\n{}\n", least.collect::<Vec<_>>().join("\n"));
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains("line 1,") && !error.contains("unknown field"), "{text}{error}");
        }
    }

    /// What the agent reads is what the file says.
    #[test]
    fn a_manifest_is_the_same_as_json() {
        let text = "name = \"a\"\ncommand = [\"x\"]\nmemory = \"64M..1500M\"\nstop_signal = \"INT\"\ngrace = \"0\"\n\
                    isolation = { preset = \"tenant\", rootfs = \"/r\", overlay = \"1M\", tmpfs = [\"/t:1M\"], nested = true, \
                    net = \"host\", ulimit = [\"nofile=1:unlimited\"] }\nresources = { swap = \"1M\" }\n";
        let [one] = &super::parse(text).unwrap()[..] else { panic!("one") };
        let request = ApplyRequest { workload: Some(one.clone()), spec: None, dry_run: true };
        let json = serde_json::to_string(&request).unwrap();
        let again = serde_json::from_str::<ApplyRequest>(&json).unwrap().asked().unwrap();
        let spec = one.clone().spec().unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&spec).unwrap());
        let neither = ApplyRequest { workload: None, spec: None, dry_run: true };
        let both = ApplyRequest { workload: Some(one.clone()), spec: Some(spec), dry_run: true };
        assert!(neither.asked().is_err() && both.asked().is_err());
    }

    #[test]
    fn files_are_read() {
        let one = parse("name = \"web\"\ncommand = [\"true\"]\n").unwrap();
        assert_eq!((one.len(), one[0].identity.tenant.as_str(), one[0].cwd.as_str()), (1, "default", "/"));
        assert_eq!(one[0].life, Life::default());
        let text = "[[workload]]\nname = \"a\"\ntenant = \"acme\"\nmemory = \"64M..1G\"\ncommand = [\"x\", \"y\"]\n\
                    env = { B = \"2\", A = \"1\" }\nstop_signal = \"INT\"\ngrace = \"30s\"\n\
                    restart = \"on-failure\"\nlog_size = \"4M\"\nlog_files = 3\n\
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
            (
                "name = \"web\"\ncommand = [\"x\"]\nstop_signal = \"NOPE\"\n",
                "stop_signal: \"NOPE\" is not a signal",
            ),
            ("name = \"web\"\ncommand = []\n", "no command was given"),
            (
                "name = \"web\"\ncommand = [\"x\"]\nlog_journal = true\nlog_files = 2\n",
                "no log_size and no log_files",
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
