//! The rules of the budget: node and tenants are granted what their workloads hold, and no more than they may be.

use bellows_policies::Bytes;
use bellows_policies::budget::LEAST_PART;

use crate::agent::Agent;
use crate::node::Node;

/// What the budget says of node and tenants is what their workloads hold, and not above pool and cap.
pub(crate) fn add_up(agent: &mut Agent, node: &mut Node, id: u64) {
    let now = node.now;
    let mut held = vec![Bytes::ZERO; agent.tenants.len()];
    for (&id, entry) in &agent.entries {
        let Some(seat) = entry.law.seat() else { continue };
        let offered = agent.budget.offered(seat).saturating_add(agent.lanes.charged(id));
        let tenant = agent.tenants.iter().position(|tenant| *tenant == agent.budget.tenant_of(seat));
        let sum = &mut held[tenant.unwrap_or_default()];
        *sum = sum.saturating_add(entry.law.granted()).saturating_add(offered);
    }
    for (tenant, held) in held.iter().copied().enumerate() {
        let account = agent.budget.tenant(agent.tenants[tenant]);
        let (granted, cap) = (account.granted, account.bounds.cap.unwrap_or(Bytes(u64::MAX)));
        let before = std::mem::replace(&mut agent.excess_of[tenant], granted);
        if held != granted {
            let text = format!("the budget says {granted} for tenant {tenant}, whose workloads hold {held}");
            node.log.breaks(now, id, text);
        }
        if granted > cap.max(before) {
            let text = format!("tenant {tenant} is granted {granted} of {cap}, and was {before}");
            node.log.breaks(now, id, text);
        }
    }
    let held = held.into_iter().fold(Bytes::ZERO, Bytes::saturating_add);
    let (granted, pool) = (agent.budget.granted(), agent.budget.most());
    if held != granted {
        node.log.breaks(now, id, format!("the budget says {granted} and the workloads hold {held}"));
    }
    if granted > pool.max(agent.excess) {
        let excess = agent.excess;
        node.log.breaks(now, id, format!("{granted} are granted of {pool}, and were {excess}"));
    }
    agent.excess = granted;
}

/// A grow was refused: then nothing that is worth a write is left of its tenant's guarantee, unless a takeover found more
/// than there is.
pub(crate) fn guarantee(agent: &Agent, node: &mut Node, id: u64) {
    let Some(seat) = agent.entries.get(&id).and_then(|entry| entry.law.seat()) else { return };
    let budget = &agent.budget;
    let tenant = budget.tenant(budget.tenant_of(seat));
    let owed = tenant.bounds.guarantee.saturating_sub(tenant.granted).min(budget.free());
    if owed >= LEAST_PART {
        node.log.breaks(node.now, id, format!("refused, and {owed} of its tenant's guarantee are left"));
    }
}
