//! The composition root: builds every part, runs them, and takes them down in order. The only file that names them all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, bail};
use bellows_policies::{Budget, Law};
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::config::{Config, OnExit};
use crate::control::{self, Command, Control, LaunchLimits, Takeover};
use crate::journal;
use crate::kernel::{clock, discover, feature::can_reclaim, spawn::Program, support};
use crate::metrics::Metrics;
use crate::watchdog::Heartbeat;
use crate::workload::records::Records;
use crate::workload::supervisor::Ground;
use crate::workload::{takeover, tree};

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let started = clock::now();
    let root = tree::find_root(config.root.as_deref())?;
    if let Some(text) = support::failures(&support::checks(Some(&root))) {
        bail!(
            "this machine is not ready (`bellows doctor` shows all checks):\n  {}",
            text.replace('\n', "\n  ")
        );
    }
    let init = find_init()?;
    let tree = tree::take(&root)?;
    let open_files = crate::kernel::thread::protect_process();

    let machine = tree::capacity(&tree.root).context("cannot find out how much memory there is")?;
    let capacity = config.node.capacity.map_or(machine, |size| size.0);
    let reserve = config.node.reserve.map_or_else(|| control::default_reserve(capacity), |size| size.0);
    let budget = Budget::new(capacity, reserve).with_overcommit(config.node.overcommit);
    let pool = budget.pool();
    // Before anything is taken over: should this agent die meanwhile, somebody must open what it governs by then.
    let mut heartbeat = Heartbeat::start(tree.root.path()).context("cannot start the watchdog")?;

    let ground = Arc::new(Ground {
        workloads: tree.workloads.clone(),
        records: Records::open(&config.runtime_dir)
            .with_context(|| format!("cannot make {}", config.runtime_dir.display()))?,
        init: Program::load(&init, open_files).with_context(|| format!("cannot load {}", init.display()))?,
    });
    let findings = takeover::find(&ground, || {
        heartbeat.beat(clock::now());
    })?;
    let ends = ground.records.recover(&findings.ids())?;
    let metrics = Arc::new(Metrics::new()?);
    let reclaim_factor = if can_reclaim(&tree.workloads) { config.memory.reclaim_factor } else { 0.0 };
    let law = Law { reclaim_factor, ..config.memory };
    let (writer, readers, drain) = journal::open()?;
    let (mut control, handle) = Control::new(control::Parts {
        ground,
        budget,
        tenants: config.tenants(),
        law,
        node_law: config.cpu,
        launch_limits: LaunchLimits { pids: config.workload.pids },
        hearing: config.agent.hearing,
        journal: writer,
        readers,
        metrics: Arc::clone(&metrics),
        heartbeat: Some(heartbeat),
    })?;
    let taken = control.take_over(findings, ends);
    let took = clock::now().since(started);
    metrics.takeover.set(took.as_secs_f64());
    let (ended, loop_ended) = tokio::sync::oneshot::channel();
    let loop_thread = thread::Builder::new().name("bellows-control".to_owned()).spawn(move || {
        let result = control.run();
        let _ = ended.send(());
        result
    })?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = api::serve(&handle, &config.runtime_dir, config.http.listen).await?;
        crate::kernel::tell(&format!("governing {}", root.display()));
        if taken != Takeover::default() {
            let Takeover { running, ended, foreign } = taken;
            crate::kernel::tell(&format!(
                "took over {running} workloads in {} ms ({ended} had ended, {foreign} others are left alone)",
                took.as_millis()
            ));
        }
        crate::kernel::tell(&format!("granting {pool} (capacity {capacity}, reserve {reserve})"));
        crate::kernel::tell(&format!("metrics at http://{}/metrics", server.address));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Of itself it ends only by failing: then this process must end too, and its watchdog see that.
            _ = loop_ended => {}
        }
        anyhow::Ok(server)
    });
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

/// Opens all limits below `root` without an agent; returns how many workloads were opened and how many failed.
pub fn release_without_agent(root: Option<&Path>) -> anyhow::Result<(usize, usize)> {
    let root = match root {
        Some(root) => root.to_owned(),
        None => discover::own_cgroup().context("name the agent's root with --root")?,
    };
    let opened = crate::watchdog::open_limits(&crate::kernel::Cgroup::open(&root)?)?;
    Ok((opened.workloads, opened.failed))
}
