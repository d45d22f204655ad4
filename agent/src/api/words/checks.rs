//! The evidence as a table: each value against what it was held to, and whether that was met. By the constants of the law that
//! decided, which the journal keeps.

use bellows_policies::cpu::{CpuEvidence, CpuLaw, CpuRule, Cpus};
use bellows_policies::evidence::Growth;
use bellows_policies::units::{Bytes, PAGE};
use bellows_policies::{Evidence, Law, MemoryLaw, Reason};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) what: &'static str,
    pub(crate) value: String,
    /// What it was held to; empty where it only went into the sum.
    pub(crate) threshold: String,
    /// Whether that was met; `None` where nothing had to be.
    pub(crate) met: Option<bool>,
}

pub(crate) fn check(what: &'static str, value: String, threshold: String, met: bool) -> Check {
    Check { what, value, threshold, met: Some(met) }
}

pub(crate) fn plain(what: &'static str, value: String) -> Check {
    Check { what, value, threshold: String::new(), met: None }
}

/// The evidence of a decision about memory.
pub(crate) fn memory(evidence: &Evidence, reason: Reason, law: &Law) -> Vec<Check> {
    let Evidence { current, high, need, .. } = *evidence;
    let mut checks = vec![match evidence.law {
        MemoryLaw::Launch => plain("floor", size(evidence.floor)),
        MemoryLaw::Slack
        | MemoryLaw::Band
        | MemoryLaw::Reclaim
        | MemoryLaw::Probe
        | MemoryLaw::Rearm
        | MemoryLaw::SqueezeSlack
        | MemoryLaw::SqueezeCache
        | MemoryLaw::Pin
        | MemoryLaw::SqueezeFrozen
        | MemoryLaw::Floor => plain("use", size(current)),
        MemoryLaw::Grow
        | MemoryLaw::Relieve
        | MemoryLaw::RearmAbove
        | MemoryLaw::TakeBack
        | MemoryLaw::Stall
        | MemoryLaw::Thrash
        | MemoryLaw::Hold => check("use", size(current), format!("memory.high {high}"), current >= high),
    }];
    match evidence.law {
        MemoryLaw::Grow | MemoryLaw::Relieve | MemoryLaw::RearmAbove => {
            let counted = if evidence.law == MemoryLaw::Relieve { 0 } else { evidence.rate };
            checks.extend(verdict(evidence.growth.as_ref(), reason, law));
            checks.push(plain("growth", rate(evidence.rate)));
            checks.push(plain("step", size(law.step(current, counted, evidence.streak))));
            checks.push(ceiling(evidence));
        }
        MemoryLaw::TakeBack => checks.extend(verdict(evidence.growth.as_ref(), reason, law)),
        MemoryLaw::Slack => {
            let saved = high.saturating_sub(evidence.want);
            let least = law.slack_min.max(high.scale(law.slack_share));
            let (unused, hold) = (evidence.held_ms, evidence.hold_ms);
            checks.push(check(
                "unused for",
                time(unused),
                format!("at least {}", time(hold)),
                unused >= hold,
            ));
            checks.push(plain("highest use meanwhile", size(evidence.peak)));
            checks.push(check("saved", size(saved), format!("at least {least}"), saved >= least));
            checks.push(check("need", size(need), format!("below {}", evidence.want), need <= evidence.want));
        }
        MemoryLaw::Band => {
            let band = evidence.max.saturating_sub(high);
            let own = law.band(high, evidence.threads, evidence.fastest);
            checks.push(check("memory.max above memory.high", size(band), format!("band {own}"), band > own));
            checks.push(plain("fastest growth in memory", rate(evidence.fastest)));
        }
        MemoryLaw::Reclaim | MemoryLaw::Probe => {
            let (waits, most) = (evidence.waits, law.reclaim_pressure);
            checks.push(check("time waited", share(waits), format!("below {}", share(most)), waits < most));
            checks.push(plain("clean page cache", size(evidence.cache)));
        }
        MemoryLaw::SqueezeSlack | MemoryLaw::SqueezeCache | MemoryLaw::SqueezeFrozen => {
            let Evidence { asked, spare, cold, .. } = *evidence;
            if evidence.law == MemoryLaw::SqueezeCache {
                checks.push(plain("cold page cache", size(cold)));
            }
            let is_spare = asked <= spare.page_ceil();
            checks.push(check(
                "asked on behalf of another",
                size(asked),
                format!("to spare {spare}"),
                is_spare,
            ));
        }
        MemoryLaw::Pin => checks.push(plain("pinned at", size(evidence.asked))),
        MemoryLaw::Floor => {
            let floor = evidence.floor;
            checks.push(check("memory.high", size(high), format!("below the floor {floor}"), high < floor));
        }
        MemoryLaw::Stall | MemoryLaw::Thrash => {
            let is_stall = evidence.law == MemoryLaw::Stall;
            let (what, most) =
                if is_stall { ("stalled for", law.stall_ms) } else { ("thrashed for", law.thrash_ms) };
            let stalled = evidence.stalled_ms;
            if !is_stall {
                checks.push(plain("page cache left", size(evidence.cache)));
            }
            checks.push(check(what, time(stalled), format!("at least {}", time(most)), stalled >= most));
            checks.push(ceiling(evidence));
        }
        MemoryLaw::Hold => {
            checks.extend(verdict(evidence.growth.as_ref(), reason, law));
            if reason == Reason::CeilingReached {
                checks.push(ceiling(evidence));
            }
        }
        MemoryLaw::Launch | MemoryLaw::Rearm => {}
    }
    if need > Bytes::ZERO && checks.iter().all(|check| check.what != "need") {
        checks.push(plain("need", size(need)));
    }
    checks.extend(swap(evidence));
    checks.extend(budget(evidence));
    checks
}

