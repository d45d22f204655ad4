//! The composition root: builds every part, runs them, and takes them down in order. The only file that names them all.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use bellows_policies::ruleset::{Adopt, Defaults, Ruleset};
use bellows_policies::{Budget, Bytes};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::api;
use crate::config::{Config, OnExit};
use crate::control::{self, Command, Control, Takeover};
use crate::journal;
use crate::kernel::{Cgroup, clock, discover, feature::can_reclaim, mounts::Mounts, spawn::Program, support};
use crate::metrics::Metrics;
use crate::notify::{self, Manager};
use crate::policy::{self, Compiled};
use crate::reload;
use crate::watchdog::Heartbeat;
use crate::workload::ids::Ranges;
use crate::workload::records::Records;
use crate::workload::shelf::{Kept, Shelf};
use crate::workload::supervisor::Ground;
use crate::workload::{takeover, tree};

/// The agent has not begun, and would not by being started again: somebody has to mend something first.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(String);

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let (started, started_unix_ns) = (clock::now(), clock::unix_nanoseconds());
    let manager = Manager::from_environment();
    let root = tree::find_root(config.root.as_deref())?;
    let in_container = config.agent.in_container;
    if in_container {
        tree::step_out(&root)?;
    }
    insist(&root)?;
    let init = find_init()?;
    let mounts = mounts(config.agent.host_mounts.as_deref())?;
    let tree = tree::take(&root, manager.is_there() || in_container)?;
    let open_files = crate::kernel::thread::protect_process();

    let machine = tree::capacity(&tree.root).context("cannot find out how much memory there is")?;
    let given = config.node.capacity.map(|size| size.0);
    let defaults = Defaults { memory: config.memory, pids: config.workload.pids };
    let node = policy::Node { defaults, given, machine: Some(machine) };
    let compiled = policies(&config.policies, &node)?;
    let (shown, shown_policies) = watch::channel(Arc::new(policy::Shown::default().after(&compiled)));
    let rules = compiled.rules;
    let version = rules.version.clone();
    let budget = budget(config, &rules, machine);
    let (capacity, reserve, pool) = (budget.capacity, budget.reserve, budget.pool());
    // Before anything is taken over: should this agent die meanwhile, somebody must open what it governs by then.
    let mut heartbeat =
        Heartbeat::start(tree.root.path(), in_container).context("cannot start the watchdog")?;

    let seen = seen(&tree, shown_policies);
    let ground = Arc::new(Ground {
        root: tree.root.clone(),
        workloads: tree.workloads.clone(),
        records: Records::open(&config.runtime_dir)
            .with_context(|| format!("cannot make {}", config.runtime_dir.display()))?,
        ids: Ranges::new(config.isolation),
        init: Program::load(&init, open_files, mounts)
            .with_context(|| format!("cannot load {}", init.display()))?,
    });
    let adopts = |tenant: &str| rules.adopts(tenant) != Adopt::No;
    let (shelf, kept, torn) = recover(&config.runtime_dir)?;
    // What the journal takes has no log of ours.
    let logged = kept.iter().filter(|kept| !kept.spec.life.journal);
    let logged: HashSet<String> = logged.map(|kept| kept.spec.identity.to_string()).collect();
    let is_logged = |name: &str| logged.contains(name);
    let mut findings = takeover::find(&ground, adopts, is_logged, || {
        heartbeat.beat(clock::now());
    })?;
    let ends = ground.records.recover(&findings.ids())?;
    findings.trouble.extend(torn);
    let metrics = Arc::new(Metrics::new(config.metrics.workloads, started_unix_ns)?);
    let (writer, readers, drain) = journal::open(Some(config.journal.settings(&config.runtime_dir)))?;
    let (mut control, handle) = Control::new(control::Parts {
        ground,
        budget,
        rules: Arc::new(rules),
        shelf,
        can_reclaim: can_reclaim(&tree.workloads),
        node_law: config.cpu,
        hearing: config.agent.hearing,
        journal: writer,
        readers,
        metrics: Arc::clone(&metrics),
        heartbeat: Some(heartbeat),
    })?;
    let taken = control.take_over(findings, ends, kept);
    let took = clock::now().since(started);
    metrics.policies.begun(clock::unix_nanoseconds());
    metrics.takeover.set(took.as_secs_f64());
    let (loop_thread, loop_ended) = start_turning(control)?;
    crate::kernel::thread::lock_program();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = api::serve(&handle, &config.runtime_dir, config.http.listen, &config.api, seen).await?;
        // The capacity stays what it was at the start, whatever the files say of it later.
        let node = policy::Node { given: Some(capacity), ..node };
        let directory = config.policies.clone();
        tokio::spawn(reload::follow(handle.clone(), directory, node, version, manager.clone(), shown));
        crate::kernel::tell(&format!("governing {}", root.display()));
        tell_taken(&taken, took);
        crate::kernel::tell(&format!("granting {pool} (capacity {capacity}, reserve {reserve})"));
        crate::kernel::tell(&format!("metrics at http://{}/metrics", server.address));
        crate::kernel::tell(&format!("console at http://{}/", server.address));
        manager.ready(&notify::status(&handle));
        let (root, workloads) = (tree.root.clone(), tree.workloads.clone());
        tokio::spawn(manager.clone().accompany(handle.clone(), move || restore(&root, &workloads)));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Of itself it ends only by failing: then this process must end too, and its watchdog see that.
            _ = loop_ended => {}
        }
        anyhow::Ok(server)
    });
    manager.stopping("limits are opened");
    let end_workloads = config.agent.on_exit == OnExit::Stop && served.is_ok();
    let _ = handle.send(Command::Shutdown { end_workloads });
    let ran = loop_thread.join().map_err(|_| anyhow::anyhow!("the control loop panicked"))?;
    // Whoever waits for the end of a workload gets the answer that has just been given.
    let served = served.map(|server| runtime.block_on(server.finish()));
    runtime.shutdown_background();
    drop(drain);
    served?;
    ran.context("the control loop failed")
}

