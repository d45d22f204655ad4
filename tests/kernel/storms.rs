//! Storms as attacks: from the box, a tenant takes as much of one thing as it can get. Each stops at a bound. A neighbour is asked before,
//! for as long as it storms, and after: p50 and p99 are printed, as are the agent's reactions and turns meanwhile. A storm that ends of itself
//! is begun again. What is asserted is generous, since a translated guest on a shared machine stutters by itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bellows::kernel::thread::set_realtime;

use crate::boxed::TENANT;
use crate::life::told;
use crate::parts::major_and_minor;
use crate::rig::{
    Agent, Finished, MIB, PATIENCE, Run, Tree, eventually, eventually_or_tell, field, is_launched, number,
    program, read,
};

/// `pids.max` of each workload here.
const PIDS: u64 = 200;
/// Requests while it is calm, before a storm and after it, and while it storms; one each 5 ms at most.
const CALM: usize = 200;
const STORMY: usize = 400;
const PACE: Duration = Duration::from_millis(5);
/// How often a storm is begun that ends of itself.
const GUSTS: usize = 6;
/// By how much the neighbour's median may suffer.
const BEARABLE: u32 = 4;

/// A neighbour in a box of its own, and how long it takes to answer.
struct Neighbour {
    child: Child,
    ask: ChildStdin,
    answer: ChildStdout,
}

/// Round trips, or what else has been measured in microseconds.
struct Samples(Vec<u32>);

