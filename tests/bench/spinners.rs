//! Processes that take all the cpu time they can get.

use std::process::Child;

use crate::tree::{self, Place};

/// Processes that keep cpus busy, in a cgroup of their own.
pub(crate) struct Spinners<'a> {
    place: &'a Place,
    running: Vec<Child>,
}

const SPINNING: &str = "spin";

impl<'a> Spinners<'a> {
    pub(crate) fn start(place: &'a Place, count: usize) -> anyhow::Result<Self> {
        let mut spinners = Self { place, running: Vec::new() };
        if count > 0 {
            let path = place.cgroup.create_child(SPINNING)?.path().display().to_string();
            for _ in 0..count {
                spinners.running.push(place.start(&["spin", &path])?);
            }
        }
        Ok(spinners)
    }

    pub(crate) fn stop(&mut self) {
        if self.running.is_empty() {
            return;
        }
        for mut spinner in self.running.drain(..) {
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
        if let Err(error) = tree::clear(&self.place.cgroup, SPINNING) {
            eprintln!("bellows-bench: {error:#}");
        }
    }
}

impl Drop for Spinners<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
