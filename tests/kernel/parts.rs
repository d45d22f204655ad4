//! What a workload is given by the piece: each file says it, each holds, the next agent and other policies leave it, and what there is
//! not is refused by name.

use std::fs;
use std::path::Path;

use crate::boxed::boxed;
use crate::life::told;
use crate::policies::Policies;
use crate::rig::{Agent, Tree, eventually, is_launched, read};

/// Forks until that is refused, and tells how often it was not.
const FORK: &str = r"exec perl -e '$n = 0; while ($n < 100) { $p = fork; last unless defined $p; $p or sleep 60; $n++ } print qq($n\n); kill KILL => -1'";

/// Has 8 MiB of its own swapped out (madvise, MADV_PAGEOUT), and tells whether anything was.
const PAGE_OUT: &str = r#"perl -e '
    $text = "x" x (8 << 20); $at = (unpack("Q", pack("p", $text)) + 4095) & ~4095;
    syscall(28, $at, (8 << 20) - 8192, 21) == 0 or die "madvise: $!";
    open F, "/sys/fs/cgroup/memory.swap.current"; $out = <F>; print(($out > 0) ? "out\n" : "in\n")'"#;

/// Takes a huge page of 2 MiB, and touches it: read from nowhere into it.
const TAKE: &str = r#"perl -e '
    $at = syscall(9, 0, 2 << 20, 3, 0x40022, -1, 0); $at == -1 and print("refused\n"), exit;
    open Z, "/dev/zero"; print syscall(0, fileno(Z), $at, 4096) == 4096 ? "taken\n" : "lost\n"'"#;

/// Writes 3 MiB past the page cache, and tells after how many milliseconds that was done.
fn write_to(file: &Path) -> String {
    let file = file.display();
    format!(
        "perl -MTime::HiRes=time -e '$t = time; system(qw(dd if=/dev/zero of={file} bs=256K count=12 oflag=direct status=none)) \
         == 0 or die; printf qq(%d\\n), (time - $t) * 1000'"
    )
}

pub(crate) fn major_and_minor(device: &str) -> String {
    read(Path::new("/sys/class/block").join(device).join("dev").as_path()).trim().to_owned()
}

#[test]
fn each_file_says_it_and_holds() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let disk = major_and_minor("vda");
    let line = format!("{disk} wbps=1048576");
    let flags = [
        ["--pids", "20"],
        ["--swap", "1M"],
        ["--io-weight", "50"],
        ["--io-max", &line],
        ["--cpuset-cpus", "1"],
        ["--cpuset-mems", "0"],
        ["--hugetlb", "2MB=4M"],
    ];
    let run = agent.run_with("all", "16M..64M", &flags.concat(), &["sleep", "300"]);
    journal.wait("default/all", is_launched);
    let cgroup = agent.tree.workload("all");
    for (file, value) in [
        ("pids.max", "20"),
        ("memory.swap.max", "1048576"),
        ("io.weight", "default 50"),
        ("io.max", &format!("{disk} rbps=max wbps=1048576 riops=max wiops=max")),
        ("cpuset.cpus", "1"),
        ("cpuset.cpus.effective", "1"),
        ("cpuset.mems", "0"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ] {
        assert_eq!(read(&cgroup.join(file)).trim(), value, "{file}");
    }
    let listed: serde_json::Value =
        serde_json::from_slice(&agent.output("ps", &["--json"]).stdout).expect("JSON");
    let resources = &listed[0]["resources"];
    assert_eq!((&resources["pids"], &resources["cpuset_cpus"]), (&20.into(), &"1".into()), "{listed}");
    told(&agent, "stop", &["all", "--grace", "0s"], 0);
    assert!(matches!(run.finish().code, 137 | 143), "by whichever signal came first");

    // Its init is one, perl the other.
    assert_eq!(boxed(&agent, "forks", &["--pids", "8"], FORK).out, "6\n");
    assert_eq!(boxed(&agent, "out", &[], PAGE_OUT).out, "out\n");
    assert_eq!(boxed(&agent, "in", &["--swap", "0"], PAGE_OUT).out, "in\n");
    let cpus = "grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status | cut -f 2; nproc";
    assert_eq!(boxed(&agent, "pinned", &["--cpuset-cpus", "1", "--cpuset-mems", "0"], cpus).out, "1\n0\n1\n");
    let all = read(Path::new("/sys/fs/cgroup/cpuset.cpus.effective"));
    let free = boxed(&agent, "free", &[], "grep ^Cpus_allowed_list /proc/self/status | cut -f 2");
    assert_eq!(free.out, all, "who does not ask has all");

    fs::write("/proc/sys/vm/nr_hugepages", "4").expect("huge pages");
    let none = boxed(&agent, "none", &["--hugetlb", "2MB=0"], TAKE);
    let one = boxed(&agent, "one", &["--hugetlb", "2MB=2M"], TAKE);
    fs::write("/proc/sys/vm/nr_hugepages", "0").expect("huge pages");
    assert_eq!((none.out.as_str(), one.out.as_str()), ("refused\n", "taken\n"), "{none:?} {one:?}");
}