/// Whether what is anonymous can leave; only where something is swapped out, or a stall says that it cannot.
fn swap(evidence: &Evidence) -> Vec<Check> {
    let Evidence { swapped, swap_room, swap_kept_permille, .. } = *evidence;
    let is_stall = matches!(evidence.law, MemoryLaw::Stall | MemoryLaw::Thrash) || evidence.stalled_ms > 0;
    if swapped == Bytes::ZERO && !is_stall {
        return Vec::new();
    }
    let room = if swap_room == Bytes::ZERO {
        "no room for more".to_owned()
    } else {
        format!("room for {swap_room}")
    };
    let mut checks = vec![plain("swapped out", format!("{swapped}, {room}"))];
    if swap_kept_permille > 0 {
        let kept = f64::from(swap_kept_permille) / 1000.0;
        checks.push(plain("of that in RAM still, compressed", share(kept)));
    }
    checks
}

fn ceiling(evidence: &Evidence) -> Check {
    let at = evidence.high.0 + PAGE > evidence.ceiling.0;
    check("memory.high", size(evidence.high), format!("ceiling {}", evidence.ceiling), at)
}

fn budget(evidence: &Evidence) -> Vec<Check> {
    let asked = evidence.want.saturating_sub(evidence.high);
    let Some(free) = evidence.free.filter(|_| asked > Bytes::ZERO) else { return Vec::new() };
    let mut checks = vec![check("asked for", size(asked), format!("free {free}"), asked <= free)];
    if let Some(granted) = evidence.granted {
        checks.push(plain("granted of it", size(granted.saturating_sub(evidence.high))));
    }
    if evidence.waited_ms > 0 {
        checks.push(plain("waited", time(evidence.waited_ms)));
    }
    checks
}

/// Need or cache: what each reason looks at.
fn verdict(growth: Option<&Growth>, reason: Reason, law: &Law) -> Vec<Check> {
    let Some(growth) = growth else { return Vec::new() };
    let spent = &growth.time;
    let grew = law.need_grew_min.max(growth.grew.scale(law.need_grew_share));
    let half = growth.high.scale(law.need_share);
    let mut checks = vec![
        check("need grew by", size(growth.need_grew), format!("at least {grew}"), growth.need_grew >= grew),
        check("need", size(growth.need), format!("at least {half}"), growth.need >= half),
    ];
    let (refaults, waits) = (law.refault_share, law.pressure_share);
    if matches!(reason, Reason::RefaultsRose | Reason::CacheHeld | Reason::CacheTakenBack) {
        let least = format!("at least {}", share(refaults));
        checks.push(check("pages that came back", share(spent.refaults), least, spent.refaults >= refaults));
    }
    if matches!(reason, Reason::RefaultsRose | Reason::StallRose | Reason::CacheHeld) {
        let least = if reason == Reason::RefaultsRose { waits / 2.0 } else { waits };
        let text = format!("at least {}", share(least));
        checks.push(check("time waited", share(spent.some), text, spent.some >= least));
    }
    if spent.scanned > 0 && matches!(reason, Reason::StallRose | Reason::CacheHeld | Reason::CacheTakenBack) {
        let text = format!("below {}", share(law.cheap_reclaim));
        let met = spent.efficiency < law.cheap_reclaim;
        checks.push(check("pages taken of those looked at", share(spent.efficiency), text, met));
    }
    checks
}

/// The evidence of a decision about a quota.
pub(crate) fn cpu(evidence: &CpuEvidence, law: &CpuLaw) -> Vec<Check> {
    let CpuEvidence { quota, used, rho, .. } = *evidence;
    let mut checks = vec![plain("quota", cpus(quota)), plain("use", cpus(used))];
    match evidence.law {
        CpuRule::Grow => {
            let most = law.grow_at * law.throttled_target;
            let text = if evidence.is_first { "any, after a time without".to_owned() } else { share(most) };
            let met = evidence.is_first || rho > most;
            checks.push(check("throttled periods", share(rho), text, met));
            if !evidence.is_first {
                let (window, target) = (evidence.rho_window, law.throttled_target);
                checks.push(check("over the window", share(window), share(target), window > target));
            }
            let at = evidence.want >= evidence.ceiling;
            checks.push(check("wanted", cpus(evidence.want), format!("ceiling {}", evidence.ceiling), at));
            checks.push(plain("the node uses", cpus(evidence.node_used)));
            if let Some(granted) = evidence.granted {
                checks.push(plain("the node's guard gave", cpus(granted)));
            }
        }
        CpuRule::Shrink => {
            let most = quota.scale(law.shrink_at);
            checks.push(check(
                "highest use",
                cpus(evidence.most),
                format!("below {most}"),
                evidence.most < most,
            ));
            checks.push(plain("margin", format!("{:.2} deviations", evidence.margin)));
        }
        CpuRule::Shed => {
            checks.push(plain("the node uses", cpus(evidence.node_used)));
            checks.push(plain("its part of what is too much", cpus(evidence.part)));
        }
        CpuRule::Squeeze => checks.push(plain("lent of its use", cpus(evidence.part))),
        CpuRule::GiveBack => checks.extend(evidence.before.map(|before| plain("quota before", cpus(before)))),
        CpuRule::Hold | CpuRule::PutBackUp | CpuRule::PutBackDown => {}
    }
    checks
}

pub(crate) fn size(bytes: Bytes) -> String {
    bytes.to_string()
}

fn cpus(cpus: Cpus) -> String {
    format!("{cpus} cpus")
}

fn rate(bytes: u64) -> String {
    format!("{}/s", Bytes(bytes))
}

fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub(crate) fn time(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}
