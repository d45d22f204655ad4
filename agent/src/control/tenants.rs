//! Tenants: their accounts in the budget, the seats of their workloads, what their cgroups protect, and whose turn it is when
//! room comes.
//!
//! A tenant that policies name has its account as long as they do; any other one, without bounds of its own, as long
//! as it has workloads. Its cgroup stays, and goes on being listened to.
//!
//! A floor is protected only as far as every ancestor protects it too. So the sums of floors are written upwards, to the tenant
//! and to `workloads/`: `memory.min` for the class latency, `memory.low` for the others, as the workloads have them. The root
//! belongs to whoever delegated it: there they are raised where they are too small, and never lowered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bellows_policies::ruleset::Tenant;
use bellows_policies::units::Instant;
use bellows_policies::{Budget, Bytes, Class, Level, Refusal, Ruleset, Seat, TenantBounds, TenantId};

use super::actuator;
use super::control_loop::Control;
use super::handle::Refused;
use crate::journal::What;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::{Metrics, Published, PublishedTenant, TenantTable};
use crate::workload::spec::{Identity, Name};
use crate::workload::supervisor::Ground;

/// The key of `workloads/`. Directories have keys of their own: the generation of none of the workloads.
pub(super) const ROOT: Key = Key { slot: 0, generation: u32::MAX };
/// Tenants that may have accounts at the same time: each has series of its own in the metrics.
const MOST: usize = 1000;
/// Looks in one turn at workloads whose turn has come: whoever is heard waits behind them for a millisecond at most.
const SERVED: usize = 64;

/// All tenants.
#[derive(Debug)]
pub(super) struct Tenants {
    accounts: HashMap<Name, Account>,
    /// Their cgroups, by the number in their keys, from 1 on.
    directories: Vec<(Name, Cgroup)>,
    /// The delegated root, where it may be opened.
    root: Option<Cgroup>,
    table: TenantTable,
    metrics: Arc<Metrics>,
    is_unprotected: bool,
}

#[derive(Debug)]
struct Account {
    id: TenantId,
    is_configured: bool,
    published: Arc<PublishedTenant>,
}

impl Tenants {
    /// Opens the accounts of those that policies name. The error says which one cannot be promised what it was.
    pub(super) fn new(
        rules: &Ruleset,
        budget: &mut Budget,
        ground: &Ground,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let root = ground.workloads.path().parent().and_then(|path| Cgroup::open(path).ok());
        let mut tenants = Self {
            accounts: HashMap::new(),
            directories: Vec::new(),
            root,
            table: TenantTable::default(),
            metrics: Arc::clone(metrics),
            is_unprotected: false,
        };
        for (name, bounds) in &bounds(rules, budget.capacity) {
            let id = budget.open();
            budget.set_bounds(id, *bounds).map_err(|error| format!("tenant.{name}: {error}"))?;
            tenants.open(name, id, true);
        }
        tenants.publish(budget);
        Ok(tenants)
    }

    /// What is published of them.
    pub(super) fn table(&self) -> TenantTable {
        self.table.clone()
    }

    /// Why a tenant cannot have an account, if it cannot.
    pub(super) fn problem(&self, tenant: &Name) -> Option<String> {
        let is_full = self.accounts.len() >= MOST && !self.accounts.contains_key(tenant);
        is_full.then(|| format!("there are {MOST} tenants already"))
    }

    fn open(&mut self, name: &Name, id: TenantId, is_configured: bool) {
        let oom_kills = &self.metrics.oom_kills;
        let published = self.table.begin(name.as_str(), |name| PublishedTenant::new(name, oom_kills.clone()));
        self.accounts.insert(name.clone(), Account { id, is_configured, published });
    }

    /// Has a workload's counters add to the sums of its tenant, which has an account by then.
    pub(super) fn adds_to(&self, tenant: &Name, published: &Published) {
        if let Some(account) = self.accounts.get(tenant) {
            published.add_to(Arc::clone(&account.published));
        }
    }

    fn publish(&self, budget: &Budget) {
        for account in self.accounts.values() {
            account.published.publish(budget.tenant(account.id));
        }
    }