#[test]
fn a_disk_is_written_no_faster_than_allowed() {
    let agent = Agent::start(&[]);
    let scratch = std::env::var_os("BELLOWS_SCRATCH").expect("BELLOWS_SCRATCH is set with BELLOWS_CGROUP");
    let file = Path::new(&scratch).join("parts");
    let write = write_to(&file);
    let took = |name: &str, flags: &[&str]| -> u64 {
        let run = agent.run_with(name, "32M..64M", flags, &["sh", "-c", &write]).finish();
        run.out.trim().parse().unwrap_or_else(|_| panic!("{run:?}"))
    };
    let line = format!("{} wbps=1048576", major_and_minor("vda"));
    let (free, held) = (took("free", &[]), took("held", &["--io-max", &line]));
    fs::remove_file(&file).expect("the file");
    println!("3 MiB written in {free} ms, and in {held} ms at 1 MiB/s");
    assert!(held >= 2000 && free < held, "{free} ms, {held} ms");
}

/// What is its own, and what follows its class: the next agent, and other policies, tell them apart.
#[test]
fn the_next_agent_leaves_it() {
    let policies = Policies::new("parts", "[class.standard]\npids = 300\nmemory = { swap_max = \"8MiB\" }\n");
    let mut agent = policies.agent();
    let mut journal = agent.follow();
    let flags = ["--pids", "40", "--cpuset-cpus", "1"];
    let run = agent.run_with("own", "16M..64M", &flags, &["sleep", "300"]);
    journal.wait("default/own", is_launched);
    let cgroup = agent.tree.workload("own");
    let stands = |file: &str, value: &str| read(&cgroup.join(file)).trim() == value;
    assert!(stands("pids.max", "40") && stands("memory.swap.max", "8388608") && stands("cpuset.cpus", "1"));
    let other = agent.run("plain", "16M..64M", &["sleep", "300"]);
    journal.wait("default/plain", is_launched);
    agent.kill();
    policies.write("[class.standard]\npids = 200\nmemory = { swap_max = \"4MiB\" }\n");
    agent.restart();
    eventually("what its class says is the new one", || stands("memory.swap.max", "4194304"));
    let plain = agent.tree.workload("plain").join("pids.max");
    eventually("who has asked for nothing follows", || read(&plain).trim() == "200");
    assert!(stands("pids.max", "40"), "what it asked for stays");
    assert!(stands("cpuset.cpus", "1"));
    for (flags, said) in [
        (["--pids", "201"], "--pids 201 is refused: the class standard allows 200"),
        (["--swap", "5M"], "--swap 5 MiB is refused: the class standard allows 4 MiB"),
    ] {
        let refused = boxed(&agent, "refused", &flags, "true");
        assert!(refused.code == 5 && refused.err.contains(said), "{refused:?}");
    }
    for (name, run) in [("own", run), ("plain", other)] {
        told(&agent, "stop", &[name, "--grace", "0s"], 0);
        assert_eq!(run.finish().code, 137);
    }
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let agent = Agent::start(&[]);
    for (flags, said) in [
        (["--cpuset-cpus", "999"], "are there such cpus"),
        (["--cpuset-cpus", "some"], "is no list of numbers"),
        (["--cpuset-mems", "7"], "are there such cpus, memory nodes"),
        (["--hugetlb", "16GB=2M"], "huge pages"),
        (["--hugetlb", "7MB=2M"], "is no size of huge pages"),
        (["--io-max", "4095:9 rbps=1"], "devices"),
        (["--pids", "0"], "--pids has to be between"),
    ] {
        let refused = boxed(&agent, "refused", &flags, "true");
        assert!(refused.code != 0 && refused.err.contains(said), "{flags:?}: {refused:?}");
        assert!(!agent.tree.workload("refused").exists(), "nothing is left behind");
    }

    // A level between, which has one cpu, and hands on what bellows needs and one controller more.
    let above = Tree::new();
    let narrow = above.root.join("narrow");
    for name in ["memory", "cpu", "pids", "cpuset"] {
        fs::write(above.root.join("cgroup.subtree_control"), format!("+{name}")).expect("controllers");
    }
    fs::create_dir(&narrow).expect("cgroup");
    fs::write(narrow.join("cpuset.cpus"), "0").expect("cpus");
    let agent = Agent::start_on(Tree { root: narrow }, &[]);
    for (flags, said) in [
        (["--hugetlb", "2MB=0"], "has no controller hugetlb"),
        (["--io-weight", "50"], "has no controller io"),
        (["--cpuset-cpus", "1"], "--cpuset-cpus 1 is refused: what there is above it is 0"),
    ] {
        let refused = boxed(&agent, "refused", &flags, "true");
        assert!(refused.code != 0 && refused.err.contains(said), "{flags:?}: {refused:?}");
    }
    assert_eq!(boxed(&agent, "fine", &["--cpuset-cpus", "0-1"], "nproc").out, "1\n");
}

