//! An agent killed at two hundred random moments of an order: launch, set, stop, freeze, thaw, exec. After the next start nobody
//! who was told of is lost, nothing is half-made, no limit is out of bounds, and each order is done or not done. The moments are
//! seeded; the seeds are printed.
//!
//! An order that was answered is done. One that was not may be either, as far as its client knows: so it is looked which, and that it
//! is so in all places at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bellows::api::types::WorkloadView;
use bellows::control::Launched;
use bellows::workload::isolation::Isolation;
use serde_json::json;

use crate::asking::{Answer, ask, launch, spec, token};
use crate::rig::{Agent, MIB, Tree, eventually, eventually_or_tell, number, read};
use crate::takeover_moments::Random;

const KILLS: usize = 200;
const SEEDS: [u64; 2] = [0x5eed_0005, 0x5eed_0006];
/// The latest moment of a kill, as a multiple of the shortest time that an order of its kind took without one.
const LATEST: f64 = 1.6;
/// More of them are not running at a time.
const MOST: usize = 8;
/// Of a resized workload, in turns: floor and ceiling, MiB.
const SIZES: [(u64, u64); 2] = [(16, 64), (24, 96)];
/// Its cpus at each, which the kernel has a word in.
const CPUS: [&str; 2] = ["0", "1"];
/// The room of `memory.max` above a ceiling.
const BAND: u64 = 32 * MIB;

const RESIZED: &str = "resized";
const FROZEN: &str = "frozen";
const ENTERED: &str = "entered";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Launch,
    Set,
    Stop,
    /// Freeze what runs, thaw what is frozen.
    Pause,
    Exec,
}

/// An order with all that it needs.
#[derive(Debug, Clone)]
struct Order {
    kind: Kind,
    /// Of the workload.
    name: String,
    /// Launches are of all kinds, in turns.
    is_detached: bool,
    is_boxed: bool,
    /// Which of [`SIZES`]; whether it is to stand still; which line it writes.
    to: usize,
}

/// The agent, and what it has promised so far.
struct Scene {
    agent: Agent,
    /// Who runs, by name, and as which pid.
    running: BTreeMap<String, i32>,
    size: usize,
    is_frozen: bool,
    lines: usize,
    launched: usize,
    lines_file: PathBuf,
    /// How many orders of each kind were done and answered, done and not answered, and not done.
    told: BTreeMap<Kind, [usize; 3]>,
}

fn order(agent: &Agent, lines: &Path, order: &Order) -> Answer {
    let name = &order.name;
    let path = |verb: &str| format!("/api/v1/workloads/default/{name}/{verb}");
    let post = |path: &str, body: &str| ask(&agent.runtime_dir, "POST", path, body);
    match order.kind {
        Kind::Launch => {
            let isolation = if order.is_boxed { Isolation::tenant() } else { Isolation::default() };
            let spec = spec(name, "16M..64M", isolation, &["sleep", "3600"]);
            launch(&agent.runtime_dir, spec, order.is_detached)
        }
        Kind::Set => {
            let (floor, ceiling) = SIZES[order.to];
            let bounds = json!({ "floor": floor * MIB, "ceiling": ceiling * MIB });
            let change = json!({ "memory": { "own": bounds }, "cpuset_cpus": { "own": CPUS[order.to] } });
            post(&path("set"), &change.to_string())
        }
        Kind::Stop => post(&path("stop"), "{}"),
        Kind::Pause => post(&path(if order.to == 1 { "freeze" } else { "thaw" }), "{}"),
        Kind::Exec => {
            let Ok((_connection, token)) = token(&agent.runtime_dir) else { return Answer::None };
            let script = format!("echo {} >> {}", order.to, lines.display());
            let body = json!({ "argv": ["/bin/sh", "-c", script], "cwd": "/", "stdio": token });
            post(&path("exec"), &body.to_string())
        }
    }
}

