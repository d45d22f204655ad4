//! What is shown of detached workloads, those that have ended too.

use bellows_policies::units::{Bounds, Bytes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::WorkloadView;
use crate::metrics::{Facts, Published, Terms};
use crate::workload::life::Restart;
use crate::workload::shelf::Kept;
use crate::workload::spec::Asked;

/// A detached workload, as it is shown.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DetachedView {
    /// Its command and its arguments.
    pub argv: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// How often it was.
    pub restarts: u64,
    /// How it ended last, in words.
    pub ended: Option<String>,
    /// Whether it is to be started again.
    pub is_waiting: bool,
}

impl From<&Kept> for DetachedView {
    fn from(kept: &Kept) -> Self {
        Self {
            argv: kept.spec.argv.clone(),
            restart: kept.spec.life.restart,
            restarts: kept.restarts,
            ended: kept.ended.as_ref().map(|ended| ended.text.clone()),
            is_waiting: kept.again_ms.is_some(),
        }
    }
}

/// Of what has ended there is nothing to be measured.
impl From<&Kept> for WorkloadView {
    fn from(kept: &Kept) -> Self {
        let Asked { tenant, name, class, memory, cpu, resources } = kept.spec.identity.clone();
        let terms = Terms {
            class: class.map_or("-".into(), |class| class.as_str().into()),
            assigned: None,
            pin: None,
            resources,
        };
        let facts = Facts {
            tenant: tenant.to_string(),
            workload: name.to_string(),
            terms,
            memory: memory.unwrap_or(Bounds { floor: Bytes::ZERO, ceiling: Bytes::ZERO }),
            cpu,
            started_unix_ns: 0,
            adopted: false,
        };
        let published = Published::new(facts);
        published.life(kept.state as u8, 0);
        Self { detached: Some(kept.into()), ..Self::from(&published) }
    }
}
