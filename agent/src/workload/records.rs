//! How workloads ended, on disk: what a client asks late, or an agent finds that was not there, is answered from here.
//!
//! ```text
//! <runtime dir>/exits/<id>        opened by the agent at a launch, written by init: `exited 3`, `signaled 15`, `unstarted`
//! <runtime dir>/exits/<id>.end    the truth from all witnesses, as JSON: written before the cgroup is removed
//! ```
//! The id is that of the cgroup: unique for the time that the kernel is up, whatever the workload is called. The end is
//! written before anything is removed, so that an agent that dies in between loses nothing, and a second one only repeats it.
//! The last [`REMEMBERED`] ends are kept.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bellows_policies::Reason;
use bellows_policies::units::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::Name;

/// Ends that are remembered for a client that asks late.
pub const REMEMBERED: usize = 1024;
/// Bytes of an exit record at most: how it ended and when, in two short lines (`record` in `agent/init/src/pid1.rs`).
const ROOM: i64 = 128;

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Exit {
    /// Its command returned this code.
    Exited {
        /// The code.
        code: i32,
    },
    /// A signal ended its command.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel's OOM killer ended it at its limit.
    OutOfMemory,
    /// Its exit record is gone or unreadable, and nobody knows how its command ended.
    Vanished,
}

/// A workload that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// The exit code that a shell would see.
    pub code: i32,
    /// In words.
    pub text: String,
    /// Whose it was; unknown of a record of old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
}

/// What init wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// How the command ended.
    Told(Exit),
    /// Nothing: it still runs, or was killed before it could write.
    Silent,
    /// The command was never started: the agent went away before it gave the word, or a step before the command failed.
    Unstarted,
    /// The record is not there, or is none of ours.
    Lost,
}

/// The directory of exit records.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
    kept: Mutex<VecDeque<u64>>,
}

impl Exit {
    /// The exit code that a shell would see.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited { code } => code,
            Self::Signaled { signal } => 128 + signal,
            Self::OutOfMemory => 128 + libc::SIGKILL,
            Self::Vanished => 125,
        }
    }
}

impl Ended {
    /// Puts an end into words: "killed by the kernel: out of memory at its limit of 128 MiB" and its like. `granted` is the
    /// `memory.high` that was governed last.
    #[must_use]
    pub fn new(exit: Exit, granted: Bytes, ceiling: Bytes) -> Self {
        let text = match exit {
            Exit::Exited { code } => format!("exited with code {code}"),
            Exit::Signaled { signal } => {
                let name =
                    nix::sys::signal::Signal::try_from(signal).map_or("unknown signal", |s| s.as_str());
                format!("ended by signal {signal} ({name})")
            }
            Exit::OutOfMemory => {
                format!("killed by the kernel: out of memory at {}", limit(granted, ceiling))
            }
            Exit::Vanished => "nobody knows how it ended: its exit record is gone".to_owned(),
        };
        Self { exit, code: exit.code(), text, tenant: None }
    }

    /// The same, of a workload of this tenant.
    #[must_use]
    pub fn of(self, tenant: &Name) -> Self {
        Self { tenant: Some(tenant.clone()), ..self }
    }

    /// The same, of one that was killed because it thrashed at its limit and the kernel saw no end.
    #[must_use]
    pub fn of_thrashing(mut self, granted: Bytes, ceiling: Bytes) -> Self {
        if self.exit == (Exit::Signaled { signal: libc::SIGKILL }) {
            self.text = format!("killed by bellows: it thrashed at {}", limit(granted, ceiling));
        }
        self
    }

    /// The same, with how often it had asked for more in vain since its limit was raised last.
    #[must_use]
    pub fn after_denials(mut self, denials: u32) -> Self {
        use std::fmt::Write as _;
        if self.exit == Exit::OutOfMemory && denials > 0 {
            let s = if denials == 1 { "" } else { "s" };
            let _ = write!(self.text, " after {denials} denied grant{s}");
        }
        self
    }
}

fn limit(granted: Bytes, ceiling: Bytes) -> String {
    let which = if granted >= ceiling { "its ceiling" } else { "its limit" };
    format!("{which} of {}", granted.min(ceiling))
}

/// What the agent knew last of a workload that is torn down.
#[derive(Debug, Clone, Copy, Default)]
pub struct Last {
    /// The `memory.high` governed last.
    pub granted: Bytes,
    /// How often it has asked for more in vain since that was raised.
    pub denials: u32,
    /// Why it was killed, if its own law had it killed.
    pub killed_for: Option<Reason>,
}

impl Last {
    /// How it ended, in words.
    #[must_use]
    pub fn ended(self, exit: Exit, ceiling: Bytes) -> Ended {
        let ended = Ended::new(exit, self.granted, ceiling).after_denials(self.denials);
        let has_thrashed = self.killed_for == Some(Reason::ThrashedAtLimit);
        if has_thrashed { ended.of_thrashing(self.granted, ceiling) } else { ended }
    }
}