    fn cgroup(&self, tenant: &Name) -> Option<&Cgroup> {
        self.directories.iter().find(|(name, _)| name == tenant).map(|(_, cgroup)| cgroup)
    }
}

/// What policies promise and allow, on a node of `capacity`.
fn bounds(rules: &Ruleset, capacity: Bytes) -> BTreeMap<Name, TenantBounds> {
    let named = |(name, tenant): (&String, &Tenant)| Some((name.parse().ok()?, tenant.bounds(capacity)));
    rules.tenants.iter().filter_map(named).collect()
}

impl Control {
    /// Takes in what other policies promise and allow. Guarantees that become smaller come first: they make room for others.
    pub(super) fn reform_tenants(&mut self) {
        let wanted = bounds(&self.rules, self.budget.capacity);
        for name in wanted.keys() {
            if !self.tenants.accounts.contains_key(name) {
                let id = self.budget.open();
                self.tenants.open(name, id, true);
            }
        }
        let mut changes: Vec<(Name, TenantId, TenantBounds)> = Vec::new();
        for (name, account) in &mut self.tenants.accounts {
            let bounds = wanted.get(name).copied();
            account.is_configured = bounds.is_some();
            let bounds = bounds.unwrap_or_default();
            if bounds != self.budget.tenant(account.id).bounds {
                changes.push((name.clone(), account.id, bounds));
            }
        }
        let rise = |budget: &Budget, id, to: &TenantBounds| to.guarantee > budget.tenant(id).bounds.guarantee;
        changes.sort_by_key(|(name, id, to)| (rise(&self.budget, *id, to), name.clone()));
        for (name, id, bounds) in changes {
            let written = self.tenants.cgroup(&name).map(|cgroup| actuator::weigh(cgroup, bounds.weight));
            let trouble = self.budget.set_bounds(id, bounds).map_err(|error| error.to_string());
            let trouble = trouble.and(written.unwrap_or(Ok(())).map_err(|error| error.to_string()));
            if let Err(text) = trouble {
                let text = format!("tenant {name}: {text}");
                self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
            }
            self.close_if_empty(&name);
        }
    }

    /// A seat for a workload, in the account of its tenant.
    pub(super) fn seat(&mut self, identity: &Identity, class: &Class) -> Seat {
        let tenant = &identity.tenant;
        let id = self.tenants.accounts.get(tenant).map(|account| account.id);
        let id = id.unwrap_or_else(|| {
            let id = self.budget.open();
            self.tenants.open(tenant, id, false);
            id
        });
        self.budget.join(id, class.base, class.cpu.law.weight)
    }

    /// Gives a seat back with all that was charged for it, and the account with the last one.
    pub(super) fn unseat(&mut self, tenant: &Name, seat: Option<Seat>) {
        let Some(seat) = seat else { return };
        self.budget.leave(seat);
        self.close_if_empty(tenant);
    }

    /// A tenant that no policy names has its account as long as it has workloads.
    fn close_if_empty(&mut self, tenant: &Name) {
        let Some(account) = self.tenants.accounts.get(tenant) else { return };
        if !account.is_configured && self.budget.tenant(account.id).workloads == 0 {
            self.budget.close(account.id);
            self.tenants.table.end(&account.published, clock::unix_nanoseconds());
            self.tenants.accounts.remove(tenant);
        }
    }

    /// What a tenant is promised and allowed.
    pub(super) fn tenant_bounds(&self, tenant: &Name) -> TenantBounds {
        let account = self.tenants.accounts.get(tenant);
        account.map_or_else(TenantBounds::default, |account| self.budget.tenant(account.id).bounds)
    }

    /// Looks at those whose turn it is, in the turn in which room came. More than [`SERVED`] of them wait for the next one,
    /// which begins at once.
    pub(super) fn serve_waiting(&mut self) {
        for _ in 0..SERVED {
            let Some(seat) = self.budget.serve() else { return };
            if let Some(key) = self.registry.seated(seat) {
                if let Some(entry) = self.registry.get(key) {
                    entry.law.ask_again();
                }
                // It may have been looked at in this turn already.
                self.look(key, clock::now());
            }
            self.budget.served(seat);
        }
    }

