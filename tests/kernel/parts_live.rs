//! What a running workload is given by the piece, changed: the kernel has it when the order is answered, the journal says who asked, the
//! next agent knows it, and what the kernel refuses leaves all as it was.

use std::path::Path;
use std::process::Stdio;

use bellows::journal::{Record, What};
use serde_json::Value;

use crate::life::told;
use crate::parts::major_and_minor;
use crate::policies::Policies;
use crate::rig::{Agent, Follower, Tree, eventually, is_launched, number, read};
use crate::takeover::is_taken_over;

/// Takes a huge page of 2 MiB, and keeps it.
const KEEP: &str = r#"exec perl -e '
    $at = syscall(9, 0, 2 << 20, 3, 0x40022, -1, 0); $at == -1 and exit 9;
    open Z, "/dev/zero"; syscall(0, fileno(Z), $at, 4096) == 4096 or exit 9; sleep 300'"#;

fn is_set(what: &What) -> bool {
    matches!(what, What::SettingsChanged { .. })
}

fn is_refused(what: &What) -> bool {
    matches!(what, What::OrderRefused { order, .. } if order == "set")
}

fn resources(agent: &Agent) -> Value {
    let listed: Value = serde_json::from_slice(&agent.output("ps", &["--json"]).stdout).expect("JSON");
    listed[0]["resources"].clone()
}

fn stands(cgroup: &Path, files: &[(&str, &str)]) -> bool {
    files.iter().all(|(file, value)| read(&cgroup.join(file)).trim() == *value)
}

fn assert_stands(cgroup: &Path, files: &[(&str, &str)]) {
    for (file, value) in files {
        assert_eq!(read(&cgroup.join(file)).trim(), *value, "{file}");
    }
}

fn set(agent: &Agent, flags: &[&str], code: i32) -> String {
    told(agent, "set", &[&["web"], flags].concat(), code)
}

fn launched(agent: &Agent, flags: &[&str], command: &[&str]) -> (Follower, crate::rig::Run) {
    let mut journal = agent.follow();
    let run = agent.run_with("web", "16M..64M", flags, command);
    journal.wait("default/web", is_launched);
    (journal, run)
}