impl Scene {
    fn new() -> Self {
        let agent = Agent::start_on(Tree::without_swap(), &[]);
        let lines_file = agent.runtime_dir.join("lines");
        fs::write(&lines_file, "").expect("a file");
        let mut scene = Self {
            agent,
            running: BTreeMap::new(),
            size: 0,
            is_frozen: false,
            lines: 0,
            launched: 0,
            lines_file,
            told: BTreeMap::new(),
        };
        for name in [RESIZED, FROZEN, ENTERED] {
            let isolation = Isolation::default();
            let spec = spec(name, "16M..64M", isolation, &["sleep", "3600"]);
            let answer = launch(&scene.agent.runtime_dir, spec, true);
            scene.is_launched(name, &answer);
        }
        scene
    }

    fn is_launched(&mut self, name: &str, answer: &Answer) {
        let Answer::Done(body) = answer else { panic!("{name}: {answer:?}") };
        let launched: Launched = serde_json::from_str(body).expect("launched");
        self.running.insert(name.to_owned(), launched.pid);
    }

    /// The next order of a kind.
    fn next(&mut self, kind: Kind) -> Order {
        let to_end = self.running.keys().find(|name| name.starts_with("one-")).cloned();
        let mut order = Order { kind, name: String::new(), is_detached: false, is_boxed: false, to: 0 };
        match (kind, to_end) {
            (Kind::Stop, Some(name)) => order.name = name,
            (Kind::Launch | Kind::Stop, _) => {
                self.launched += 1;
                order.kind = Kind::Launch;
                order.name = format!("one-{}", self.launched);
                (order.is_detached, order.is_boxed) =
                    (self.launched.is_multiple_of(2), self.launched.is_multiple_of(3));
            }
            (Kind::Set, _) => (order.name, order.to) = (RESIZED.to_owned(), 1 - self.size),
            (Kind::Pause, _) => (order.name, order.to) = (FROZEN.to_owned(), usize::from(!self.is_frozen)),
            (Kind::Exec, _) => {
                self.lines += 1;
                (order.name, order.to) = (ENTERED.to_owned(), self.lines);
            }
        }
        order
    }

    /// Gives it, and kills the agent after `moment`, if there is one; what was answered, and when.
    fn give(&mut self, given: &Order, moment: Option<Duration>) -> (Answer, Duration) {
        let (agent, lines) = (&self.agent, &self.lines_file);
        let begun = Instant::now();
        let answered = thread::scope(|scope| {
            let client = scope.spawn(|| (order(agent, lines, given), begun.elapsed()));
            if let Some(moment) = moment {
                thread::sleep(moment);
                agent.signal(nix::sys::signal::Signal::SIGKILL);
            }
            client.join().expect("client")
        });
        if moment.is_some() {
            self.agent.restart();
        }
        answered
    }

    fn views(&self) -> Vec<WorkloadView> {
        match ask(&self.agent.runtime_dir, "GET", "/api/v1/workloads", "") {
            Answer::Done(body) => serde_json::from_str(&body).expect("workloads"),
            other => panic!("{other:?}"),
        }
    }

    fn view(&self, name: &str) -> Option<WorkloadView> {
        self.views().into_iter().find(|view| view.name == name)
    }

    /// Whether it runs; it may be about to end, or to begin.
    fn settled(&self, name: &str) -> Option<WorkloadView> {
        let is_settled = |view: &Option<WorkloadView>| {
            view.as_ref()
                .is_none_or(|view| !matches!(view.state.as_str(), "created" | "starting" | "stopping"))
        };
        let told = || format!("{:?}", self.view(name));
        eventually_or_tell(&format!("{name} runs or does not"), || is_settled(&self.view(name)), told);
        self.view(name).filter(|view| matches!(view.state.as_str(), "running" | "frozen"))
    }

