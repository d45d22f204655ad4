//! The scenario: who lives on the node, what each of them is promised, and when what happens.
//!
//! ```text
//!   0 s   redis takes keys round by round until it is full, then sets the same few again and again
//!   0 s   nginx serves files; an archive job compresses logs, one after another, for as long as it is let
//!   1 s   the three report jobs run one after another, as timers would start them
//!  26 s   month's end: once redis is full, all three reports start at once
//!  48 s   the last request is offered; what is under way may still be finished
//! ```
//!
//! The budget holds everybody's use at nearly all times, but not everybody's peak, and never three reports at once.

use bellows_policies::ruleset::Base;
use bellows_policies::units::Bytes;

/// What all tenants have together, in each way: `memory.max` of the cgroup above them.
pub(crate) const BUDGET: Bytes = Bytes::mib(576);
/// For how long work is offered, seconds.
pub(crate) const LENGTH: u64 = 48;
/// For how much longer it may be finished, seconds. A machine that others use too may be several times slower.
pub(crate) const GRACE: u64 = 60;
/// When the first report starts, and the time from one to the next, seconds.
pub(crate) const REPORT_EVERY: (f64, f64) = (1.0, 8.0);
/// When all reports start at once, if redis is full by then, seconds.
pub(crate) const RUSH_AT: f64 = 26.0;

/// A tenant's workload.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Whose it is.
    pub(crate) owner: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// Its class.
    pub(crate) class: Base,
    /// What it is promised: protected under the kernel alone, the least under bellows.
    pub(crate) floor: Bytes,
    /// The most that bellows may grant it.
    pub(crate) ceiling: Bytes,
    /// Floor and ceiling of its cpu quota under bellows.
    pub(crate) cpu: &'static str,
}

/// Place of redis among the tenants.
pub(crate) const REDIS: usize = 0;
/// Place of nginx.
pub(crate) const WEB: usize = 1;
/// Place of the archive job.
pub(crate) const PACK: usize = 2;
/// Place of the first report; the others follow.
pub(crate) const REPORTS: usize = 3;

/// All of them. A report says by its floor what it needs to begin at all; that is what the agent admits it by.
pub(crate) const TENANTS: [Tenant; 6] = [
    tenant("shop", "redis", Base::Latency, 48, 216, "1..2"),
    tenant("shop", "web", Base::Latency, 48, 64, "0.5..2"),
    tenant("archive", "pack", Base::Batch, 48, 192, "0.3..2"),
    tenant("acme", "report", Base::Standard, 144, 192, "0.5..2"),
    tenant("blue", "report", Base::Standard, 144, 192, "0.5..2"),
    tenant("coda", "report", Base::Standard, 144, 192, "0.5..2"),
];

const fn tenant(
    owner: &'static str,
    name: &'static str,
    class: Base,
    floor_mib: u64,
    ceiling_mib: u64,
    cpu: &'static str,
) -> Tenant {
    Tenant { owner, name, class, floor: Bytes::mib(floor_mib), ceiling: Bytes::mib(ceiling_mib), cpu }
}

impl Tenant {
    /// As `owner/name`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// How many of tenants with these peaks a budget admits if each one's limit is its peak: the best case, smallest first.
pub(crate) fn admitted_at_peak(budget: Bytes, peaks: &[Bytes]) -> usize {
    let mut sorted = peaks.to_vec();
    sorted.sort_unstable();
    let sums = sorted.iter().scan(Bytes::ZERO, |sum, &peak| {
        *sum = sum.saturating_add(peak);
        Some(*sum)
    });
    sums.take_while(|&sum| sum <= budget).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_admitted_first() {
        let admitted = |budget, peaks: &[u64]| {
            let peaks: Vec<Bytes> = peaks.iter().map(|&mib| Bytes::mib(mib)).collect();
            admitted_at_peak(Bytes::mib(budget), &peaks)
        };
        assert_eq!(admitted(100, &[60, 30, 20]), 2);
        assert_eq!(admitted(110, &[60, 30, 20]), 3);
        assert_eq!(admitted(10, &[60, 30, 20]), 0);
        assert_eq!(admitted(10, &[]), 0);
    }

    #[test]
    fn floors_fit_but_for_the_reports_and_ceilings_do_not() {
        let pool = BUDGET.scale(0.9);
        let sum = |bytes: &mut dyn Iterator<Item = Bytes>| Bytes(bytes.map(|b| b.0).sum());
        let one_report = TENANTS[..=REPORTS].iter();
        assert!(sum(&mut one_report.map(|t| t.floor)) <= pool, "with one report all begin");
        assert!(sum(&mut TENANTS.iter().map(|t| t.ceiling)) > BUDGET, "the peaks do not fit together");
    }
}
