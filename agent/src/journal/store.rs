//! The journal on disk: `journal.N.jsonl`, one JSON object a line, rotated by size and bounded in number.
//!
//! ```text
//! {"laws":[{"version":"standard@built-in.1f0c9a2e","memory":{...},"cpu":{...}}]}     the head of each file, and when one is told
//! {"id":41,"unix_ns":...,"workload":"acme/web","version":"standard@built-in.1f0c9a2e","event":"limits_moved",...}
//! ```
//! Each file can be understood, and replayed, without the ones before. Written in batches by the drain, not synced: what the
//! kernel has taken survives the agent's death, and a power cut may take the last seconds. A line that a crash, or a full
//! disk, has torn is skipped when it is read, and closed before the next one is written.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::laws::Laws;
use super::record::Record;

/// Mode of its files.
const MODE: u32 = 0o640;
/// A batch this long is written at once: what waits in memory is bounded.
const BATCH: usize = 256 * 1024;

/// Where the journal is kept, and how much of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory.
    pub directory: PathBuf,
    /// The size from which a file is followed by the next, bytes.
    pub max_file: u64,
    /// Files kept.
    pub files: usize,
}

/// The head of a file.
#[derive(Serialize, Deserialize)]
struct Head {
    laws: Vec<Arc<Laws>>,
}

/// What was read back.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Records, oldest first.
    pub(super) records: VecDeque<Record>,
    /// Laws, as they were told.
    pub(super) laws: Vec<Arc<Laws>>,
}

/// The end that writes.
#[derive(Debug)]
pub(super) struct Store {
    settings: Settings,
    /// The number of the last file.
    number: u64,
    file: Option<File>,
    size: u64,
    batch: String,
    /// Records in the batch.
    waiting: u64,
    /// The last line may lack its end.
    is_torn: bool,
    head: String,
}

impl Store {
    /// Opens the journal in its directory, which is made if need be, and reads back its last `most` records.
    pub(super) fn open(settings: Settings, most: usize) -> io::Result<(Self, Past)> {
        // What happened to one tenant is not for the users of another.
        DirBuilder::new().recursive(true).mode(0o750).create(&settings.directory)?;
        let numbers = numbers(&settings.directory)?;
        let mut past = Past::default();
        for number in numbers.iter().rev() {
            if past.records.len() < most {
                read(&path(&settings.directory, *number), most - past.records.len(), &mut past)?;
            }
        }
        let number = numbers.last().copied().unwrap_or(0);
        let mut store = Self {
            settings,
            number,
            file: None,
            size: 0,
            batch: String::new(),
            waiting: 0,
            is_torn: false,
            head: String::new(),
        };
        if number > 0 {
            store.resume()?;
        }
        Ok((store, past))
    }

    /// The laws in force, for the head of files to come, and for the one that is written.
    pub(super) fn tell(&mut self, laws: Vec<Arc<Laws>>) {
        self.head = serde_json::to_string(&Head { laws }).unwrap_or_default();
        self.head.push('\n');
        self.batch.push_str(&self.head);
    }

    /// Adds a record to the batch. A batch that is full is written; the answer is that of [`Self::flush`].
    pub(super) fn put(&mut self, record: &Record) -> Result<(), (u64, io::Error)> {
        self.batch.push_str(&serde_json::to_string(record).unwrap_or_default());
        self.batch.push('\n');
        self.waiting += 1;
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }

    /// Writes the batch. What cannot be written is given up, and counted: the ring has it.
    pub(super) fn flush(&mut self) -> Result<(), (u64, io::Error)> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let result = self.write();
        self.batch.clear();
        let lost = std::mem::take(&mut self.waiting);
        if let Err(error) = result {
            self.is_torn = true;
            // Opened anew with the next batch: the directory may have been made again.
            self.file = None;
            return Err((lost, error));
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let is_full = self.size > 0 && self.size + self.batch.len() as u64 > self.settings.max_file;
        if self.file.is_none() && self.number > 0 && !is_full {
            self.resume()?;
        }
        if self.file.is_none() || is_full {
            self.begin()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if std::mem::take(&mut self.is_torn) {
            file.write_all(b"\n")?;
            self.size += 1;
        }
        file.write_all(self.batch.as_bytes())?;
        self.size += self.batch.len() as u64;
        Ok(())
    }

    /// Goes on with the last file.
    fn resume(&mut self) -> io::Result<()> {
        let path = path(&self.settings.directory, self.number);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        self.size = file.metadata()?.len();
        if self.size > 0 {
            let mut last = [0_u8];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            self.is_torn = last != *b"\n";
        }
        self.file = Some(file);
        Ok(())
    }

    /// Begins the next file, and removes the oldest.
    fn begin(&mut self) -> io::Result<()> {
        let number = self.number + 1;
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .open(path(&self.settings.directory, number))?;
        // The batch may begin with it already; twice does no harm.
        file.write_all(self.head.as_bytes())?;
        (self.number, self.file, self.size, self.is_torn) =
            (number, Some(file), self.head.len() as u64, false);
        let kept = numbers(&self.settings.directory)?;
        for old in &kept[..kept.len().saturating_sub(self.settings.files)] {
            fs::remove_file(path(&self.settings.directory, *old))?;
        }
        Ok(())
    }
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal.{number}.jsonl"))
}

/// The numbers of the files that are there, in order.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &str| name.strip_prefix("journal.")?.strip_suffix(".jsonl")?.parse().ok();
    let mut found: Vec<u64> = fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| number(entry.file_name().to_str().unwrap_or_default()))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads a file's last `most` records, to stand before those that were read of later ones.
