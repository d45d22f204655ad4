//! Detached workloads on disk: what was asked for, how far each has come, and what it says.
//!
//! ```text
//! <runtime dir>/workloads/<tenant>/<name>/kept.json      a workload that nobody but the agent waits for
//! <runtime dir>/workloads/<tenant>/<name>/log, log.1 ... its output, the current file first
//! ```
//! The tree is the database of what runs; this is that of what is to run again. It is written before a workload is started,
//! and after each end. Its environment may hold secrets: nobody but its owner reads it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lifecycle::State;
use super::records::Ended;
use super::spec::{Asked, Name, Spec};

const FILE: &str = "kept.json";

/// A detached workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// What was asked for, with what an operator has set since.
    pub spec: Arc<Spec<Asked>>,
    /// A weight that an operator has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Where it is in its life. While anything of it may be left the tree knows better.
    pub state: State,
    /// The id of its last cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// How it ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// An operator has told it to end.
    #[serde(default)]
    pub was_told: bool,
    /// It is to be started again after so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<u64>,
    /// How often it was started again by its rule.
    #[serde(default)]
    pub restarts: u64,
    /// Runs in a row that ended too soon.
    #[serde(default)]
    pub failures: u32,
}

/// The directory of all of them.
#[derive(Debug, Clone)]
pub struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// Opens the directory below `runtime_dir`, making it if need be.
    pub fn open(runtime_dir: &Path) -> io::Result<Self> {
        let directory = directory(runtime_dir);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory })
    }

    /// The directory of one; it is there once it is kept.
    #[must_use]
    pub fn path(&self, tenant: &Name, name: &Name) -> PathBuf {
        self.directory.join(tenant.as_str()).join(name.as_str())
    }

    /// Keeps it, beside and renamed: a reader sees it whole or not at all.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        let Asked { tenant, name, .. } = &kept.spec.identity;
        let place = self.path(tenant, name);
        DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        let beside = place.join("kept.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        fs::rename(beside, place.join(FILE))
    }

    /// Forgets it, and all that it has said.
    pub fn remove(&self, tenant: &Name, name: &Name) -> io::Result<()> {
        let owner = self.directory.join(tenant.as_str());
        match fs::remove_dir_all(owner.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Refused while others are in it.
        let _ = fs::remove_dir(owner);
        Ok(())
    }

    /// All that an earlier agent kept, and what cannot be understood.
    pub fn recover(&self) -> io::Result<(Vec<Kept>, Vec<String>)> {
        let (mut all, mut trouble) = (Vec::new(), Vec::new());
        for owner in fs::read_dir(&self.directory)?.flatten() {
            for place in fs::read_dir(owner.path()).into_iter().flatten().flatten() {
                let path = place.path().join(FILE);
                match fs::read(&path).and_then(|text| Ok(serde_json::from_slice::<Kept>(&text)?)) {
                    Ok(kept) => all.push(kept),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => trouble.push(format!("{} is not understood: {error}", path.display())),
                }
            }
        }
        Ok((all, trouble))
    }
}

/// What is kept of a workload, read by whoever is not the agent.
pub fn read(runtime_dir: &Path, tenant: &Name, name: &Name) -> io::Result<Kept> {
    let path = log_directory(runtime_dir, tenant, name).join(FILE);
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Where the log of a workload is.
#[must_use]
pub fn log_directory(runtime_dir: &Path, tenant: &Name, name: &Name) -> PathBuf {
    directory(runtime_dir).join(tenant.as_str()).join(name.as_str())
}

fn directory(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("workloads")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::life::{Life, Restart};
    use bellows_policies::Resources;

    #[test]
    fn what_is_kept_is_found_again_until_it_is_forgotten() {
        let runtime_dir = std::env::temp_dir().join(format!("bellows-shelf-{}", std::process::id()));
        let _ = fs::remove_dir_all(&runtime_dir);
        let shelf = Shelf::open(&runtime_dir).unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        let identity = Asked {
            tenant: name("acme"),
            name: name("web"),
            class: None,
            memory: None,
            cpu: None,
            resources: Resources::default(),
        };
        let life = Life { restart: Restart::Always, ..Life::default() };
        let isolation = crate::workload::isolation::Isolation::default();
        let (argv, env, cwd) = (vec!["true".to_owned()], Vec::new(), "/".to_owned());
        let spec = Spec { identity, argv, env, cwd, isolation, life };
        let kept = Kept {
            spec: Arc::new(spec),
            weight: None,
            state: State::Failed,
            id: Some(7),
            ended: None,
            was_told: false,
            again_ms: Some(400),
            restarts: 3,
            failures: 2,
        };
        shelf.write(&kept).unwrap();
        fs::create_dir_all(runtime_dir.join("workloads/acme/half")).unwrap();
        fs::create_dir_all(runtime_dir.join("workloads/acme/torn")).unwrap();
        fs::write(runtime_dir.join("workloads/acme/torn/kept.json"), "{").unwrap();
        let (all, trouble) = shelf.recover().unwrap();
        assert_eq!((all.len(), trouble.len()), (1, 1), "{trouble:?}");
        assert_eq!((all[0].restarts, all[0].again_ms, all[0].state), (3, Some(400), State::Failed));
        assert_eq!(all[0].spec.life.restart, Restart::Always);
        assert_eq!(read(&runtime_dir, &name("acme"), &name("web")).unwrap().id, Some(7));
        shelf.remove(&name("acme"), &name("web")).unwrap();
        assert!(shelf.recover().unwrap().0.is_empty());
        fs::remove_dir_all(runtime_dir).unwrap();
    }
}
