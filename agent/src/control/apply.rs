//! What a file asks for: compared with what is kept, and taken over as what is asked for from now on.

use std::sync::Arc;

use super::control_loop::Control;
use super::handle::Refused;
use crate::journal::{Caller, Deed, What};
use crate::kernel::clock;
use crate::workload::apply::{self, ApplyPlan, Present};
use crate::workload::life;
use crate::workload::lifecycle::State;
use crate::workload::logs::Stdio;
use crate::workload::shelf::Kept;
use crate::workload::spec::{Asked, Name, Spec};

/// What comes of a file.
#[derive(Debug)]
pub enum Planned {
    /// What is to be done, and the class that it has then.
    Now(ApplyPlan, Name),
    /// Whoever asks waits until what is in this cgroup has ended: it has been told to, or is being cleared away.
    After(u64),
}

impl Control {
    /// What is to be done so that a detached workload is as `spec`, and the class that it has then.
    pub(super) fn plan_apply(&mut self, spec: &Spec<Asked>) -> Result<Planned, Refused> {
        let name = spec.identity.to_string();
        let (admitted, _) = self.admit(spec.clone(), None).map_err(Refused::NotAllowed)?;
        let is_kept = self.keep.get(&name).is_some();
        if let Some(entry) = self.registry.find(&spec.identity.tenant, &spec.identity.name) {
            if !is_kept {
                return Err(Refused::Exists(name));
            }
            if let (State::Stopping, Some(open)) = (entry.state, &entry.open) {
                return Ok(Planned::After(open.cgroup().id()));
            }
        }
        let kept = self.keep.get(&name);
        let present = kept.map(|kept| Present {
            spec: &kept.spec,
            state: kept.state,
            ended: kept.ended.as_ref().map(|ended| ended.text.as_str()),
            is_waiting: kept.again_ms.is_some(),
            was_told: kept.was_told,
        });
        Ok(Planned::Now(apply::plan(present, spec), admitted.identity.class.clone()))
    }

    /// A detached workload is asked for as `spec` from now on; what of that concerns a process has been dealt with.
    pub(super) fn adjust(
        &mut self,
        spec: Spec<Asked>,
        differences: Vec<String>,
        by: &Arc<Caller>,
    ) -> Result<What, Refused> {
        let name: Arc<str> = spec.identity.to_string().into();
        if self.keep.get(&name).is_none() {
            return Err(Refused::NotFound(name.to_string()));
        }
        if let Some(entry) = self.registry.find(&spec.identity.tenant, &spec.identity.name) {
            entry.spec = Arc::new(Spec { life: spec.life.clone(), ..Spec::clone(&entry.spec) });
            if let Some(open) = &entry.open {
                life::write(open.cgroup(), &spec.life).map_err(|error| Refused::Failed(error.to_string()))?;
            }
        }
        self.keep_spec(&name, spec);
        let what = What::Life(Deed::Applied { differences });
        self.journal.ordered(clock::unix_nanoseconds(), &name, Some(by), what.clone());
        Ok(what)
    }

    /// What is kept of a workload that is about to be started; nothing, where its client stays with it.
    pub(super) fn kept_for(
        &self,
        name: &str,
        spec: &Spec<Asked>,
        is_detached: bool,
        is_asked: bool,
    ) -> Result<Option<Kept>, Refused> {
        let before = self.keep.get(name);
        if !is_detached {
            // Its log would be of two workloads, and its rule of the other one.
            return before.map_or(Ok(None), |_| {
                let text =
                    format!("{name} is remembered, a detached one that has ended: `bellows rm` forgets it");
                Err(Refused::NotAllowed(text))
            });
        }
        if before.is_none() && self.keep.is_full() {
            let text =
                "too many detached workloads are remembered: `bellows rm` forgets those that have ended";
            return Err(Refused::NotAllowed(text.to_owned()));
        }
        let (restarts, failures) = before.map_or((0, 0), |kept| (kept.restarts, kept.failures));
        let failures = if is_asked { 0 } else { failures };
        Ok(Some(Kept {
            spec: Arc::new(spec.clone()),
            weight: before.and_then(|kept| kept.weight),
            state: State::Starting,
            id: None,
            ended: None,
            was_told: false,
            again_ms: None,
            restarts,
            failures,
        }))
    }

    /// Where the output of a detached one goes.
    pub(super) fn logged(&self, spec: &Spec) -> Stdio {
        if spec.life.journal {
            return Stdio::Journaled(spec.identity.to_string());
        }
        let directory = self.keep.shelf.path(&spec.identity.tenant, &spec.identity.name);
        Stdio::Logged { directory, bounds: spec.life.log, terminal: spec.life.terminal }
    }
}