/// A file asks for it in the same words.
#[test]
fn a_file_asks_for_it_in_the_same_words() {
    let agent = Agent::start(&[]);
    let file = agent.runtime_dir.join("parts.toml");
    let text = "name = \"filed\"\nmemory = \"16M..64M\"\ncommand = [\"sleep\", \"300\"]\nisolation = \"tenant\"\n\
                resources = { pids = 30, swap = \"2M\", cpuset_cpus = \"0\", hugetlb = { 2MB = \"0\" } }\n";
    fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("utf-8");
    told(&agent, "apply", &[path], 0);
    let cgroup = agent.tree.workload("filed");
    let stands = |file: &str, value: &str| read(&cgroup.join(file)).trim() == value;
    assert!(stands("pids.max", "30") && stands("memory.swap.max", "2097152"));
    assert!(stands("cpuset.cpus", "0") && stands("hugetlb.2MB.max", "0"));
    assert!(told(&agent, "apply", &[path], 0).contains("default/filed"), "twice");
    fs::write(&file, text.replace("pids = 30", "pids = 31")).expect("a file");
    let differs = told(&agent, "apply", &[path, "--dry-run"], 0);
    assert!(differs.contains("resources.pids") && differs.contains("31"), "{differs}");
    let first = || read(&cgroup.join("cgroup.procs")).lines().next().map(str::to_owned);
    let before = first();
    told(&agent, "apply", &[path], 0);
    eventually("it is changed while it runs", || stands("pids.max", "31"));
    assert_eq!(first(), before);
    fs::write(&file, text.replace("hugetlb = { 2MB = \"0\" }", "hugetlb = { 2MB = \"2M\" }"))
        .expect("a file");
    let said = told(&agent, "apply", &[path, "--dry-run"], 0);
    assert!(
        said.starts_with("default/filed: would be changed while it runs\n  resources.hugetlb: "),
        "{said}"
    );
    told(&agent, "apply", &[path], 0);
    assert!(stands("hugetlb.2MB.max", "2097152") && stands("cpuset.cpus", "0"));
    // What the file says no longer is given back.
    fs::write(&file, text.replace("cpuset_cpus = \"0\", ", "")).expect("a file");
    told(&agent, "apply", &[path], 0);
    let all = read(&agent.tree.root.join("cpuset.cpus.effective"));
    assert!(stands("cpuset.cpus.effective", all.trim()) && stands("hugetlb.2MB.max", "0"));
    assert_eq!(first(), before, "all the while it runs");
    assert_eq!(told(&agent, "apply", &[path], 0), "default/filed: unchanged\n");
    // What the kernel refuses is not asked for from then on.
    fs::write(&file, text.replace("\"0\", hugetlb", "\"999\", hugetlb")).expect("a file");
    assert!(told(&agent, "apply", &[path], 5).contains("are there such cpus"));
    assert!(told(&agent, "apply", &[path, "--dry-run"], 0).contains("cpuset_cpus: - -> 999"));
    // Its next run has what it had last.
    told(&agent, "set", &["filed", "--cpuset-cpus", "1"], 0);
    told(&agent, "stop", &["filed", "--grace", "0s"], 0);
    fs::write(&file, text.replace("cpuset_cpus = \"0\"", "cpuset_cpus = \"1\"")).expect("a file");
    assert!(told(&agent, "apply", &[path], 0).starts_with("default/filed: started"));
    eventually("it has", || stands("cpuset.cpus", "1") && first().is_some_and(|pid| Some(pid) != before));
}
