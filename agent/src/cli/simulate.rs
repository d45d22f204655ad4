//! `bellows policy simulate`, `diff`, `trace` and `test`: policies tried out in virtual time. Without an agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use bellows_policies::{Bytes, Ruleset};
use bellows_simulator::{Baseline, Kind, Options, Outcome, Place, Trace, generate, play};
use clap::{Args, ValueEnum};

use super::figures::{print_columns, report};
use super::policy::tell;
use super::{CHECK_FAILED, Failure};
use crate::config::POLICIES;
use crate::policy::{self, Compiled, Node, Source};
use crate::simulate::{plot, read_suite, read_trace};

/// What a trace is played on.
#[derive(Debug, Args)]
struct Ground {
    /// What workloads want over time: CSV (docs/simulate.md).
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// What the node has to grant from [default: that of the policies].
    #[arg(long, value_name = "SIZE")]
    capacity: Option<Bytes>,
    /// The node's cpus.
    #[arg(long, value_name = "N", default_value_t = 8)]
    cpus: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The policies: a directory, or one file.
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    policies: PathBuf,
    #[command(flatten)]
    ground: Ground,
    /// Draw limit against use, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Let things go wrong: events lost, details late, writes failed, the agent hung or killed; drawn from this seed.
    #[arg(long, value_name = "SEED")]
    failures: Option<u64>,
    /// Compare with simpler ways to set limits: static at peak, a p90 recommender, one like Senpai.
    #[arg(long, conflicts_with_all = ["plot", "failures"])]
    compare: bool,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The policies as they are: a directory, or one file.
    old: PathBuf,
    /// The policies as they are to be.
    new: PathBuf,
    #[command(flatten)]
    ground: Ground,
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// Everything is drawn from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What kind of workloads.
    #[arg(long, value_enum, default_value = "mixed")]
    kind: KindName,
    /// How many at a time.
    #[arg(long, value_name = "N", default_value_t = 20)]
    workloads: u16,
    /// How long.
    #[arg(long, value_name = "H", default_value_t = 1.0)]
    hours: f64,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of tests (docs/simulate.md).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    /// Services that follow the day.
    Diurnal,
    /// Services that want several times as much for a minute, now and then.
    Bursty,
    /// Services that grow for ever.
    Leaking,
    /// Jobs of minutes.
    Batch,
    /// Workloads that live for seconds.
    Churning,
    /// All of them, in turns.
    Mixed,
}