/// Starts the control loop on a thread of its own; the receiver hears its end, however it ends.
fn start_turning(control: Control) -> io::Result<(JoinHandle<io::Result<()>>, oneshot::Receiver<()>)> {
    let (ended, loop_ended) = oneshot::channel();
    let turning = thread::Builder::new().name("bellows-control".to_owned()).spawn(move || {
        let result = control.run();
        let _ = ended.send(());
        result
    })?;
    Ok((turning, loop_ended))
}

/// Refuses a machine that is not ready.
fn insist(root: &Path) -> Result<(), NotReady> {
    match support::failures(&support::checks(Some(root))) {
        None => Ok(()),
        Some(text) => Err(NotReady(format!(
            "this machine is not ready (`bellows doctor` shows all checks):\n  {}",
            text.replace('\n', "\n  ")
        ))),
    }
}

/// The mounts that workloads begin with, where they are not the agent's.
fn mounts(path: Option<&Path>) -> Result<Option<Mounts>, NotReady> {
    let open = |path: &Path| {
        Mounts::open(path).map_err(|error| {
            let path = path.display();
            NotReady(format!("agent.host_mounts = {path}: no mount namespace that can be entered: {error}"))
        })
    };
    path.map(open).transpose()
}

fn restore(root: &Cgroup, workloads: &Cgroup) {
    // Where it is refused, that was told when the floors were protected first.
    if tree::restore_protection(root, workloads).unwrap_or(false) {
        crate::kernel::tell("the service manager had set back what protects the floors: it is as it was");
    }
}

fn tell_taken(taken: &Takeover, took: Duration) {
    let Takeover { running, ended, foreign } = taken;
    if *taken != Takeover::default() {
        crate::kernel::tell(&format!(
            "took over {running} workloads in {} ms ({ended} had ended, {foreign} others are left alone)",
            took.as_millis()
        ));
    }
}

/// What there is to grant: what is configured, else what policies say, else what the machine has.
fn budget(config: &Config, rules: &Ruleset, machine: Bytes) -> Budget {
    let capacity = config.node.capacity.map(|size| size.0).or(rules.node.capacity).unwrap_or(machine);
    let reserve = config.node.reserve.map(|size| size.0);
    let reserve = reserve.or(rules.node.reserve.map(|amount| amount.of(capacity)));
    let reserve = reserve.unwrap_or_else(|| control::default_reserve(capacity));
    Budget::new(capacity, reserve).with_overcommit(rules.node.overcommit)
}

/// What is read without asking the control loop.
fn seen(tree: &tree::Tree, policies: watch::Receiver<Arc<policy::Shown>>) -> api::Ground {
    let (root, workloads) = (tree.root.path().to_owned(), tree.workloads.clone());
    api::Ground { root, workloads, started_unix_ns: clock::unix_nanoseconds(), policies }
}

/// The policies to begin with. Wrong ones are refused whole: there are no older ones to fall back to, and to govern by half of
/// them, or by none, is not what the operator asked for.
fn policies(directory: &Path, node: &policy::Node) -> Result<Compiled, NotReady> {
    let compiled = policy::load(directory, *node);
    if let Some((_, problems)) = compiled.refusal() {
        let told: Vec<String> = compiled.diagnostics.iter().map(|d| d.render(&compiled.sources)).collect();
        let directory = directory.display();
        return Err(NotReady(format!(
            "problems with the policies in {directory}: {problems} (`bellows policy check`)\n{}",
            told.join("\n")
        )));
    }
    Ok(compiled)
}

/// `bellows-init` beside this executable, or where `BELLOWS_INIT` says.
fn find_init() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("BELLOWS_INIT") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("cannot find this executable")?;
    let beside = own.parent().unwrap_or(Path::new("/")).join("bellows-init");
    if !beside.exists() {
        bail!(
            "{} is missing: install it beside bellows (cargo build builds both), or name it with BELLOWS_INIT",
            beside.display()
        );
    }
    Ok(beside)
}

/// The checks that `doctor` prints and the agent insists on.
#[must_use]
pub fn checks(root: Option<&Path>) -> Vec<support::Check> {
    let found = tree::find_root(root).ok();
    support::checks(found.as_deref().or(root))
}

/// What an earlier agent kept of detached workloads, and what of it cannot be understood.
fn recover(runtime_dir: &Path) -> anyhow::Result<(Shelf, Vec<Kept>, Vec<String>)> {
    let shelf = Shelf::open(runtime_dir)
        .with_context(|| format!("cannot make a directory in {}", runtime_dir.display()))?;
    let (kept, torn) = shelf.recover()?;
    Ok((shelf, kept, torn))
}

/// Keeps a delegated cgroup for an agent that is elsewhere: a service manager removes one that nobody is in. Stays in a leaf, so that
/// the cgroup can hand its controllers on.
pub fn hold() -> anyhow::Result<()> {
    tree::hold(&tree::find_root(None)?)?;
    Manager::from_environment().ready("kept for the agent");
    loop {
        nix::unistd::pause();
    }
}

/// Opens all limits below `root` without an agent; returns how many workloads were opened and how many failed.
pub fn release_without_agent(root: Option<&Path>) -> anyhow::Result<(usize, usize)> {
    let root = match root {
        Some(root) => root.to_owned(),
        None => discover::own_cgroup().context("name the agent's root with --root")?,
    };
    let opened = crate::watchdog::open_limits(&Cgroup::open(&root)?)?;
    Ok((opened.workloads, opened.failed))
}
