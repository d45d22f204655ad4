//! At its ceiling a workload ends cleanly, soon, and the end is told truthfully.

use bellows::journal::What;

use crate::rig::{Agent, Tree, is_ended};

const SECOND: u64 = 1_000_000_000;

/// It wants more than it may have: the kernel kills it, whatever the speed, and everybody says so.
#[test]
fn beyond_the_ceiling_is_out_of_memory() {
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    for (name, flags) in
        [("touch", &[][..]), ("threads", &["--threads", "16"][..]), ("slow", &["--pause-ms", "20"][..])]
    {
        let mut journal = agent.follow();
        let workload = format!("default/{name}");
        let finished = agent.load(name, "32M..96M", &[&["grow", "400"][..], flags].concat()).finish();
        assert_eq!(finished.code, 137, "{finished:?}");
        assert!(
            finished.err.contains("killed by the kernel: out of memory at its ceiling of 96 MiB"),
            "{}",
            finished.err
        );
        let ended = journal.wait(&workload, is_ended);
        // Parked at the ceiling it is from the first look that finds no more to give.
        let parked = journal.wait(&workload, |w| {
            matches!(w, What::Held { reason: bellows_policies::Reason::CeilingReached, .. })
        });
        let parked_for = ended.unix_ns - parked.unix_ns;
        println!("{name}: parked for {} ms", parked_for / 1_000_000);
        assert!(parked_for <= 5 * SECOND, "{}", journal.told());
    }
    assert!(agent.http("/metrics").contains("bellows_workloads_ended_total 3\n"));
}

/// What can never fit beside the others is failed the same way, and what fits is not.
#[test]
fn an_empty_budget_ends_cleanly_too() {
    let agent = Agent::start_on(Tree::without_swap(), &["--capacity", "200M", "--reserve", "20M"]);
    let mut journal = agent.follow();
    let holder = agent.load("holder", "64M..128M", &["grow", "100", "--hold-ms", "15000"]);
    journal.wait("default/holder", crate::rig::is_grow);
    let finished = agent.load("late", "32M..512M", &["grow", "400"]).finish();
    assert_eq!(finished.code, 137, "{finished:?}\n{}", journal.told());
    journal.wait("default/late", |w| {
        use bellows_policies::Reason::{BudgetDeferred, BudgetInfeasible};
        matches!(w, What::Held { reason: BudgetDeferred | BudgetInfeasible, .. })
    });
    journal.wait("default/late", is_ended);
    let holder = holder.finish();
    assert_eq!(holder.code, 0, "the one that fits lives: {holder:?}");
}