impl Records {
    /// Opens the directory below `runtime_dir`, making it if need be.
    pub fn open(runtime_dir: &Path) -> io::Result<Self> {
        let directory = runtime_dir.join("exits");
        fs::create_dir_all(&directory)?;
        // How the workloads of one tenant end is not for the users of another.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750))?;
        Ok(Self { directory, kept: Mutex::default() })
    }

    /// Makes the record that init will write to, and where it is. Its room is taken now: an empty one would be read as a kill, where the
    /// file system is full by the end.
    pub fn create(&self, id: u64) -> (PathBuf, io::Result<File>) {
        let path = self.path(id);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|file| {
            match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, ROOM) {
                // Not every file system can.
                Err(Errno::EOPNOTSUPP) | Ok(()) => Ok(file),
                Err(errno) => {
                    self.discard(id);
                    Err(errno.into())
                }
            }
        });
        (path, file)
    }

    /// What init wrote.
    #[must_use]
    pub fn witness(&self, id: u64) -> Witness {
        fs::read_to_string(self.path(id)).map_or(Witness::Lost, |text| parse(&text))
    }

    /// Drops what init wrote.
    pub fn discard(&self, id: u64) {
        let _ = fs::remove_file(self.path(id));
    }

    /// Keeps an end, and forgets the oldest beyond [`REMEMBERED`].
    pub fn keep(&self, id: u64, ended: &Ended) -> io::Result<()> {
        write(&self.directory, id, ended)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|&other| other != id);
        kept.push_back(id);
        while kept.len() > REMEMBERED {
            let Some(oldest) = kept.pop_front() else { break };
            let _ = fs::remove_file(end_path(&self.directory, oldest));
        }
        Ok(())
    }

    /// The ends that an earlier agent kept, oldest first. What init wrote for a workload that is none of `present` any more
    /// is made into an end: somebody removed its cgroup while no agent ran. All else is removed.
    pub fn recover(&self, present: &[u64]) -> io::Result<Vec<(u64, Ended)>> {
        let present: HashSet<u64> = present.iter().copied().collect();
        let mut ends = Vec::new();
        let mut orphans = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let written = || entry.metadata().and_then(|m| m.modified()).ok();
            if let Some(id) = name.strip_suffix(".end").and_then(|n| n.parse::<u64>().ok())
                && let Ok(ended) = fs::read(&path)
                    .map_err(|_| ())
                    .and_then(|text| serde_json::from_slice::<Ended>(&text).map_err(|_| ()))
            {
                ends.push((written(), id, ended));
            } else if let Ok(id) = name.parse::<u64>() {
                if !present.contains(&id) {
                    orphans.push((written(), id));
                }
            } else {
                let _ = fs::remove_file(path);
            }
        }
        for (written, id) in orphans {
            if let Witness::Told(exit) = self.witness(id)
                && !ends.iter().any(|(_, other, _)| *other == id)
            {
                let ended = Ended::new(exit, Bytes::ZERO, Bytes::ZERO);
                write(&self.directory, id, &ended)?;
                ends.push((written, id, ended));
            }
            self.discard(id);
        }
        ends.sort_by_key(|(written, id, _)| (*written, *id));
        let surplus = ends.len().saturating_sub(REMEMBERED);
        for (_, id, _) in ends.drain(..surplus) {
            let _ = fs::remove_file(end_path(&self.directory, id));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(ends.iter().map(|(_, id, _)| *id));
        Ok(ends.into_iter().map(|(_, id, ended)| (id, ended)).collect())
    }

    fn path(&self, id: u64) -> PathBuf {
        self.directory.join(id.to_string())
    }
}

/// How a workload ended, as far as it is certain without an agent; `None` when it still runs, or only an agent can tell.
#[must_use]
pub fn without_agent(runtime_dir: &Path, id: u64) -> Option<Ended> {
    let directory = runtime_dir.join("exits");
    if let Ok(text) = fs::read(end_path(&directory, id)) {
        return serde_json::from_slice(&text).ok();
    }
    match parse(&fs::read_to_string(directory.join(id.to_string())).ok()?) {
        Witness::Told(exit) => {
            // A kill may have been the kernel's, out of memory: the counters of the cgroup tell an agent.
            let is_certain = exit != Exit::Signaled { signal: libc::SIGKILL };
            is_certain.then(|| Ended::new(exit, Bytes::ZERO, Bytes::ZERO))
        }
        Witness::Silent | Witness::Unstarted | Witness::Lost => None,
    }
}

/// Beside and renamed: a reader sees it whole or not at all.
fn write(directory: &Path, id: u64, ended: &Ended) -> io::Result<()> {
    let beside = directory.join(format!("{id}.new"));
    fs::write(&beside, serde_json::to_vec(ended).unwrap_or_default())?;
    fs::rename(&beside, end_path(directory, id))
}

