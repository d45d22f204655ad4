//! The three ways in which the same tenants share the same budget.
//!
//! ```text
//!   static   memory.max and cpu.max: an equal share of memory and cpus for each
//!   kernel   memory.high = max, memory.low = floor, cpu.weight by class: the kernel alone decides
//!   bellows  the agent moves memory.high, memory.max and cpu.max between floor and ceiling
//! ```
//!
//! Above the tenants stands the same `memory.max` each time, so that no way has more than another.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::Result;
use bellows_policies::Cpus;
use bellows_tests::programs::group::{Group, OwnGroup};

use crate::agent::Agent;
use crate::place::Place;
use crate::scenario::{BUDGET, TENANTS, Tenant};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Equal limits that stay.
    Static,
    /// No limits but the one above all.
    Kernel,
    /// Limits moved by the agent.
    Bellows,
}

/// The budget, and how it is shared; all cgroups go when it is dropped.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    place: &'a Place,
    way: Way,
    own: OwnGroup,
    agent: Option<Agent>,
}

impl Way {
    /// In this order.
    pub(crate) const ALL: [Self; 3] = [Self::Static, Self::Kernel, Self::Bellows];

    /// As in `demo.json`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Kernel => "kernel",
            Self::Bellows => "bellows",
        }
    }

    /// In one line, for people.
    pub(crate) fn describe(self) -> String {
        let count = TENANTS.len();
        match self {
            Self::Static => format!("static limits: {} of memory and 1/{count} of the cpus each", share()),
            Self::Kernel => {
                "the kernel alone: memory.high = max, memory.low = floor, cpu.weight by class".to_owned()
            }
            Self::Bellows => {
                "bellows: floor..ceiling of memory and cpu for each, limits moved by need".to_owned()
            }
        }
    }

    fn settings(self, tenant: &Tenant) -> Vec<(&'static str, String)> {
        match self {
            Self::Static => {
                let cpus = thread::available_parallelism().map_or(1, usize::from) as u64;
                let quota = Cpus::milli(cpus * 1000 / TENANTS.len() as u64).quota_us();
                // The period stays the kernel's own, of which this is the quota.
                vec![("memory.max", share().0.to_string()), ("cpu.max", quota.to_string())]
            }
            Self::Kernel => vec![
                ("memory.low", tenant.floor.0.to_string()),
                ("cpu.weight", tenant.class.cpu_law().weight.to_string()),
            ],
            Self::Bellows => Vec::new(),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Static => "static limits",
            Self::Kernel => "kernel alone",
            Self::Bellows => "bellows",
        })
    }
}

impl<'a> Stage<'a> {
    /// Makes the cgroups, and starts the agent where there is one.
    pub(crate) fn set(place: &'a Place, way: Way) -> Result<Self> {
        let own = OwnGroup::make(place.cgroup.join(format!("bellows-demo-{}", way.key())))?;
        own.group().limit(BUDGET)?;
        let agent = match way {
            Way::Static | Way::Kernel => {
                own.group().hand_on_controllers()?;
                for tenant in &TENANTS {
                    own.group().make_child(&directory(tenant), &way.settings(tenant))?;
                }
                None
            }
            Way::Bellows => Some(Agent::start(place, own.group().path())?),
        };
        Ok(Self { place, way, own, agent })
    }

    /// The cgroup above all tenants.
    pub(crate) fn top(&self) -> &Group {
        self.own.group()
    }

    /// The agent, if there is one.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Where a tenant lives.
    pub(crate) fn group(&self, tenant: &Tenant) -> Group {
        let top = self.own.group().path();
        Group::at(match &self.agent {
            Some(_) => top.join("workloads").join(tenant.path()),
            None => top.join(directory(tenant)),
        })
    }

    /// A command to which the tenant's program and arguments are to be added.
    pub(crate) fn command(&self, tenant: &Tenant) -> Command {
        let mut command = match &self.agent {
            Some(agent) => agent.launch(tenant),
            None => self.group(tenant).command(),
        };
        command.current_dir(&self.place.scratch).stdin(Stdio::null());
        command
    }

    /// A log in the scratch directory, for output and errors of one of the tenants.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.place.scratch.join(format!("{name}.{}.log", self.way.key()))
    }

    /// Ends everything, and says whether that worked.
    pub(crate) fn strike(self) -> Result<()> {
        if let Some(agent) = self.agent {
            agent.stop()?;
        }
        self.own.remove()
    }
}

/// An equal share of the budget.
pub(crate) fn share() -> bellows_policies::Bytes {
    BUDGET.scale(1.0 / TENANTS.len() as f64).page_floor()
}

fn directory(tenant: &Tenant) -> String {
    format!("{}-{}", tenant.owner, tenant.name)
}
