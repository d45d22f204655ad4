//! What an operator sets of a running workload, by the rules of a launch.
//!
//! Of devices, cpus, memory nodes and huge pages the kernel knows what there is, and its writes of them can wait. So a worker tries
//! those first, and puts them back where one is refused; the rest of the order is carried out, and answered, after that. It is
//! carried out as a reload in between finds it: the own bounds stay, what follows the class follows.

use std::sync::Arc;

use bellows_policies::Class;

use super::actuator;
use super::control_loop::Control;
use super::handle::Refused;
use super::lanes::Job;
use super::operate::Waiter;
use super::registry::Entry;
use super::tenants::no_room;
use crate::journal::{Conditions, What};
use crate::kernel::watch::Key;
use crate::workload::change::Change;
use crate::workload::parts::{Giving, PartsError};
use crate::workload::spec::Identity;
use crate::workload::supervisor::identify;

/// An order that waits for the kernel's word.
#[derive(Debug)]
pub(super) struct Given {
    /// Who the workload is to be.
    to: Identity,
    /// Whether its class was named.
    has_class: bool,
    /// What need not be written again when the kernel has taken it, as long as its class is this one.
    files: Vec<(&'static str, String)>,
    class: Arc<Class>,
    /// Who has asked; nobody of what is taken back.
    pub(super) waiter: Option<Waiter>,
}

impl Control {
    /// Changes class, bounds, weight and parts. `None`: it is under way, and answered by [`Self::given`].
    pub(super) fn set(&mut self, key: Key, change: &Change) -> Result<Option<What>, Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        if entry.giving.is_some() {
            let text = format!("{}: it is being changed by another order: try again in a moment", entry.name);
            return Err(Refused::NotAllowed(text));
        }
        let identity = entry.identity().clone();
        let to = change.of(&identity, &self.rules, self.budget.capacity).map_err(Refused::NotAllowed)?;
        let has_class = change.class.is_some();
        self.has_room(key, &to)?;
        if change.asks_the_kernel() {
            return self.try_parts(key, identity, to, has_class).map(|()| None);
        }
        self.govern_as_set(key, to, has_class, &[]).map(Some)
    }

    /// A raised floor has to fit the budget.
    fn has_room(&mut self, key: Key, to: &Identity) -> Result<(), Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        if to.memory.floor <= entry.identity().memory.floor {
            return Ok(());
        }
        let (seat, granted) = (entry.law.seat(), entry.law.granted());
        self.budget.fits(seat, granted, to.memory.floor).map_err(|refusal| no_room(&to.tenant, refusal))
    }

    /// Has a worker try what the kernel has a word in.
    fn try_parts(&mut self, key: Key, from: Identity, to: Identity, has_class: bool) -> Result<(), Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        let Some(open) = &entry.open else { return Err(Refused::Busy) };
        let files = |identity: &Identity| actuator::part_files(identity, &entry.class);
        let (before, after) = (files(&from), files(&to));
        let (files, back) =
            (actuator::changed_files(&before, &after), actuator::changed_files(&after, &before));
        let running = Arc::clone(&open.running);
        let giving = Giving { running, from, to: to.clone(), files: files.clone(), back };
        // What is still to be written of an earlier order would be written over it.
        let files = if self.rewrites.is_idle() { files } else { Vec::new() };
        self.lanes.submit(Job::Give(key, Box::new(giving))).map_err(|_| Refused::Busy)?;
        entry.giving = Some(Given { to, has_class, files, class: Arc::clone(&entry.class), waiter: None });
        Ok(())
    }

    /// Takes in the kernel's word.
    pub(super) fn given(&mut self, key: Key, result: Result<(), PartsError>) {
        let Some(entry) = self.registry.get(key) else { return };
        let (name, is_clearing, from) =
            (Arc::clone(&entry.name), entry.is_clearing, entry.identity().clone());
        let Some(Given { to, has_class, files, class, waiter }) = entry.giving.take() else { return };
        let written = if class == entry.class { files } else { Vec::new() };
        let is_given = result.is_ok() && !is_clearing;
        let outcome = match result {
            _ if is_clearing => Err(Refused::NotFound(name.to_string())),
            Ok(()) => {
                // There may be less room by now.
                let room = self.has_room(key, &to);
                room.and_then(|()| self.govern_as_set(key, to.clone(), has_class, &written))
            }
            Err(error) => Err(Refused::NotAllowed(error.to_string())),
        };
        let Some(waiter) = waiter else { return };
        if is_given && outcome.is_err() {
            let _ = self.try_parts(key, to, from, false);
        }
        self.answer(Some(key), &name, "set", waiter, outcome);
    }

    /// Governs a workload as it was set, with these files written by its class of so far. The identity is written first: whoever takes
    /// the workload over governs it as that.
    fn govern_as_set(
        &mut self,
        key: Key,
        mut to: Identity,
        has_class: bool,
        written: &[(&'static str, String)],
    ) -> Result<What, Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        let Some(open) = &entry.open else { return Err(Refused::Busy) };
        let from = conditions(entry);
        identify(open.cgroup(), &to).map_err(|error| Refused::Failed(error.to_string()))?;
        let (name, class_before) = (Arc::clone(&entry.name), Arc::clone(&entry.class));
        let class = self.class_again(&mut to);
        let is_same = class == class_before;
        self.keep_settings(&name, &to, has_class);
        let mut rewrite = self.govern_as(key, to, class);
        if let Some((_, rewrite)) = rewrite.as_mut().filter(|_| is_same) {
            rewrite.files.retain(|file| !written.contains(file));
        }
        self.regain(key);
        self.rewrite(rewrite);
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        Ok(What::SettingsChanged { from, to: conditions(entry) })
    }
}

fn conditions(entry: &Entry) -> Conditions {
    let Identity { class, memory, cpu, resources, .. } = entry.identity();
    Conditions {
        class: class.to_string(),
        memory: *memory,
        cpu: *cpu,
        weight: entry.weight(),
        pids: resources.pids,
        swap: resources.swap,
        resources: Box::new(resources.clone()),
    }
}
