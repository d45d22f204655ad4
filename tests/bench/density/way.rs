//! What the copies live under. Above them stands the same budget each time, and there is no swap; the tree and the weights of the
//! cpu are the agent's each time, so that the ways differ in memory alone.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Result, anyhow};
use bellows::workload::isolation::Isolation;
use bellows::workload::life::Life;
use bellows::workload::spec::{Asked, Spec};
use bellows_policies::Resources;
use bellows_policies::units::{Bounds, Bytes};
use bellows_tests::programs::child::Job;
use bellows_tests::programs::find_sibling;
use bellows_tests::programs::group::{Group, OwnGroup};

use super::copy::{Part, Programs};
use super::reports::Run;
use super::run::quiet;
use super::{BUDGET, ByPart};
use crate::agent::{Agent, Setup, run_to_end};
use crate::tree::Place;

/// Of the cgroup that they live in.
const NAME: &str = "density";
const SETUP: Setup = Setup { name: NAME, config: "", flags: &[] };

/// A `memory.max` for each part of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits(pub(super) ByPart<Bytes>);

impl Limits {
    pub(super) fn sum(&self) -> Bytes {
        self.0.iter().fold(Bytes::ZERO, |sum, &limit| sum.saturating_add(limit))
    }
}

/// One of the ways.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// No limits at all, and no budget.
    Spare,
    /// These limits, which stay.
    Static(Limits),
    /// `memory.low` and no limit but the budget.
    Kernel,
    /// Limits that the agent moves.
    Bellows,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spare => f.write_str("memory to spare"),
            Self::Static(limits) => write!(f, "static limits of {} MiB a copy", limits.sum().0 >> 20),
            Self::Kernel => f.write_str("the kernel alone"),
            Self::Bellows => f.write_str("bellows"),
        }
    }
}

/// The cgroups of a run.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    way: Way,
    top: Group,
    keeper: Keeper<'a>,
}

#[derive(Debug)]
enum Keeper<'a> {
    Own(OwnGroup),
    Agent(Box<Agent<'a>>, PathBuf),
}

impl<'a> Stage<'a> {
    pub(super) fn set(place: &'a Place, way: Way) -> Result<Self> {
        let path = place.cgroup.path().join(NAME);
        let top = Group::at(path.clone());
        let keeper = match way {
            Way::Spare | Way::Static(_) | Way::Kernel => {
                let own = OwnGroup::make(path)?;
                own.group().hand_on_controllers()?;
                Keeper::Own(own)
            }
            Way::Bellows => {
                place.cgroup.ensure_child(NAME)?;
                top.limit(BUDGET)?;
                Keeper::Agent(Box::new(Agent::start(place, &SETUP)?), find_sibling("bellows")?)
            }
        };
        if !matches!(way, Way::Spare) {
            top.limit(BUDGET)?;
        }
        Ok(Self { way, top, keeper })
    }

    /// A command to which the program of a copy's part and its arguments are to be added.
    pub(super) fn command(&self, copy: usize, part: Part) -> Result<Command> {
        let mut command = match &self.keeper {
            Keeper::Agent(agent, program) => {
                let mut command = Command::new(program);
                let (floor, ceiling) = part.bounds();
                command.env("BELLOWS_RUNTIME_DIR", agent.runtime_dir());
                command.args(["run", "--tenant", &tenant(copy), "--name", part.name()]);
                command.args([
                    "--class",
                    part.class().as_str(),
                    "--memory",
                    &format!("{}..{}", floor.0, ceiling.0),
                    "--",
                ]);
                command
            }
            Keeper::Own(own) => {
                let group = self.group(copy, part);
                if group.look()?.is_none() {
                    let tenant = own.group().ensure_branch(&tenant(copy), &self.settings_of_tenant())?;
                    tenant.make_child(part.name(), &self.settings(part))?;
                }
                group.command()
            }
        };
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Starts a copy's report.
    pub(super) fn report(&self, copy: usize, programs: &Programs) -> Result<Run> {
        let arguments = Programs::report_arguments();
        let Keeper::Agent(agent, _) = &self.keeper else {
            let mut command = self.command(copy, Part::Report)?;
            command.arg(&programs.stress_ng).args(arguments);
            return Ok(Run::Own(Job::start("a report", quiet(&mut command))?));
        };
        let (floor, ceiling) = Part::Report.bounds();
        let identity = Asked {
            tenant: tenant(copy).parse()?,
            name: Part::Report.name().parse()?,
            class: Some(Part::Report.class().as_str().parse()?),
            memory: Some(Bounds::new(floor, ceiling).map_err(|e| anyhow!("{e}"))?),
            cpu: None,
            resources: Resources::default(),
        };
        let spec = Spec {
            identity,
            argv: std::iter::once(programs.stress_ng.display().to_string()).chain(arguments).collect(),
            env: Vec::new(),
            cwd: std::env::current_dir()?.display().to_string(),
            isolation: Isolation::default(),
            life: Life::default(),
        };
        let runtime_dir = agent.runtime_dir().to_owned();
        Ok(Run::Asked(Some(thread::spawn(move || run_to_end(&runtime_dir, spec)))))
    }

    /// Where a copy's part lives.
    pub(super) fn group(&self, copy: usize, part: Part) -> Group {
        let workloads = match &self.keeper {
            Keeper::Agent(..) => self.top.path().join("workloads"),
            Keeper::Own(_) => self.top.path().to_owned(),
        };
        Group::at(workloads.join(tenant(copy)).join(part.name()))
    }

    /// OOM kills.
    pub(super) fn kills(&self) -> Result<u64> {
        self.top.kills()
    }

    /// Ends everything.
    pub(super) fn strike(self) -> Result<()> {
        match self.keeper {
            Keeper::Own(own) => own.remove(),
            Keeper::Agent(agent, _) => agent.stop(),
        }
    }

    /// What its parts are promised together: on less of a level above them, theirs would be none.
    fn settings_of_tenant(&self) -> Vec<(&'static str, String)> {
        let promised: u64 = Part::ALL.iter().map(|part| part.bounds().0.0).sum();
        match self.way {
            Way::Kernel => vec![("memory.low", promised.to_string())],
            Way::Spare | Way::Static(_) | Way::Bellows => Vec::new(),
        }
    }

    fn settings(&self, part: Part) -> Vec<(&'static str, String)> {
        let mut settings = vec![("cpu.weight", part.class().cpu_law().weight.to_string())];
        match self.way {
            Way::Static(limits) => settings.push(("memory.max", limits.0[part as usize].0.to_string())),
            // Of a report that is not there nothing is protected.
            Way::Kernel => settings.push(("memory.low", part.bounds().0.0.to_string())),
            Way::Spare | Way::Bellows => {}
        }
        settings
    }
}

fn tenant(copy: usize) -> String {
    format!("c{copy}")
}
