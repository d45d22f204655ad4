//! Growth at full allocation speed: the limit moves before the kernel kills.

use std::fs;

use crate::rig::{Agent, Tree, is_ended, is_grow};

/// The whole matrix of threads, huge pages and swap: from 32 to 512 MiB, no kill, and the first limit move answers to the
/// tripwire, while nothing has met `memory.max` yet.
#[test]
fn full_speed_is_never_killed() {
    for swap in ["0", "max"] {
        let tree = Tree::new();
        fs::write(tree.root.join("memory.swap.max"), swap).expect("memory.swap.max");
        let agent = Agent::start_on(tree, &[]);
        let mut journal = agent.follow();
        for threads in ["1", "4", "16"] {
            for flags in
                [&[][..], &["--huge"][..], &["--populate", "4"][..], &["--huge", "--populate", "16"][..]]
            {
                let name = format!("t{threads}{}", flags.concat().replace('-', ""));
                let workload = format!("default/{name}");
                let arguments = [&["grow", "512", "--threads", threads][..], flags].concat();
                let finished = agent.load(&name, "32M..768M", &arguments).finish();
                journal.wait(&workload, is_ended);
                let moves = journal.of(&workload).iter().filter(|w| is_grow(w)).count();
                println!(
                    "swap {swap:>3}, {threads:>2} threads, {:<20} {} ({moves} grows)",
                    flags.join(" "),
                    finished.out.trim()
                );
                assert_eq!(finished.code, 0, "{workload}: {finished:?}\n{}", journal.told());
                assert!(moves > 0, "{workload} grew without a move:\n{}", journal.told());
            }
        }
        let metrics = agent.http("/metrics");
        assert!(metrics.contains("bellows_oom_kills_total 0\n"), "{metrics}");
    }
}

/// Each way of hearing does alone.
#[test]
fn either_way_of_hearing_is_enough() {
    for hearing in ["inotify", "pollpri"] {
        let directory = std::env::temp_dir().join(format!("bellows-hearing-{hearing}.toml"));
        fs::write(&directory, format!("[agent]\nhearing = \"{hearing}\"\n")).expect("config");
        let agent = Agent::start(&["--config", &directory.display().to_string()]);
        let mut journal = agent.follow();
        let finished = agent.load("grower", "32M..512M", &["grow", "256"]).finish();
        journal.wait("default/grower", is_ended);
        assert_eq!(finished.code, 0, "{hearing}: {finished:?}\n{}", journal.told());
        assert!(journal.of("default/grower").iter().any(is_grow), "{hearing}:\n{}", journal.told());
    }
}
