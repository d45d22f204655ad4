//! The five dashboards, from the whole to the part: fleet, node, tenant, workload; and the agent itself.

mod agent;
mod fleet;
mod node;
mod tenant;
mod workload;

use super::model::{Annotation, Dashboard, Variable, expression};

/// All of them.
#[must_use]
pub fn all() -> Vec<Dashboard> {
    vec![
        fleet::dashboard(),
        node::dashboard(),
        tenant::dashboard(),
        workload::dashboard(),
        agent::dashboard(),
    ]
}

fn tenants() -> Variable {
    Variable { name: "tenant", label: "Tenant", series: expression("bellows_tenant_workloads{@}") }
}

/// OOM kills of what `matchers` select.
fn oom_kills(matchers: &str) -> Annotation {
    Annotation {
        name: "OOM kill",
        expression: expression(&format!(
            "sum by (instance, tenant) (increase(bellows_tenant_oom_kills_total{{{matchers}}}[#])) > 0"
        )),
        keys: "{{tenant}} on {{instance}}",
        colour: "red",
    }
}