impl Neighbour {
    fn start(agent: &Agent) -> Self {
        let load = program("bellows-load").display().to_string();
        let mut child = agent
            .command("run")
            .args(["--tenant", "quiet", "--name", "asked", "--memory", "32M..64M"])
            .args(TENANT)
            .args(["--", &load, "serve", "512"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bellows run");
        let (ask, answer) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut neighbour = Self { child, ask, answer };
        // Until it is warm.
        neighbour.asked(20);
        neighbour
    }

    /// By a thread above all others: what is measured is how soon the neighbour gets to its answer, and not the one who asks.
    fn asked(&mut self, times: usize) -> Samples {
        self.asked_while(times, &|| true)
    }

    /// The same, but no longer than `storms`.
    fn asked_while(&mut self, times: usize, storms: &(impl Fn() -> bool + Sync)) -> Samples {
        let ask = || {
            set_realtime().expect("root's priority");
            self.ask_all(times, storms)
        };
        std::thread::scope(|scope| scope.spawn(ask).join().expect("it has asked"))
    }

    fn ask_all(&mut self, times: usize, storms: &impl Fn() -> bool) -> Samples {
        let mut took = Vec::with_capacity(times);
        while took.len() < times && storms() {
            let begun = Instant::now();
            self.ask.write_all(b"1").expect("it is asked");
            self.answer.read_exact(&mut [0]).expect("it answers");
            let time = begun.elapsed();
            took.push(u32::try_from(time.as_micros()).expect("a time"));
            std::thread::sleep(PACE.saturating_sub(time));
        }
        took.sort_unstable();
        Samples(took)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Samples {
    fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.0.sort_unstable();
        self
    }

    fn at(&self, percent: usize) -> u32 {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }
}

/// The ground of the storms: the agent, the neighbour, and a workload of a third tenant that breathes, so that the agent has
/// something to do.
struct Ground {
    agent: Agent,
    neighbour: Neighbour,
    _breather: Run,
}

impl Ground {
    fn new(name: &str) -> Self {
        let config = std::env::temp_dir().join(format!("bellows-storms-{name}.toml"));
        fs::write(&config, format!("[workload]\npids = {PIDS}\n")).expect("config");
        // Where memory is swapped out, a hog is not ended but slowed down.
        let agent = Agent::start_on(Tree::without_swap(), &["--config", &config.display().to_string()]);
        let mut journal = agent.follow();
        let neighbour = Neighbour::start(&agent);
        let swell = ["swell", "40", "--times", "1000", "--hold-ms", "50", "--rest-ms", "150"];
        let breather = agent.load_with("breather", "16M..128M", &["--tenant", "busy"], &swell);
        journal.wait("busy/breather", is_launched);
        Self { agent, neighbour, _breather: breather }
    }

    fn storm(&self, name: &str) -> PathBuf {
        self.agent.tree.root.join("workloads/storm").join(name)
    }

    /// Lets a script storm in a box, asks the neighbour before and meanwhile, and ends it. `bounds` looks at its cgroup at the end, while it
    /// storms or after.
    fn weather(
        &mut self,
        name: &str,
        flags: &[&str],
        script: &str,
        bounds: impl FnOnce(&Agent, &Path),
    ) -> Finished {
        let begun = self.agent_since(None);
        let calm = (self.neighbour.asked(CALM), self.agent_since(None));
        let agent_calm = self.agent_since(Some(&begun));
        let flags: Vec<&str> = [&["--tenant", "storm"][..], &TENANT, flags].concat();
        let cgroup = self.storm(name);
        let blows = || !read(&cgroup.join("cgroup.procs")).is_empty();
        let mut stormy = Samples(Vec::new());
        let mut gust = 1;
        let run = loop {
            let run = self.agent.run_with(name, "32M..64M", &flags, &["sh", "-c", script]);
            eventually("it has begun", blows);
            let left = STORMY - stormy.0.len();
            stormy = stormy.and(self.neighbour.asked_while(left, &blows));
            if stormy.0.len() == STORMY || gust == GUSTS {
                break run;
            }
            run.finish();
            gust += 1;
        };
        bounds(&self.agent, &cgroup);
        let meanwhile = self.agent_since(Some(&calm.1));
        // It may have ended itself by now.
        let _ = self.agent.output("kill", &["--signal", "9", "--tenant", "storm", name]);
        let finished = run.finish();
        eventually("nothing is left of it", || !cgroup.exists());
        let calm = calm.0.and(self.neighbour.asked(CALM));
        let ((c50, c99), (s50, s99)) = ((calm.at(50), calm.at(99)), (stormy.at(50), stormy.at(99)));
        println!(
            "{name}: neighbour p50 {c50} -> {s50} us ({:.2}x), p99 {c99} -> {s99} us ({:.2}x) of {} in {gust}; agent p99: {agent_calm}-> {meanwhile}; ended {}",
            f64::from(s50) / f64::from(c50),
            f64::from(s99) / f64::from(c99),
            stormy.0.len(),
            finished.code
        );
        assert!(s50 <= c50.max(500) * BEARABLE, "{name}: the neighbour's median, {c50} -> {s50} us");
        finished
    }

    /// The agent's reactions and turns since `before`, as the buckets of its own histograms; all without.
    fn agent_since(&self, before: Option<&Told>) -> Told {
        let text = self.agent.http("/metrics");
        let counts = |name: &str| -> Vec<(String, u64)> {
            let prefix = format!("{name}_bucket{{le=\"");
            let bucket = |line: &str| {
                let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
                Some((bound.to_owned(), count.parse().ok()?))
            };
            text.lines().filter_map(bucket).collect()
        };
        let mut told = Told(["bellows_reaction_seconds", "bellows_turn_seconds"].map(counts));
        for (own, old) in told.0.iter_mut().zip(before.iter().flat_map(|told| &told.0)) {
            own.iter_mut().zip(old).for_each(|((_, count), (_, old))| *count -= old);
        }
        told
    }
}

/// Histograms of reactions and of turns.
struct Told([Vec<(String, u64)>; 2]);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (buckets, what) in self.0.iter().zip(["reactions", "turns"]) {
            let all = buckets.last().map_or(0, |(_, count)| *count);
            let bound =
                buckets.iter().find(|(_, count)| *count * 100 >= all * 99).map_or("?", |(bound, _)| bound);
            write!(f, "{all} {what} <= {bound} s ")?;
        }
        Ok(())
    }
}

/// What a script has counted last.
fn counted(finished: &Finished) -> u64 {
    finished
        .out
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or_else(|| panic!("{finished:?}"))
}

fn met(file: &Path) -> bool {
    field(file, "max") > 0
}

#[test]
fn processes() {
    let mut ground = Ground::new("processes");
    let at_most = |_: &Agent, cgroup: &Path| {
        eventually("it meets pids.max", || met(&cgroup.join("pids.events")));
        assert!(number(&cgroup.join("pids.current")) <= PIDS);
    };
    ground.weather("fork-bomb", &[], "f() { f | f & }; f; sleep 300", at_most);
    // Children that nobody waits for.
    let zombies =
        "perl -e 'while (1) { my $p = fork(); exit 0 if defined $p && !$p; sleep 1 unless defined $p }'";
    ground.weather("zombies", &[], zombies, at_most);
    let threads = "while :; do i=0; while [ $i -lt 150 ]; do sh -c 'while :; do :; done' & i=$((i+1)); done; wait; done";
    ground
        .weather("spinners", &[], threads, |_, cgroup| assert!(number(&cgroup.join("pids.current")) <= PIDS));
    let descriptors = "perl -e 'for (1..60) { fork() or last } $| = 1; while (1) { my @f; my $n = 0; 1 while open($f[$n++], \"<\", \"/dev/null\"); $told++ or print \"$n\\n\" }'";
    let finished =
        ground.weather("descriptors", &["--ulimit", "nofile=1024:1024"], descriptors, |_, cgroup| {
            let open: Vec<u64> = read(Path::new("/proc/sys/fs/file-nr"))
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            println!(
                "{} of {} files are open; the storm holds {} KiB of the kernel's",
                open[0],
                open[2],
                field(&cgroup.join("memory.stat"), "kernel") / 1024
            );
            assert!(open[0] * 2 < open[2], "{open:?}");
        });
    // It has some open before.
    let most = finished.out.lines().filter_map(|line| line.parse::<u64>().ok()).max();
    assert!(most.is_none_or(|most| most <= 1024), "{finished:?}");
}

#[test]
fn memory() {
    let mut ground = Ground::new("memory");
    let within = |_: &Agent, cgroup: &Path| {
        // It may be gone by then.
        assert!(number(&cgroup.join("memory.peak")) <= 80 * MIB, "{}", number(&cgroup.join("memory.peak")));
    };
    let load = program("bellows-load").display().to_string();
    let hog = format!("while :; do {load} grow 300; done");
    // The kernel ends all of it; it is told so, and not that we have.
    let ended = |_: &Agent, cgroup: &Path| {
        // It makes tens of thousands of directories before that, and is throttled on its way, beside others of the machine.
        let end = Instant::now() + 3 * PATIENCE;
        while cgroup.exists() {
            assert!(
                Instant::now() < end,
                "the kernel does not end it: {}",
                read(&cgroup.join("memory.stat"))
            );
            std::thread::sleep(PACE);
        }
    };
    let finished = ground.weather("hog", &[], &hog, ended);
    assert!(finished.err.contains("out of memory at its ceiling of 64 MiB"), "{finished:?}");
    // Names without content: what the kernel keeps of each is charged. At its ceiling each page for them is had by one of the program's own,
    // which is read back at once. The kernel may let that go on for minutes; then it is ended all the same.
    let directories =
        "perl -e 'mkdir(\"/dev/shm/\" . $n++ . \"x\" x 200) or $f++ while !$f; print \"$n\\n\"; sleep 300'";
    let finished = ground.weather("directories", &[], directories, ended);
    let told = |how: &str| finished.err.contains(&format!("{how} at its ceiling of 64 MiB"));
    assert!(told("out of memory") || told("thrashed"), "{finished:?}");
    let has_all = |_: &Agent, cgroup: &Path| {
        let peak = || number(&cgroup.join("memory.peak"));
        let end = Instant::now() + 3 * PATIENCE;
        while cgroup.exists() && peak() < 60 * MIB {
            assert!(Instant::now() < end, "{}", read(&cgroup.join("memory.stat")));
            std::thread::sleep(PACE);
        }
        assert!(peak() <= 80 * MIB, "{}", peak());
    };
    let shm = "while :; do dd if=/dev/zero of=/dev/shm/f bs=1M 2>/dev/null; done";
    // What is there has a size, which is met before the ceiling or after it.
    let finished = ground.weather("shm", &[], shm, has_all);
    assert_eq!(finished.code, 137, "{finished:?}");

    // Page cache: what is written to a file on a disk that the workload was given.
    let scratch = std::env::var_os("BELLOWS_SCRATCH").expect("BELLOWS_SCRATCH is set with BELLOWS_CGROUP");
    let directory = PathBuf::from(scratch).join("storm");
    fs::create_dir_all(&directory).expect("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("mode");
    let bind = format!("{}:/mnt:rw", directory.display());
    let cache =
        "while :; do dd if=/dev/zero of=/mnt/f bs=1M count=150 2>/dev/null; cat /mnt/f > /dev/null; done";
    // The disk is shared as it comes, and as an operator would share it.
    let line = format!("{} rbps=4194304 wbps=4194304", major_and_minor("vda"));
    for (name, share) in [("cache", &[][..]), ("cache-shared", &["--io-max", &line])] {
        let flags = [&["--bind", &bind], share].concat();
        ground.weather(name, &flags, cache, |agent, cgroup| {
            within(agent, cgroup);
            assert_eq!(read(&cgroup.join("io.max")).contains("wbps=4194304"), !share.is_empty());
            assert!(number(&cgroup.join("memory.current")) > 0, "it lives: cache ends nobody");
        });
    }
    fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn what_the_kernel_has_few_of() {
    let mut ground = Ground::new("few");
    // Its own cgroup is all that it sees, and there it can make none.
    let cgroups = "perl -e '$| = 1; while (1) { mkdir(\"/sys/fs/cgroup/x\" . $n++) and print \"won\\n\" }'";
    let finished = ground.weather("cgroups", &[], cgroups, |_, cgroup| {
        let below = fs::read_dir(cgroup).expect("cgroup").flatten();
        assert_eq!(below.filter(|entry| entry.path().is_dir()).count(), 0);
    });
    assert!(!finished.out.contains("won"), "{finished:?}");

    // As many as there are, and then another user of the host wants one: root, for whom the box was made.
    let inotify = "perl -MPOSIX -e '$| = 1; while (1) { my ($n, @f) = 0; while ((my $f = syscall(294, 0)) >= 0) { push @f, $f; $n++ } $told++ or print \"$n\\n\"; POSIX::close($_) for @f }'";
    let finished = ground.weather("inotify", &[], inotify, |_, _| {
        let own =
            Command::new("perl").args(["-e", "exit(syscall(294, 0) >= 0 ? 0 : 1)"]).status().expect("perl");
        assert!(own.success(), "the host's root has none left");
    });
    assert!((1..=128).contains(&counted(&finished)), "{finished:?}");

    let terminals = "perl -e '$| = 1; while (1) { my @f; my $n = 0; $n++ while open($f[$n], \"+<\", \"/dev/ptmx\"); $told++ or print \"$n\\n\" }'";
    let finished = ground.weather("terminals", &["--ulimit", "nofile=4096:4096"], terminals, |_, _| {
        fs::File::open("/dev/ptmx").expect("the host's root opens a terminal");
    });
    assert_eq!(counted(&finished), 128, "{finished:?}");
}

#[test]
fn words() {
    let mut ground = Ground::new("words");
    let begun = ground.agent_since(None);
    let calm = ground.neighbour.asked(CALM);
    let (before, agent_calm) = (ground.agent_since(None), ground.agent_since(Some(&begun)));
    let base = ["--tenant", "storm", "--name", "words", "--memory", "16M..64M", "--detach"];
    let bounds = ["--log-size", "64K", "--log-files", "3", "--", "yes", "a line of which there are many"];
    told(&ground.agent, "run", &[&base[..], &TENANT, &bounds].concat(), 0);
    let log = ground.agent.runtime_dir.join("workloads/storm/words");
    eventually("it has been all around", || log.join("log.2").exists());
    let stormy = ground.neighbour.asked(STORMY);
    println!(
        "words: neighbour p50 {} -> {} us, p99 {} -> {} us; agent p99: {agent_calm}-> {}",
        calm.at(50),
        stormy.at(50),
        calm.at(99),
        stormy.at(99),
        ground.agent_since(Some(&before))
    );
    let size: u64 =
        ["log", "log.1", "log.2"].iter().filter_map(|name| Some(log.join(name).metadata().ok()?.len())).sum();
    assert!(size <= 3 * 64 * 1024 && !log.join("log.3").exists(), "{size}");
    assert!(stormy.at(50) <= calm.at(50).max(500) * BEARABLE);
    told(&ground.agent, "stop", &["--tenant", "storm", "words", "--grace", "0s"], 0);
    let tree = &ground.agent.tree.root;
    eventually_or_tell("it is over", || !tree.join("workloads/storm/words").exists(), String::new);
}