fn end_path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id}.end"))
}

/// What init wrote.
#[must_use]
pub fn parse(record: &str) -> Witness {
    let Some(line) = record.lines().next() else { return Witness::Silent };
    let number = |text: &str| text.parse().ok();
    let exit = match line.split_once(' ') {
        Some(("exited", code)) => number(code).map(|code| Exit::Exited { code }),
        Some(("signaled", signal)) => number(signal).map(|signal| Exit::Signaled { signal }),
        None if line == "unstarted" => return Witness::Unstarted,
        Some(_) | None => None,
    };
    exit.map_or(Witness::Lost, Witness::Told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bellows-records-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn exited(code: i32) -> Ended {
        Ended::new(Exit::Exited { code }, Bytes::mib(1), Bytes::mib(2))
    }

    #[test]
    fn records_as_init_writes_them() {
        let table = [
            ("exited 3\nunix_ns 1\n", Witness::Told(Exit::Exited { code: 3 })),
            ("signaled 15\nunix_ns 1\n", Witness::Told(Exit::Signaled { signal: 15 })),
            ("unstarted\nunix_ns 1\n", Witness::Unstarted),
            ("", Witness::Silent),
            ("exited x\n", Witness::Lost),
            ("garbage\n", Witness::Lost),
        ];
        for (text, witness) in table {
            assert_eq!(parse(text), witness, "{text:?}");
        }
    }

    #[test]
    fn ends_outlive_the_agent_in_order_and_in_bounds() {
        let runtime_dir = directory("bounds");
        let records = Records::open(&runtime_dir).unwrap();
        for id in 0..REMEMBERED as u64 + 10 {
            records.keep(id, &exited(i32::try_from(id % 100).unwrap())).unwrap();
        }
        assert_eq!(fs::read_dir(runtime_dir.join("exits")).unwrap().count(), REMEMBERED);
        let mode = fs::metadata(runtime_dir.join("exits")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7, 0, "of no use to others");
        let found = Records::open(&runtime_dir).unwrap().recover(&[]).unwrap();
        assert_eq!(found.len(), REMEMBERED);
        assert_eq!(found.iter().find(|(id, _)| *id == 107).map(|(_, e)| e.code), Some(7));
        assert_eq!(without_agent(&runtime_dir, 107), Some(exited(7)));
        assert_eq!(without_agent(&runtime_dir, 3), None, "forgotten");
        fs::remove_dir_all(runtime_dir).unwrap();
    }

    #[test]
    fn records_without_a_cgroup_become_ends_and_others_stay() {
        let runtime_dir = directory("orphans");
        let records = Records::open(&runtime_dir).unwrap();
        for (id, text) in
            [(1, "exited 4\n"), (2, ""), (3, "exited 5\n"), (4, "unstarted\n"), (5, "signaled 9\n")]
        {
            fs::write(runtime_dir.join("exits").join(id.to_string()), text).unwrap();
        }
        assert_eq!(without_agent(&runtime_dir, 1).map(|e| e.code), Some(4));
        assert_eq!(without_agent(&runtime_dir, 2), None, "it runs");
        assert_eq!(without_agent(&runtime_dir, 5), None, "perhaps out of memory");
        let found: Vec<(u64, i32)> =
            records.recover(&[3]).unwrap().into_iter().map(|(id, e)| (id, e.code)).collect();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&(1, 4)) && found.contains(&(5, 137)), "{found:?}");
        assert_eq!(records.witness(3), Witness::Told(Exit::Exited { code: 5 }), "its cgroup is there");
        assert_eq!(records.witness(4), Witness::Lost, "removed");
        fs::remove_dir_all(runtime_dir).unwrap();
    }

    #[test]
    fn an_end_in_words() {
        let (limit, ceiling) = (Bytes::mib(64), Bytes::mib(128));
        let text = |exit, granted| Ended::new(exit, granted, ceiling).text;
        assert!(text(Exit::OutOfMemory, limit).ends_with("at its limit of 64 MiB"));
        assert!(text(Exit::OutOfMemory, Bytes::mib(200)).ends_with("at its ceiling of 128 MiB"));
        let told = |exit, denials| Ended::new(exit, ceiling, ceiling).after_denials(denials).text;
        let killed = "killed by the kernel: out of memory at its ceiling of 128 MiB";
        assert_eq!(told(Exit::OutOfMemory, 0), killed);
        assert_eq!(told(Exit::OutOfMemory, 1), format!("{killed} after 1 denied grant"));
        assert_eq!(told(Exit::OutOfMemory, 3), format!("{killed} after 3 denied grants"));
        assert_eq!(told(Exit::Exited { code: 1 }, 3), "exited with code 1");
        assert_eq!(text(Exit::Signaled { signal: 15 }, limit), "ended by signal 15 (SIGTERM)");
        assert_eq!(Exit::OutOfMemory.code(), 137);
    }
}
