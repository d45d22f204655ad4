//! What people and scripts see, made from the code: of the catalogue of metrics the page of the documentation, Grafana's dashboards and
//! Prometheus' rules; of the types that verbs print, their page. `bellows-surfaces` writes the files; a test fails when they are not what it would write.
//!
//! | file | holds |
//! |---|---|
//! | `page` | `docs/metrics.md` |
//! | `json` | `docs/json.md` |
//! | `promql` | what an expression names |
//! | `model` | dashboards as Grafana's JSON |
//! | `dashboards` | the five of them |
//! | `rules` | recording and alerting rules |
//! | `requests` | whether what can be asked for is what is described |
//! | `shape` | whether what is printed is what is documented |
//! | `lint` | what holds for every dashboard and rule |

pub mod dashboards;
pub mod json;
pub mod lint;
pub mod model;
mod page;
pub mod promql;
#[cfg(test)]
mod requests;
pub mod rules;
pub mod shape;

/// All files that are generated: where, from the root of the repository, and what is in them.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let mut files = vec![
        ("docs/metrics.md".to_owned(), page::text()),
        ("docs/json.md".to_owned(), json::text()),
        ("dashboards/prometheus/rules.yml".to_owned(), rules::yaml()),
        ("deploy/kubernetes/components/monitoring/prometheusrule.yaml".to_owned(), rules::custom_resource()),
    ];
    for dashboard in dashboards::all() {
        let text = serde_json::to_string_pretty(&dashboard.json()).unwrap_or_default() + "\n";
        files.push((format!("dashboards/grafana/{}.json", dashboard.name), text));
    }
    files
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_is_committed_is_what_is_generated() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
        for (path, text) in super::files() {
            let committed = fs::read_to_string(root.join(&path)).unwrap_or_default();
            assert!(
                committed == text,
                "{path} is not what it would be: run `make surfaces`, and look at what changes"
            );
        }
    }
}