    /// What came of an order, and that it is so everywhere.
    fn account(&mut self, order: &Order, answer: &Answer) {
        let name = order.name.as_str();
        let settled = self.settled(name);
        let cgroup = self.agent.tree.workload(name);
        let is_answered = matches!(answer, Answer::Done(_));
        let is_done = match order.kind {
            Kind::Launch => {
                if let Some(view) = &settled {
                    self.running.insert(name.to_owned(), view.pid);
                } else {
                    eventually("nothing of it is left", || !cgroup.exists());
                    if order.is_detached && self.view(name).is_some() {
                        // It is told that it was cut short, and can be forgotten.
                        let path = format!("/api/v1/workloads/default/{name}/rm");
                        let removed = ask(&self.agent.runtime_dir, "POST", &path, "{}");
                        assert!(matches!(removed, Answer::Done(_)), "{name}: {removed:?}");
                    }
                }
                settled.is_some()
            }
            Kind::Stop => {
                if settled.is_none() {
                    self.running.remove(name);
                    eventually("nothing of it is left", || !cgroup.exists());
                }
                settled.is_none()
            }
            Kind::Set => {
                let WorkloadView { memory, resources, .. } = settled.expect("it runs");
                let bounds = |at: usize| (SIZES[at].0 * MIB, SIZES[at].1 * MIB);
                let found = (memory.floor.0, memory.ceiling.0);
                let is_done = found == bounds(order.to);
                assert!(is_done || found == bounds(self.size), "{order:?}: {memory}");
                self.size = if is_done { order.to } else { self.size };
                // Before the first one it has none of its own.
                if let Some(cpus) = resources.cpuset_cpus {
                    assert_eq!(cpus, CPUS[self.size], "{order:?}: done by halves");
                    let file = cgroup.join("cpuset.cpus");
                    eventually("its cpus are those that are told", || read(&file).trim() == cpus);
                }
                is_done
            }
            Kind::Pause => {
                let is_frozen = settled.expect("it is there").state == "frozen";
                let is_still = read(&cgroup.join("cgroup.freeze")).starts_with('1');
                assert_eq!(is_frozen, is_still, "{order:?}: told and done");
                self.is_frozen = is_frozen;
                is_frozen == (order.to == 1)
            }
            Kind::Exec => {
                let is_line = |line: &str| line == order.to.to_string();
                // Nobody waits for it where its agent is dead: it may be about to write.
                let end = Instant::now() + Duration::from_millis(if is_answered { 0 } else { 100 });
                while Instant::now() < end && !read(&self.lines_file).lines().any(is_line) {
                    thread::sleep(Duration::from_millis(10));
                }
                let count = read(&self.lines_file).lines().filter(|line| is_line(line)).count();
                assert!(count <= 1, "{order:?} was carried out {count} times");
                count == 1
            }
        };
        assert!(is_done || !is_answered, "{order:?} was answered, and is not done");
        let place = if is_done { usize::from(!is_answered) } else { 2 };
        self.told.entry(order.kind).or_default()[place] += 1;
    }

    /// Whoever was told to run does so, as who it was; nobody else is there; limits are in bounds.
    fn check(&self, order: &Order) {
        let views = self.views();
        for (name, pid) in &self.running {
            let view = views.iter().find(|view| view.name == *name);
            let Some(view) = view else { panic!("{name} is lost after {order:?}") };
            let state = if name == FROZEN && self.is_frozen { "frozen" } else { "running" };
            assert_eq!((view.state.as_str(), view.pid), (state, *pid), "{name} after {order:?}");
            let (floor, ceiling) = if name == RESIZED { SIZES[self.size] } else { SIZES[0] };
            let (floor, ceiling) = (floor * MIB, ceiling * MIB);
            let cgroup = self.agent.tree.workload(name);
            let limits = || {
                let file = |file: &str| number(&cgroup.join(file));
                (file("memory.high"), file("memory.max"), file("memory.min").max(file("memory.low")))
            };
            let is_fine = || {
                let (high, max, protected) = limits();
                let high = high == u64::MAX || (floor..=ceiling).contains(&high);
                high && (floor + 4 * MIB..=ceiling + BAND).contains(&max) && protected == floor
            };
            // A floor that was raised, and what is written by the workers, take a moment.
            let told = || format!("{name}, {floor}..{ceiling}, after {order:?}: {:?}", limits());
            eventually_or_tell("its limits are in bounds", is_fine, told);
        }
        let tenant = self.agent.tree.root.join("workloads/default");
        let strays = || -> Vec<String> {
            let entries = fs::read_dir(&tenant).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| !self.running.contains_key(name)).collect()
        };
        eventually_or_tell("no half-made cgroup", || strays().is_empty(), || format!("{:?}", strays()));
    }
}