fn read(path: &Path, most: usize, past: &mut Past) -> io::Result<()> {
    let mut records = VecDeque::new();
    let mut lines = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            if records.len() == most {
                records.pop_front();
            }
            records.push_back(record);
        } else if let Ok(head) = serde_json::from_slice::<Head>(&line) {
            past.laws.extend(head.laws);
        }
        line.clear();
    }
    records.append(&mut past.records);
    past.records = records;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::What;
    use std::os::unix::fs::PermissionsExt;

    fn settings(name: &str, max_file: u64, files: usize) -> Settings {
        let directory = std::env::temp_dir().join(format!("bellows-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        Settings { directory, max_file, files }
    }

    fn record(id: u64) -> Record {
        let what = What::Ended { how: "exited with code 3".to_owned(), code: 3 };
        let workload = "a/x".into();
        Record { id, unix_ns: id, workload, version: None, prior: None, by: None, what }
    }

    fn ids(past: &Past) -> Vec<u64> {
        past.records.iter().map(|record| record.id).collect()
    }

    #[test]
    fn files_are_rotated_and_bounded_and_read_back() {
        let settings = settings("rotated", 8000, 3);
        let (mut store, past) = Store::open(settings.clone(), 100).unwrap();
        assert_eq!((ids(&past), past.laws.len()), (vec![], 0));
        let laws = Laws::new(
            "standard",
            "built-in",
            bellows_policies::Law::default(),
            bellows_policies::CpuLaw::standard(),
        );
        store.tell(vec![Arc::new(laws.clone())]);
        for id in 1..=1000 {
            store.put(&record(id)).unwrap();
            store.flush().unwrap();
        }
        let kept = numbers(&settings.directory).unwrap();
        assert_eq!(kept.len(), 3);
        assert!(kept[0] > 3, "{kept:?}");
        for place in [settings.directory.clone(), path(&settings.directory, kept[0])] {
            let mode = fs::metadata(&place).unwrap().permissions().mode();
            assert_eq!(mode & 0o7, 0, "{} is of no use to others", place.display());
        }
        let (mut store, past) = Store::open(settings.clone(), 5).unwrap();
        assert_eq!(ids(&past), [996, 997, 998, 999, 1000], "the last ones, in order");
        assert_eq!(*past.laws[0], laws, "each file begins with the laws, which read back as the very same");
        store.put(&record(1001)).unwrap();
        store.flush().unwrap();
        assert_eq!(ids(&Store::open(settings.clone(), 2).unwrap().1), [1000, 1001], "a restart goes on");
        fs::remove_dir_all(settings.directory).unwrap();
    }

    #[test]
    fn a_torn_line_is_skipped_and_closed() {
        let settings = settings("torn", 1 << 20, 3);
        let (mut store, _) = Store::open(settings.clone(), 10).unwrap();
        store.put(&record(1)).unwrap();
        store.flush().unwrap();
        let file = path(&settings.directory, 1);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str(r#"{"id":2,"unix_ns":2,"workl"#);
        fs::write(&file, &text).unwrap();
        let (mut store, past) = Store::open(settings.clone(), 10).unwrap();
        assert_eq!(ids(&past), [1]);
        store.put(&record(3)).unwrap();
        store.flush().unwrap();
        assert_eq!(ids(&Store::open(settings.clone(), 10).unwrap().1), [1, 3]);
        fs::remove_dir_all(settings.directory).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_is_tried_again() {
        let settings = settings("unwritable", 1 << 20, 3);
        let (mut store, _) = Store::open(settings.clone(), 10).unwrap();
        // A file where the directory was: not even root can make a file below it.
        fs::remove_dir_all(&settings.directory).unwrap();
        fs::write(&settings.directory, "").unwrap();
        store.put(&record(1)).unwrap();
        store.put(&record(2)).unwrap();
        assert_eq!(store.flush().unwrap_err().0, 2);
        fs::remove_file(&settings.directory).unwrap();
        fs::create_dir(&settings.directory).unwrap();
        store.put(&record(3)).unwrap();
        store.flush().unwrap();
        assert_eq!(ids(&Store::open(settings.clone(), 10).unwrap().1), [3]);
        fs::remove_dir_all(settings.directory).unwrap();
    }
}
