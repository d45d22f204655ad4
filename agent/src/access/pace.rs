//! How much a caller may ask for at a time, who is no operator: connections, requests, and refusals in the journal. A tenant's caller is
//! not trusted, and what it asks for costs the agent descriptors, memory, and turns of the control loop.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bellows_policies::units::Instant;

/// Connections of a user at a time: each `bellows run` that stays has one or two.
pub const CONNECTIONS: usize = 64;
/// Requests at once after a silence, and each second from then on.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 10.0;
/// Refusals that are told in the journal at once, and each second from then on; all are counted.
const TOLD_BURST: f64 = 10.0;
const TOLD_PER_SECOND: f64 = 0.2;

/// A user's, or that of all who are in no list.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Open connections.
    pub connections: usize,
    requests: Bucket,
    refusals: Bucket,
}

/// All of them, by user; `None` is whoever is in no list.
#[derive(Debug, Default)]
pub struct Accounts(Mutex<HashMap<Option<u32>, Account>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    most: f64,
    per_second: f64,
    at: Instant,
}

impl Accounts {
    /// Opens a connection for a user, unless there are too many.
    pub fn connect(&self, user: Option<u32>, now: Instant) -> bool {
        let mut all = self.lock();
        let account = all.entry(user).or_insert_with(|| Account::new(now));
        let is_taken = account.connections < CONNECTIONS;
        account.connections += usize::from(is_taken);
        is_taken
    }

    /// Closes one. Who has none is not forgotten before it could begin anew with a full account.
    pub fn disconnect(&self, user: Option<u32>, now: Instant) {
        let mut all = self.lock();
        if let Some(account) = all.get_mut(&user) {
            account.connections = account.connections.saturating_sub(1);
        }
        all.retain(|_, account| account.connections > 0 || !account.is_full(now));
    }

    /// Whether a request is taken now.
    pub fn ask(&self, user: Option<u32>, now: Instant) -> bool {
        self.lock().entry(user).or_insert_with(|| Account::new(now)).requests.take(now)
    }

    /// Whether a refusal is told.
    pub fn tell(&self, user: Option<u32>, now: Instant) -> bool {
        self.lock().entry(user).or_insert_with(|| Account::new(now)).refusals.take(now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<u32>, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn new(now: Instant) -> Self {
        let bucket = |most, per_second| Bucket { tokens: most, most, per_second, at: now };
        Self {
            connections: 0,
            requests: bucket(BURST, PER_SECOND),
            refusals: bucket(TOLD_BURST, TOLD_PER_SECOND),
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        [self.requests, self.refusals].iter().all(|bucket| bucket.filled(now) >= bucket.most)
    }
}

impl Bucket {
    fn filled(&self, now: Instant) -> f64 {
        (self.tokens + now.since(self.at).as_secs_f64() * self.per_second).min(self.most)
    }

    fn take(&mut self, now: Instant) -> bool {
        self.tokens = self.filled(now);
        self.at = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn who_asks_too_much_waits_and_others_do_not() {
        let accounts = Accounts::default();
        let (now, later) = (Instant(0), Instant(SECOND));
        let taken = |user, now, tries: u32| (0..tries).filter(|_| accounts.ask(user, now)).count();
        assert_eq!(taken(Some(7), now, 500), 100);
        assert_eq!(taken(Some(8), now, 50), 50, "it has an account of its own");
        assert_eq!(taken(Some(7), later, 500), 10);
        assert_eq!((0..100).filter(|_| accounts.tell(Some(7), now)).count(), 10);
        assert_eq!(taken(None, now, 500), 100, "strangers share one");
    }

    #[test]
    fn connections_are_bounded_and_accounts_are_forgotten() {
        let accounts = Accounts::default();
        let now = Instant(0);
        assert_eq!((0..CONNECTIONS + 9).filter(|_| accounts.connect(Some(7), now)).count(), CONNECTIONS);
        assert!(accounts.connect(Some(8), now));
        accounts.disconnect(Some(7), now);
        assert!(accounts.connect(Some(7), now) && !accounts.connect(Some(7), now));
        assert!(accounts.ask(Some(8), now));
        accounts.disconnect(Some(8), now);
        assert!(accounts.lock().contains_key(&Some(8)), "it would begin with a full account");
        for _ in 0..CONNECTIONS {
            accounts.disconnect(Some(7), Instant(20 * SECOND));
        }
        assert!(accounts.lock().is_empty());
    }
}