/// Two agents at once, each killed at half of the moments: most of the time is spent waiting.
#[test]
fn killed_in_the_middle_of_two_hundred_orders() {
    let told = thread::scope(|scope| {
        let halves = SEEDS.map(|seed| scope.spawn(move || killed_in_the_middle_of(KILLS / 2, seed)));
        halves.map(|half| half.join().expect("a half"))
    });
    for kind in [Kind::Launch, Kind::Stop] {
        let count = |place: usize| -> usize { told.iter().map(|told| told[&kind][place]).sum() };
        assert!(count(0) + count(1) > 0 && count(2) > 0, "kills meet orders before and after: {kind:?}");
    }
}

/// What was told of each kind of order.
fn killed_in_the_middle_of(kills: usize, seed: u64) -> BTreeMap<Kind, [usize; 3]> {
    let mut scene = Scene::new();
    let kinds = [Kind::Launch, Kind::Set, Kind::Stop, Kind::Pause, Kind::Exec];
    // To know how long each takes of an agent that has just begun. Twice, so that a stop finds somebody, and a thaw is among them.
    let mut latest = BTreeMap::new();
    for kind in [kinds, kinds].concat() {
        let order = scene.next(kind);
        scene.agent.kill();
        scene.agent.restart();
        let (answer, took) = scene.give(&order, None);
        assert!(matches!(answer, Answer::Done(_)), "{order:?}: {answer:?}");
        scene.account(&order, &answer);
        let shortest = latest.entry(order.kind).or_insert(took);
        *shortest = took.min(*shortest);
    }
    scene.told.clear();
    println!("seed {seed:#x}, orders take {latest:?} at least");

    let (began, mut random) = (Instant::now(), Random(seed));
    for _ in 0..kills {
        let drawn = match random.below(10) {
            0..4 => Kind::Launch,
            4..7 => Kind::Stop,
            7 => Kind::Set,
            8 => Kind::Pause,
            _ => Kind::Exec,
        };
        let kind = if drawn == Kind::Launch && scene.running.len() >= MOST { Kind::Stop } else { drawn };
        let order = scene.next(kind);
        let moment = latest[&order.kind].mul_f64(LATEST * random.below(1000) as f64 / 1000.0);
        let (answer, _) = scene.give(&order, Some(moment));
        scene.account(&order, &answer);
        scene.check(&order);
    }
    let took = began.elapsed().as_secs_f64();
    println!("{kills} kills in {took:.1} s; answered, done without an answer, not done: {:?}", scene.told);
    let told = scene.told.clone();

    // Everything can be ended, and then nothing is left.
    if scene.is_frozen {
        let order = scene.next(Kind::Pause);
        let (answer, _) = scene.give(&order, None);
        scene.account(&order, &answer);
    }
    for name in scene.running.keys() {
        let path = format!("/api/v1/workloads/default/{name}/stop");
        let answer = ask(&scene.agent.runtime_dir, "POST", &path, "{}");
        assert!(matches!(answer, Answer::Done(_)), "{name}: {answer:?}");
    }
    let tenant = scene.agent.tree.root.join("workloads/default");
    let left = || fs::read_dir(&tenant).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).count();
    eventually("nothing is left", || left() == 0);
    told
}
