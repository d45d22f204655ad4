//! `bellows policy`: checks policy files, shows what they come to, and tells editors of their keys. Without an agent. Trying
//! them out is next door (`simulate`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use bellows_policies::{AssignedBy, Bytes};
use clap::{Args, Subcommand};

use super::{CHECK_FAILED, simulate};
use crate::config::POLICIES;
use crate::policy::{self, Compiled, Node};
use crate::workload::spec::Name;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check policy files: everything that is wrong with them, at once.
    Check(Check),
    /// Show what they come to: each value with its origin, as a policy file.
    Show(Show),
    /// Play a trace under them in virtual time: kills, stalls, slack, density, fairness.
    Simulate(simulate::Simulate),
    /// Play a trace under two of them, side by side.
    Diff(simulate::Diff),
    /// Print a trace that is drawn from a seed.
    Trace(simulate::Generate),
    /// Run tests of policies: series in, expected decisions out.
    Test(simulate::Test),
    /// Print the JSON Schema of a policy file, for editors.
    Schema,
    /// Print the reference of all keys, as Markdown.
    Reference,
}

#[derive(Debug, Args)]
struct Check {
    /// Files, and directories whose *.toml are read by name [default: --dir].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Show {
    /// Only this class.
    class: Option<String>,
    /// Only the class that a workload without `--class` has.
    #[arg(long = "for", value_name = "TENANT/NAME", conflicts_with = "class")]
    workload: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The directory of policies.
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    dir: PathBuf,
    /// The node's capacity, so that percentages and promises can be checked [default: that of the files].
    #[arg(long, value_name = "SIZE")]
    capacity: Option<Bytes>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Place {
    fn compile(&self, paths: &[PathBuf]) -> Compiled {
        let node = Node { given: self.capacity, ..Node::default() };
        if paths.is_empty() {
            return policy::load(&self.dir, node);
        }
        let (sources, troubles) = policy::read(paths);
        policy::compile(sources, troubles, node)
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.verb {
        Verb::Check(arguments) => Ok(check(arguments)),
        Verb::Show(arguments) => show(arguments),
        Verb::Simulate(arguments) => simulate::simulate(arguments),
        Verb::Diff(arguments) => simulate::diff(arguments),
        Verb::Trace(arguments) => simulate::generate_trace(arguments),
        Verb::Test(arguments) => simulate::test(arguments),
        Verb::Schema => {
            println!("{:#}", policy::schema());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Reference => {
            print!("{}", policy::reference());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(arguments: &Check) -> ExitCode {
    let compiled = arguments.place.compile(&arguments.paths);
    let rules = &compiled.rules;
    let (classes, count, tenants, files) =
        (rules.classes.len(), rules.rules.len(), rules.tenants.len(), compiled.sources.len());
    let problems = compiled.problems();
    if arguments.place.json {
        let diagnostics: Vec<_> = compiled.diagnostics.iter().map(|d| d.json(&compiled.sources)).collect();
        println!(
            "{}",
            serde_json::json!({ "ok": problems == 0, "version": rules.version, "classes": classes,
                "rules": count, "tenants": tenants, "files": files, "diagnostics": diagnostics })
        );
    } else {
        tell(&compiled);
        if problems == 0 {
            println!("ok: {classes} classes, {count} rules, {tenants} tenants in {files} files");
        }
    }
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) }
}

/// All that is wrong, on standard error.
pub(super) fn tell(compiled: &Compiled) {
    for diagnostic in &compiled.diagnostics {
        eprintln!("{}", diagnostic.render(&compiled.sources));
    }
    if compiled.problems() > 0 {
        eprintln!("errors: {}", compiled.problems());
    }
}

fn show(arguments: &Show) -> anyhow::Result<ExitCode> {
    let compiled = arguments.place.compile(&[]);
    if compiled.problems() > 0 {
        tell(&compiled);
        return Ok(ExitCode::from(CHECK_FAILED));
    }
    let mut why = None;
    let class = match (&arguments.class, &arguments.workload) {
        (Some(name), _) => Some(compiled.rules.class(name)?.clone()),
        (None, Some(workload)) => {
            let names = workload.split_once('/').map(|(tenant, name)| (tenant.parse(), name.parse()));
            let Some((Ok(tenant), Ok(name))) = names else {
                bail!("`{workload}` is not TENANT/NAME");
            };
            let (tenant, name): (Name, Name) = (tenant, name);
            let assignment = compiled.rules.assign(tenant.as_str(), name.as_str(), None)?;
            why = Some(match &assignment.by {
                AssignedBy::Rule(_) | AssignedBy::Tenant => assignment.by.to_string(),
                AssignedBy::Asked | AssignedBy::Default => "no rule matches".to_owned(),
            });
            Some(assignment.class)
        }
        (None, None) => None,
    };
    match (class, arguments.place.json) {
        (Some(class), true) => {
            let mut json = policy::class_json(&compiled, &class);
            json["assigned"] = why.into();
            println!("{json}");
        }
        (Some(class), false) => {
            if let Some(why) = why {
                println!("# {}: {why}", arguments.workload.as_deref().unwrap_or_default());
            }
            print!("{}", policy::show_class(&compiled, &class));
        }
        (None, true) => {
            let classes = compiled.rules.classes.values().map(|class| policy::class_json(&compiled, class));
            println!("{}", serde_json::Value::Array(classes.collect()));
        }
        (None, false) => print!("{}", policy::show_all(&compiled)),
    }
    Ok(ExitCode::SUCCESS)
}