pub(super) fn simulate(arguments: &Simulate) -> anyhow::Result<ExitCode> {
    let ground = &arguments.ground;
    let trace = ground.trace()?;
    let Some((rules, place)) = ground.compile(&arguments.policies)? else {
        return Ok(ExitCode::from(CHECK_FAILED));
    };
    let options = Options { failures: arguments.failures, ..Options::default() };
    let outcome = play(&trace, &rules, place, options)?;
    if arguments.compare {
        let mut columns = vec![("bellows".to_owned(), outcome.report)];
        for baseline in Baseline::ALL {
            columns.push((baseline.as_str().to_owned(), baseline.play(&trace, &rules, place)?.report));
        }
        print_columns(&columns, ground.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &arguments.plot {
        let title = format!("{} under {}", ground.trace.display(), arguments.policies.display());
        fs::write(path, plot(&outcome, &title))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if ground.json {
        println!("{}", serde_json::to_string(&outcome.report)?);
    } else {
        print!("{}", report(&outcome.report, place));
    }
    whole(&outcome)
}

pub(super) fn diff(arguments: &Diff) -> anyhow::Result<ExitCode> {
    let ground = &arguments.ground;
    let trace = ground.trace()?;
    let mut columns = Vec::new();
    for path in [&arguments.old, &arguments.new] {
        let Some((rules, place)) = ground.compile(path)? else { return Ok(ExitCode::from(CHECK_FAILED)) };
        let outcome = play(&trace, &rules, place, Options::default())?;
        columns.push((path.display().to_string(), outcome.report));
    }
    print_columns(&columns, ground.json)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn generate_trace(arguments: &Generate) -> anyhow::Result<ExitCode> {
    let Generate { seed, kind, workloads, hours } = *arguments;
    if !(0.01..=1000.0).contains(&hours) || workloads == 0 {
        bail!(Failure { text: "hours are 0.01 to 1000, workloads 1 or more".to_owned(), code: 2 });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    let seconds = (hours * 3600.0).round() as u64;
    let kind = match kind {
        KindName::Diurnal => Kind::Diurnal,
        KindName::Bursty => Kind::Bursty,
        KindName::Leaking => Kind::Leaking,
        KindName::Batch => Kind::Batch,
        KindName::Churning => Kind::Churning,
        KindName::Mixed => Kind::Mixed,
    };
    print!("{}", generate(kind, usize::from(workloads), seconds * 1_000_000_000, seed));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn test(arguments: &Test) -> anyhow::Result<ExitCode> {
    let (mut failed, mut told) = (0, Vec::new());
    for file in &arguments.files {
        let name = file.display().to_string();
        let suite = read_suite(&read(file)?).map_err(|error| anyhow!("{name}: {error}"))?;
        let directory = file.parent().unwrap_or(Path::new("."));
        let paths: Vec<PathBuf> = suite.policies.iter().map(|path| directory.join(path)).collect();
        let Some(rules) = sound(compiled(&paths, Some(suite.capacity))) else {
            return Ok(ExitCode::from(CHECK_FAILED));
        };
        for case in &suite.cases {
            let place = suite.place(&rules);
            let differences =
                case.run(&rules, place).map_err(|text| anyhow!("{name}: {}: {text}", case.name))?;
            let is_ok = differences.is_empty();
            failed += usize::from(!is_ok);
            if !arguments.json {
                println!("{} {name}: {}", if is_ok { "ok  " } else { "FAIL" }, case.name);
                differences.iter().flat_map(|text| text.lines()).for_each(|line| println!("     {line}"));
            }
            told.push(serde_json::json!({ "file": name, "case": case.name, "ok": is_ok, "differences": differences }));
        }
    }
    if arguments.json {
        println!("{}", serde_json::Value::Array(told));
    } else {
        println!("{} of {} as expected", told.len() - failed, told.len());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Ground {
    fn trace(&self) -> anyhow::Result<Trace> {
        let source = Source { name: self.trace.display().to_string(), text: read(&self.trace)? };
        read_trace(&source).map_err(|found| {
            let lines: Vec<String> = found.iter().map(|d| d.render(std::slice::from_ref(&source))).collect();
            anyhow!(Failure { text: format!("the trace is wrong\n{}", lines.join("\n")), code: CHECK_FAILED })
        })
    }

    /// The rules, and the node that they are played on; none if the policies are wrong, which was told.
    fn compile(&self, policies: &Path) -> anyhow::Result<Option<(Ruleset, Place)>> {
        let is_default = policies == Path::new(POLICIES) && !policies.exists();
        let paths = if is_default { Vec::new() } else { vec![policies.to_owned()] };
        let Some(rules) = sound(compiled(&paths, self.capacity)) else { return Ok(None) };
        let Some(capacity) = self.capacity.or(rules.node.capacity) else {
            bail!(
                "what the node has to grant is not known: give --capacity SIZE, or `capacity` in [node] of the policies"
            );
        };
        let reserve = rules.node.reserve.map_or_else(|| capacity.scale(0.1), |part| part.of(capacity));
        Ok(Some((rules, Place { capacity, reserve, cpus: self.cpus })))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn compiled(paths: &[PathBuf], capacity: Option<Bytes>) -> Compiled {
    let (sources, troubles) = policy::read(paths);
    policy::compile(sources, troubles, Node { given: capacity, ..Node::default() })
}

/// The rules, if they are sound. What only the agent cannot do is no reason not to simulate it.
fn sound(compiled: Compiled) -> Option<Ruleset> {
    if compiled.problems() > 0 {
        tell(&compiled);
        return None;
    }
    Some(compiled.rules)
}

/// Success unless a rule was broken, which is told with how to see it again.
fn whole(outcome: &Outcome) -> anyhow::Result<ExitCode> {
    let Some((broken, last)) = &outcome.broken else { return Ok(ExitCode::SUCCESS) };
    bail!(
        "a rule of the laws was broken at {:.3} s by workload #{}: {}\n{last}run the same command to see it again",
        broken.at as f64 / 1e9,
        broken.id,
        broken.text
    )
}
