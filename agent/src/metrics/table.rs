//! Lists of what is published: workloads, and tenants.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::{Published, PublishedTenant};

/// Whoever has ended stays in the list of these for so long, in nanoseconds: his last counts must be scraped.
const WORKLOAD_STAYS: u64 = 5 * 60 * 1_000_000_000;
/// A tenant without workloads may have some again, and its counters go on then.
const TENANT_STAYS: u64 = 60 * 60 * 1_000_000_000;
/// The most that are in it; those who ended first leave it first.
const MOST_ENDED: usize = 1000;

/// All published workloads, or whatever else is published one by one. Cloning shares it.
///
/// The lock is held only to copy two pointers, or to change a list: launches and ends do that, and copy it where somebody is reading it.
#[derive(Debug)]
pub struct Table<T = Published>(Arc<RwLock<Lists<T>>>);

/// All published tenants.
pub type TenantTable = Table<PublishedTenant>;

#[derive(Debug)]
struct Lists<T> {
    live: Arc<Vec<Arc<T>>>,
    /// With the time until which they stay, in nanoseconds since the Unix epoch.
    ended: Arc<Vec<(u64, Arc<T>)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Lists { live: Arc::default(), ended: Arc::default() })))
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Table<T> {
    /// The present list.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Arc<T>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).live)
    }

    /// The present list, and those who have ended not long ago, of one moment.
    #[must_use]
    pub fn with_ended(&self, unix_ns: u64) -> (Arc<Vec<Arc<T>>>, Vec<Arc<T>>) {
        let (live, ended) = {
            let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&lists.live), Arc::clone(&lists.ended))
        };
        let stays = ended.iter().filter(|(until, _)| *until > unix_ns);
        (live, stays.map(|(_, published)| Arc::clone(published)).collect())
    }

    /// Adds one.
    pub fn insert(&self, published: Arc<T>) {
        self.write().add(published);
    }

    /// Removes one.
    pub fn remove(&self, published: &Arc<T>) {
        self.write().take_out(published);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lists<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn retire(&self, published: &Arc<T>, unix_ns: u64, stays: u64) {
        let mut lists = self.write();
        lists.take_out(published);
        let ended = Arc::make_mut(&mut lists.ended);
        ended.retain(|(until, _)| *until > unix_ns);
        if ended.len() == MOST_ENDED {
            ended.remove(0);
        }
        ended.push((unix_ns.saturating_add(stays), Arc::clone(published)));
    }
}

impl Table<Published> {
    /// A workload begins. One of its name that has ended leaves: there cannot be two with the same labels.
    pub fn begin(&self, published: Arc<Published>) {
        let mut lists = self.write();
        let _ = lists.recall(|ended| ended.labels == published.labels);
        lists.add(published);
    }

    /// A workload has ended, and its counters stay for a while.
    pub fn end(&self, published: &Arc<Published>, unix_ns: u64) {
        self.retire(published, unix_ns, WORKLOAD_STAYS);
    }
}

impl Table<PublishedTenant> {
    /// A tenant begins, or begins again: then its counters go on.
    pub fn begin(&self, tenant: &str, new: impl FnOnce(String) -> PublishedTenant) -> Arc<PublishedTenant> {
        let mut lists = self.write();
        let before = lists.recall(|ended| ended.tenant == tenant);
        let published = before.unwrap_or_else(|| Arc::new(new(tenant.to_owned())));
        lists.add(Arc::clone(&published));
        published
    }

    /// A tenant has no account any more, and its counters stay for a while.
    pub fn end(&self, published: &Arc<PublishedTenant>, unix_ns: u64) {
        self.retire(published, unix_ns, TENANT_STAYS);
    }
}

impl<T> Lists<T> {
    fn add(&mut self, published: Arc<T>) {
        Arc::make_mut(&mut self.live).push(published);
    }

    fn take_out(&mut self, published: &Arc<T>) {
        Arc::make_mut(&mut self.live).retain(|p| !Arc::ptr_eq(p, published));
    }

    /// Takes one out of those who have ended.
    fn recall(&mut self, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let at = self.ended.iter().position(|(_, ended)| is_it(ended))?;
        Some(Arc::make_mut(&mut self.ended).remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: String) -> PublishedTenant {
        PublishedTenant::new(name, prometheus::IntCounter::new("x", "x").unwrap())
    }

    #[test]
    fn whoever_has_ended_stays_for_a_while_and_not_without_bound() {
        let table = TenantTable::default();
        for n in 0..MOST_ENDED as u64 + 5 {
            let published = table.begin(&format!("t{n}"), tenant);
            table.end(&published, n);
        }
        let (live, ended) = table.with_ended(10);
        assert_eq!((live.len(), ended.len()), (0, MOST_ENDED));
        assert_eq!(ended[0].tenant, "t5", "the first have left");
        assert_eq!(table.with_ended(TENANT_STAYS + 100).1.len(), MOST_ENDED - 96);
    }

    #[test]
    fn a_list_that_is_read_stays_as_it_is() {
        let table = TenantTable::default();
        let first = table.begin("acme", tenant);
        let before = table.list();
        table.begin("umbrella", tenant);
        table.end(&first, 0);
        let names = |list: &[Arc<PublishedTenant>]| -> Vec<String> {
            list.iter().map(|t| t.tenant.clone()).collect()
        };
        assert_eq!(
            (names(&before), names(&table.list())),
            (vec!["acme".to_owned()], vec!["umbrella".to_owned()])
        );
    }

    #[test]
    fn a_tenant_that_comes_back_goes_on_counting() {
        let table = TenantTable::default();
        let first = table.begin("acme", tenant);
        first.add(super::super::Sum::Ended, 3);
        table.end(&first, 0);
        let again = table.begin("acme", tenant);
        assert_eq!(again.sum(super::super::Sum::Ended), 3);
        let (live, ended) = table.with_ended(1);
        assert_eq!((live.len(), ended.len()), (1, 0));
    }
}
