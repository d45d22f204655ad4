//! Which users of the host a tenant's users are: a range of ids for each tenant, that no other tenant has.
//!
//! The tree is the database: the range is noted on the tenant's cgroup when it is first needed, and whoever governs the tree later
//! finds it there, whatever the configuration says by then. Where a tenant begins to look for a free one follows from its name, so
//! that one whose cgroup was removed meanwhile mostly gets its old one, and its files are its own still. Only when the places of two
//! names are the same, and both were away, can one come to own the other's files; hence no smaller choice than some thousands.

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::spawn::IdRange;

/// The extended attribute of a tenant's cgroup with its range, as JSON.
const IDS: &str = "ids";

/// The ranges that may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// The first id of the first range.
    pub first_id: u32,
    /// Ids in each range.
    pub ids_per_tenant: u32,
    /// How many ranges there are.
    pub tenants: u32,
}

impl Default for Pool {
    /// The end of what is set aside for containers by convention (systemd's UIDS-GIDS), and above what useradd gives to people.
    fn default() -> Self {
        Self { first_id: 0x6000_0000, ids_per_tenant: 65_536, tenants: 4096 }
    }
}

/// A tenant cannot have a range.
#[derive(Debug, thiserror::Error)]
pub enum IdsError {
    /// The tree could not be read or written.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// All are taken.
    #[error("all {0} ranges of user ids are taken: raise isolation.tenants")]
    Exhausted(u32),
    /// What is noted is not a range.
    #[error("the noted user ids of {tenant} are unreadable: {source}")]
    Unreadable {
        /// The tenant's cgroup.
        tenant: String,
        /// Why.
        source: io::Error,
    },
}

impl Pool {
    /// What is wrong with it, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let end = u64::from(self.first_id) + u64::from(self.ids_per_tenant) * u64::from(self.tenants);
        if self.first_id < 65_536 {
            Some("isolation.first_id: ids below 65536 are the host's own users")
        } else if self.ids_per_tenant < 1000 || self.tenants == 0 {
            Some("isolation.ids_per_tenant: fewer than 1000 ids, or no tenants, are of no use")
        // devpts reads the group of its terminals as a signed number: such a box could not be made.
        } else if end > 1 << 31 {
            Some(
                "isolation.tenants: there are not that many ids below 2147483648, where terminals have to have their group",
            )
        } else {
            None
        }
    }

    /// Where the range at `place` is.
    fn at(&self, place: u32) -> IdRange {
        IdRange { first: self.first_id + place * self.ids_per_tenant, count: self.ids_per_tenant }
    }

    /// The first free range from the tenant's own place on.
    #[must_use]
    pub fn choose(&self, tenant: &str, taken: &[IdRange]) -> Option<IdRange> {
        let tenants = u64::from(self.tenants);
        (0..tenants)
            .filter_map(|n| u32::try_from((place(tenant) % tenants + n) % tenants).ok())
            .map(|place| self.at(place))
            .find(|range| !taken.iter().any(|t| overlap(*t, *range)))
    }
}

/// Gives ranges out.
#[derive(Debug)]
pub struct Ranges {
    pool: Pool,
    /// Launches go on side by side; to look for a free range and to note it is one step.
    turn: Mutex<()>,
}

impl Ranges {
    /// Ranges out of `pool`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool, turn: Mutex::new(()) }
    }

    /// The range of a tenant: the noted one, or one that is free from now on noted.
    pub fn of(&self, workloads: &Cgroup, tenant: &Cgroup, name: &str) -> Result<IdRange, IdsError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = noted(tenant)? {
            return Ok(range);
        }
        let mut taken = Vec::new();
        for other in workloads.children()? {
            match workloads.child(&other) {
                Ok(other) => taken.extend(noted(&other)?),
                Err(e) if e.is_gone() => {}
                Err(e) => return Err(e.into()),
            }
        }
        let range = self.pool.choose(name, &taken).ok_or(IdsError::Exhausted(self.pool.tenants))?;
        tenant.set_attribute(IDS, &serde_json::to_vec(&range).unwrap_or_default())?;
        Ok(range)
    }
}

fn noted(tenant: &Cgroup) -> Result<Option<IdRange>, IdsError> {
    let Some(text) = tenant.attribute(IDS)? else { return Ok(None) };
    // Not taken for absent: another range would be given out while files have the ids of this one.
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| IdsError::Unreadable { tenant: tenant.path().display().to_string(), source: e.into() })
}

fn overlap(a: IdRange, b: IdRange) -> bool {
    let end = |r: IdRange| u64::from(r.first) + u64::from(r.count);
    u64::from(a.first) < end(b) && u64::from(b.first) < end(a)
}

/// FNV-1a. Not std's hasher: that one may change, and this number decides whose files are whose.
fn place(tenant: &str) -> u64 {
    tenant
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_until_all_are_taken() {
        let pool = Pool { first_id: 100_000, ids_per_tenant: 1000, tenants: 50 };
        let mut taken: Vec<IdRange> = Vec::new();
        for n in 0..50 {
            let range = pool.choose(&format!("tenant-{n}"), &taken).expect("one is free");
            assert!(taken.iter().all(|t| !overlap(*t, range)), "{range:?} in {taken:?}");
            taken.push(range);
        }
        assert_eq!(pool.choose("one-more", &taken), None);
    }

    #[test]
    fn a_range_of_another_configuration_is_kept_clear_of() {
        let pool = Pool { first_id: 100_000, ids_per_tenant: 1000, tenants: 3 };
        let odd = IdRange { first: 100_500, count: 1000 };
        assert_eq!(pool.choose("any", &[odd]), Some(IdRange { first: 102_000, count: 1000 }));
    }

    #[test]
    fn a_tenant_that_was_away_gets_its_old_range() {
        let pool = Pool::default();
        assert_eq!(pool.choose("acme", &[]), pool.choose("acme", &[pool.choose("other", &[]).unwrap()]));
        assert_eq!(place("acme"), 0x0724_d383_f4f6_de0f, "the places of tenants must never move");
    }

    #[test]
    fn a_pool_that_cannot_be_is_refused() {
        assert_eq!(Pool::default().problem(), None);
        let wrong = |first_id, ids_per_tenant, tenants| {
            Pool { first_id, ids_per_tenant, tenants }.problem().is_some()
        };
        assert!(wrong(0, 65_536, 10) && wrong(100_000, 10, 10) && wrong(100_000, 65_536, 65_536));
        assert!(!wrong(1 << 30, 65_536, 1 << 14) && wrong(1 << 30, 65_536, (1 << 14) + 1));
    }
}
