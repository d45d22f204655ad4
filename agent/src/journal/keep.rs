//! What the drain does with a record: numbers it, links it, keeps it in the ring, sends it to followers, puts it on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::links::Links;
use super::record::{Record, What};
use super::store::{Settings, Store};
use super::{Journal, RING};

/// The drain's own state.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The id of the last record.
    pub(super) last: u64,
    links: Links,
    /// Absent when nothing is to be kept on disk, or its directory cannot be had.
    store: Option<Store>,
    /// Versions of laws that the store was told of, in all.
    told: u64,
    /// Writing to disk fails, and that was told.
    is_failing: bool,
    /// What is to be told with the next record, which knows the time.
    trouble: Option<String>,
}

impl Keeper {
    /// Opens the disk, if there is to be any, and takes the past into the ring.
    pub(super) fn open(settings: Option<Settings>, journal: &Journal) -> Self {
        let mut keeper = Self::default();
        let Some(settings) = settings else { return keeper };
        let place = settings.directory.clone();
        match Store::open(settings, RING) {
            Ok((store, past)) => {
                keeper.store = Some(store);
                for laws in past.laws {
                    journal.versions.add((*laws).clone());
                }
                for mut record in past.records {
                    keeper.last = keeper.last.max(record.id);
                    keeper.links.join(&mut record);
                    journal.keep(&Arc::new(record));
                }
            }
            Err(error) => {
                keeper.trouble =
                    Some(format!("the journal is not kept on disk: {}: {error}", place.display()));
            }
        }
        keeper
    }

    /// Takes a record in.
    pub(super) fn take(&mut self, mut record: Record, journal: &Journal) {
        if let Some(text) = self.trouble.take() {
            let (what, workload) = (What::Trouble { text }, "".into());
            self.take(Record { workload, version: None, what, ..record.clone() }, journal);
        }
        self.last += 1;
        record.id = self.last;
        self.links.join(&mut record);
        let record = Arc::new(record);
        journal.keep(&record);
        // Nobody follows: nothing to do.
        let _ = journal.followers.send(Arc::clone(&record));
        let Some(store) = &mut self.store else { return };
        if let Some(laws) = journal.versions.news(&mut self.told) {
            store.tell(laws);
        }
        let written = store.put(&record);
        self.wrote(written, journal);
    }

    /// Writes what waits for the disk.
    pub(super) fn flush(&mut self, journal: &Journal) {
        if let Some(store) = &mut self.store {
            let written = store.flush();
            self.wrote(written, journal);
        }
    }

    fn wrote(&mut self, written: Result<(), (u64, std::io::Error)>, journal: &Journal) {
        let Err((records, error)) = written else { return };
        journal.unwritten.fetch_add(records, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            self.trouble = Some(format!("the journal cannot be written to disk: {error}"));
        }
    }
}