#[test]
fn each_part_is_changed_while_it_runs_and_given_back() {
    let mut agent = Agent::start(&[]);
    let (mut journal, run) = launched(&agent, &[], &["sleep", "300"]);
    let cgroup = agent.tree.workload("web");
    let first = || read(&cgroup.join("cgroup.procs")).lines().next().map(str::to_owned).expect("it runs");
    let pid = first();
    assert!(!cgroup.join("cpuset.cpus").exists(), "nobody has asked for cpus in this tree");
    let disk = major_and_minor("vda");
    let line = format!("{disk} wbps=1048576");
    let flags = [
        ["--io-weight", "50"],
        ["--io-max", &line],
        ["--cpuset-cpus", "1"],
        ["--cpuset-mems", "0"],
        ["--hugetlb", "2MB=4M"],
        ["--pids", "20"],
    ];
    let said = set(&agent, &flags.concat(), 0);
    let expected = format!(
        "pids as its class -> 20, io weight as its class -> 50, io max as its class -> {line}, cpus all -> 1, memory nodes all -> 0, huge pages all -> 2MB=4 MiB"
    );
    assert!(said.contains(&expected), "{said}");
    let max = format!("{disk} rbps=max wbps=1048576 riops=max wiops=max");
    let files = [
        ("io.weight", "default 50"),
        ("io.max", &max),
        ("cpuset.cpus", "1"),
        ("cpuset.cpus.effective", "1"),
        ("cpuset.mems", "0"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ];
    assert_stands(&cgroup, &files);
    eventually("and what the kernel has no word in", || stands(&cgroup, &[("pids.max", "20")]));
    let allowed = read(Path::new(&format!("/proc/{pid}/status")));
    assert!(allowed.contains("Cpus_allowed_list:\t1\n"), "it has moved: {allowed}");
    let record = journal.wait("default/web", is_set);
    assert_eq!(record.by.as_ref().map(|by| (by.uid, by.command.as_str())), Some((0, "bellows")));
    let What::SettingsChanged { from, to } = record.what else { unreachable!() };
    assert!(from.resources.is_empty() && to.resources.cpuset_cpus.as_deref() == Some("1"), "{to:?}");
    let shown = resources(&agent);
    assert_eq!((&shown["io_weight"], &shown["hugetlb"]["2MB"]), (&50.into(), &4_194_304.into()), "{shown}");

    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/web", is_taken_over);
    assert_stands(&cgroup, &files);
    assert_eq!(resources(&agent), shown, "the next agent knows it");

    let back = ["io-weight", "io-max", "cpuset-cpus", "cpuset-mems", "hugetlb", "pids"];
    let back: Vec<String> = back.iter().map(|flag| format!("--{flag}=class")).collect();
    set(&agent, &back.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let all = read(&agent.tree.root.join("cpuset.cpus.effective"));
    let free = [
        ("io.weight", "default 100"),
        ("io.max", ""),
        ("cpuset.cpus.effective", all.trim()),
        ("hugetlb.2MB.max", "max"),
        ("hugetlb.2MB.rsvd.max", "max"),
    ];
    assert_stands(&cgroup, &free);
    assert_eq!(
        (resources(&agent), first()),
        (Value::Null, pid),
        "it has nothing of its own, and never stopped"
    );
    agent.kill();
    agent.restart();
    agent.follow().wait("default/web", is_taken_over);
    assert_stands(&cgroup, &free);
    told(&agent, "stop", &["web", "--grace", "0s"], 0);
    assert!(matches!(run.finish().code, 137 | 143), "by whichever signal came first");
}

#[test]
fn what_is_refused_leaves_all_as_it_was() {
    let disk = major_and_minor("vda");
    let line = |most: u64| format!("{disk} wbps={most}");
    let stand = |most: u64| format!("{disk} rbps=max wbps={most} riops=max wiops=max");
    let policies = Policies::new(
        "refused-parts",
        &format!("[class.standard]\npids = 300\nio = {{ max = [\"{}\"] }}\n", line(2 << 20)),
    );
    let mut agent = policies.agent();
    std::fs::write("/proc/sys/vm/nr_hugepages", "2").expect("huge pages");
    let flags = ["--hugetlb", "2MB=4M", "--cpuset-cpus", "1"];
    let (mut journal, run) = launched(&agent, &flags, &["sh", "-c", KEEP]);
    let cgroup = agent.tree.workload("web");
    eventually("it has its huge page", || number(&cgroup.join("hugetlb.2MB.current")) == 2 << 20);
    let before = resources(&agent);
    let class = stand(2 << 20);
    let files = [
        ("io.weight", "default 100"),
        ("io.max", &class),
        ("cpuset.cpus", "1"),
        ("cpuset.cpus.effective", "1"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("pids.max", "300"),
        ("memory.low", "16777216"),
    ];
    assert_stands(&cgroup, &files);
    let (narrow, wide) = (line(1 << 20), line(4 << 20));
    // Each with what would be taken: that is not done either.
    let taken = ["--io-weight", "77", "--pids", "30", "--memory", "8M..32M"];
    for (flags, said) in [
        (["--hugetlb", "2MB=0"], "has more than that in use"),
        (["--hugetlb", "16GB=2M"], "huge pages"),
        (["--cpuset-cpus", "999"], "are there such cpus"),
        (["--cpuset-cpus", ""], "is no list of numbers"),
        (["--cpuset-mems", "7"], "are there such cpus, memory nodes"),
        (["--io-max", "4095:9 rbps=1"], "devices"),
        (["--io-max", &wide], "the class standard allows"),
    ] {
        let refused = set(&agent, &[&taken[..], &flags].concat(), 5);
        assert!(refused.contains(said), "{flags:?}: {refused}");
        assert_stands(&cgroup, &files);
        assert_eq!(resources(&agent), before, "{flags:?}");
    }
    journal.wait("default/web", is_refused);
    assert!(!journal.of("default/web").iter().any(is_set), "{}", journal.told());
    agent.kill();
    agent.restart();
    agent.follow().wait("default/web", is_taken_over);
    assert_stands(&cgroup, &files);
    assert_eq!(resources(&agent), before, "nor does the next agent know of it");

    // Its own line is beside its class's, and then that one holds again. Fewer processes than there are is fine.
    set(&agent, &["--io-max", &narrow, "--pids", "1"], 0);
    assert_stands(&cgroup, &[("io.max", &stand(1 << 20))]);
    set(&agent, &["--io-max", "class"], 0);
    assert_stands(&cgroup, &files[..2]);
    eventually("and no more", || stands(&cgroup, &[("pids.max", "1")]));
    told(&agent, "stop", &["web", "--grace", "0s"], 0);
    std::fs::write("/proc/sys/vm/nr_hugepages", "0").expect("huge pages");
    assert!(matches!(run.finish().code, 137 | 143), "by whichever signal came first");
}

/// The kernel takes cpus that the level above does not have, and gives all of that instead.
#[test]
fn cpus_that_are_not_there_are_refused() {
    let above = Tree::new();
    let narrow = above.root.join("narrow");
    for name in ["memory", "cpu", "pids", "cpuset"] {
        std::fs::write(above.root.join("cgroup.subtree_control"), format!("+{name}")).expect("controllers");
    }
    std::fs::create_dir(&narrow).expect("cgroup");
    std::fs::write(narrow.join("cpuset.cpus"), "0").expect("cpus");
    let agent = Agent::start_on(Tree { root: narrow }, &[]);
    let (_journal, run) = launched(&agent, &[], &["sleep", "300"]);
    let cgroup = agent.tree.workload("web");
    let refused = set(&agent, &["--cpuset-cpus", "1"], 5);
    assert!(refused.contains("--cpuset-cpus 1 is refused: what there is above it is 0"), "{refused}");
    for flags in [["--hugetlb", "2MB=0"], ["--io-weight", "50"]] {
        let refused = set(&agent, &flags, 5);
        assert!(refused.contains("has no controller"), "{flags:?}: {refused}");
    }
    assert_eq!((read(&cgroup.join("cpuset.cpus.effective")).trim(), resources(&agent)), ("0", Value::Null));
    drop(run);
}

/// What two want at once is one after the other, or refused: what stands is what was told last.
#[test]
fn orders_at_once_do_not_mix() {
    let agent = Agent::start(&[]);
    let (_journal, run) = launched(&agent, &[], &["sleep", "300"]);
    let cgroup = agent.tree.workload("web");
    let order = |n: usize| {
        let (cpus, weight) = [("0", "11"), ("1", "22")][n % 2];
        let mut set = agent.command("set");
        set.args(["web", "--cpuset-cpus", cpus, "--io-weight", weight]).stdout(Stdio::null());
        set.stderr(Stdio::piped()).spawn().expect("set")
    };
    let ended: Vec<_> = (0..16)
        .map(order)
        .collect::<Vec<_>>()
        .into_iter()
        .map(std::process::Child::wait_with_output)
        .collect();
    let mut done = 0;
    for output in ended {
        let output = output.expect("set");
        let said = String::from_utf8_lossy(&output.stderr);
        done += usize::from(output.status.success());
        assert!(output.status.success() || said.contains("by another order"), "{output:?}");
    }
    let records = || -> Vec<Record> {
        told(&agent, "events", &["--json"], 0)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    eventually("all are told", || records().iter().filter(|record| is_set(&record.what)).count() == done);
    let last = records().into_iter().rev().find_map(|record| match record.what {
        What::SettingsChanged { to, .. } => Some(to.resources),
        _ => None,
    });
    let last = last.expect("one of them is done");
    let cpus = last.cpuset_cpus.clone().expect("cpus");
    let weight = format!("default {}", last.io_weight.expect("a weight"));
    assert_eq!(cpus == "0", weight == "default 11", "one order's");
    eventually("it stands", || stands(&cgroup, &[("cpuset.cpus", &cpus), ("io.weight", &weight)]));
    assert_eq!(resources(&agent)["cpuset_cpus"], Value::from(cpus));
    drop(run);
}
