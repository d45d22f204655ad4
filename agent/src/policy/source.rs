//! The files of policies, in the order in which later ones override earlier ones, and places in them.
//!
//! What is read is bounded: a policy directory is written by an operator, but also by whatever fills a ConfigMap.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;

/// The largest file, bytes.
const LARGEST: u64 = 1 << 20;
/// The most files.
const MOST_FILES: usize = 256;

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// As it is named to people.
    pub name: String,
    /// Its text; empty when it cannot be read.
    pub text: String,
}

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Source {
    /// Line and column of an offset, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[begin..].chars().count() + 1)
    }

    /// `file:line`, as an origin.
    pub(super) fn origin(&self, place: Place) -> String {
        format!("{}:{}", self.name, self.position(place.start).0)
    }
}

/// Reads files, and of directories all `*.toml` by name. What is not there is an error, but for a directory named by default.
#[must_use]
pub fn read(paths: &[PathBuf]) -> (Vec<Source>, Vec<Diagnostic>) {
    let (mut sources, mut troubles) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            add(path, &mut sources, &mut troubles);
            continue;
        }
        match files_of(path) {
            Ok(files) => files.iter().for_each(|file| add(file, &mut sources, &mut troubles)),
            Err(error) => {
                unreadable(path, &format!("cannot be listed: {error}"), &mut sources, &mut troubles);
            }
        }
    }
    if sources.len() > MOST_FILES {
        sources.truncate(MOST_FILES);
        let place = Place { file: MOST_FILES - 1, start: 0, end: 0 };
        troubles
            .push(Diagnostic::error(place, format!("more than {MOST_FILES} files: the rest is not read")));
    }
    (sources, troubles)
}

/// Names with a leading dot are none of ours: editors' and ConfigMaps' own (`..data`).
fn files_of(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && Path::new(&name).extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    // One more than allowed is enough to say so.
    files.truncate(MOST_FILES + 1);
    Ok(files)
}

fn add(path: &Path, sources: &mut Vec<Source>, troubles: &mut Vec<Diagnostic>) {
    let mut bytes = Vec::new();
    // A pipe or a device would be read for ever: only files are policies.
    let read = fs::metadata(path).and_then(|metadata| {
        if !metadata.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a file"));
        }
        File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)
    });
    let name = path.display().to_string();
    match read {
        Err(error) => unreadable(path, &format!("cannot be read: {error}"), sources, troubles),
        Ok(_) if bytes.len() as u64 > LARGEST => {
            unreadable(path, "is larger than 1 MiB: split it", sources, troubles);
        }
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => sources.push(Source { name, text }),
            Err(_) => unreadable(path, "is not UTF-8 text", sources, troubles),
        },
    }
}

fn unreadable(path: &Path, problem: &str, sources: &mut Vec<Source>, troubles: &mut Vec<Diagnostic>) {
    let name = path.display().to_string();
    let place = Place { file: sources.len(), start: 0, end: 0 };
    troubles.push(Diagnostic::error(place, format!("{name} {problem}")));
    sources.push(Source { name, text: String::new() });
}