    /// Publishes the sums of all tenants.
    pub(super) fn publish_tenants(&self) {
        self.tenants.publish(&self.budget);
    }

    /// Writes what a tenant's workloads are to be protected by to it and to all above it.
    pub(super) fn protect(&mut self, tenant: &Name) {
        let account = self.tenants.accounts.get(tenant);
        let floors = account.map(|account| self.budget.tenant(account.id).floors).unwrap_or_default();
        let all = self.budget.floors();
        let root = self.tenants.root.as_ref().map(|root| actuator::protect_at_least(root, all));
        let workloads = actuator::protect(&self.ground.workloads, all);
        let own = self.tenants.cgroup(tenant).map(|cgroup| actuator::protect(cgroup, floors));
        let mut failed = [root, Some(workloads), own].into_iter().flatten().filter_map(Result::err);
        // The hierarchy's own root has no such files.
        if let Some(error) = failed.find(|error| !error.is_gone())
            && !std::mem::replace(&mut self.tenants.is_unprotected, true)
        {
            let text = format!("floors are protected less than they should be: {error}");
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        }
    }

    /// Listens to a tenant's directory from its first workload on.
    pub(super) fn watch_tenant(&mut self, tenant: &Name) {
        if self.tenants.cgroup(tenant).is_some() {
            return;
        }
        let Ok(cgroup) = self.ground.workloads.child(tenant.as_str()) else { return };
        let slot = u32::try_from(self.tenants.directories.len() + 1).unwrap_or(u32::MAX);
        if let Err(error) = self.watcher.add_directory(Key { slot, ..ROOT }, &cgroup) {
            let text = format!("cannot listen to tenant {tenant}: {error}");
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        }
        self.tenants.directories.push((tenant.clone(), cgroup));
    }

    /// Somebody made a cgroup in a tenant's.
    pub(super) fn created(&mut self, directory: Key, name: &str) {
        if let Some(tenant) = self.tenant_of(directory) {
            self.notice(&tenant, name);
        }
    }

    /// Somebody removed one there.
    pub(super) fn deleted(&mut self, directory: Key, name: &str, woke: Instant) {
        let Some(tenant) = self.tenant_of(directory) else { return };
        let Ok(name) = name.parse::<Name>() else { return };
        if let Some(key) = self.registry.find(&tenant, &name).map(|e| e.key) {
            // Its files will say ENODEV if it was this very cgroup.
            self.look(key, woke);
        }
    }

    fn tenant_of(&self, directory: Key) -> Option<Name> {
        let index = (directory.slot as usize).checked_sub(1)?;
        self.tenants.directories.get(index).map(|(name, _)| name.clone())
    }
}

/// A refusal as an answer to who asked.
pub(super) fn no_room(tenant: &Name, refusal: Refusal) -> Refused {
    let text = told(tenant, refusal);
    if refusal.is_deferred() { Refused::NoRoomNow(text) } else { Refused::NoRoomEver(text) }
}

/// A refusal in words, with the name of the level that it was refused at.
pub(super) fn told(tenant: &Name, refusal: Refusal) -> String {
    match refusal.level() {
        Level::Node => refusal.to_string(),
        Level::Tenant => format!("tenant \"{tenant}\": {refusal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::units::Bytes;

    #[test]
    fn a_refusal_names_its_level() {
        let refusal = |level| Refusal::Deferred { level, floor: Bytes::mib(64), free: Bytes::mib(10) };
        let tenant: Name = "acme".parse().unwrap();
        assert_eq!(
            told(&tenant, refusal(Level::Tenant)),
            "tenant \"acme\": a floor of 64 MiB does not fit now: 10 MiB below the tenant's cap are free"
        );
        assert_eq!(
            told(&tenant, refusal(Level::Node)),
            "a floor of 64 MiB does not fit now: 10 MiB of the node's budget are free"
        );
    }
}
