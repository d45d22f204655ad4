//! What holds for every dashboard and rule: the rules of Grafana's dashboard-linter, by their names there, and that nothing is named
//! that is not in the catalogue, and nothing in the catalogue is shown nowhere.

use std::collections::BTreeSet;

use bellows::metrics::catalogue::{self, Kind};
use serde_json::Value;

use super::promql::{metric, names, selectors};
use super::rules::{ALERTS, RECORDED};
use super::{dashboards, model};

/// Units of Grafana that we use.
const UNITS: [&str; 6] = ["short", "bytes", "Bps", "s", "ops", "percentunit"];

/// All that is wrong with a dashboard, as Grafana would read it.
#[must_use]
pub fn dashboard(dashboard: &model::Dashboard) -> Vec<String> {
    let json = dashboard.json();
    let mut found = Vec::new();
    let mut check = |holds: bool, rule: &str, place: &str| {
        if !holds {
            found.push(format!("{}: {rule}: {place}", dashboard.name));
        }
    };
    check(json["editable"] == false, "uneditable-dashboard", "");
    let variables = list(&json["templating"]["list"]);
    let named = |name: &str| variables.iter().find(|v| v["name"] == name);
    let source =
        named("datasource").is_some_and(|v| v["type"] == "datasource" && v["label"] == "Data source");
    check(source, "template-datasource-rule", "datasource");
    for (name, rule) in [("job", "template-job-rule"), ("instance", "template-instance-rule")] {
        let is_right = |v: &Value| v["multi"] == true && v["allValue"] == ".+" && v["type"] == "query";
        check(named(name).is_some_and(is_right), rule, name);
    }
    for variable in variables.iter().filter(|v| v["type"] == "query") {
        let name = variable["name"].as_str().unwrap_or_default();
        check(variable["refresh"] == 2, "template-on-time-change-reload-rule", name);
        let label = variable["label"].as_str().unwrap_or_default();
        check(!label.is_empty() && label.to_lowercase() == name, "template-label-promql-rule", name);
        check(variable["datasource"]["uid"] == "${datasource}", "template-datasource-rule", name);
    }
    let (mut ids, mut first) = (BTreeSet::new(), None);
    for panel in list(&json["panels"]) {
        let title = panel["title"].as_str().unwrap_or_default();
        check(ids.insert(panel["id"].as_u64()), "panel ids are unique", title);
        if panel["type"] == "row" {
            first.get_or_insert(title.to_owned());
            continue;
        }
        check(panel["datasource"]["uid"] == "${datasource}", "panel-datasource-rule", title);
        let described = panel["description"].as_str().is_some_and(|d| d.ends_with('.'));
        check(!title.is_empty() && described, "panel-title-description-rule", title);
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        check(UNITS.contains(&unit), "panel-units-rule", title);
        check(!list(&panel["targets"]).is_empty(), "panel-no-targets-rule", title);
        for target in list(&panel["targets"]) {
            check(target["datasource"]["uid"] == "${datasource}", "target-datasource", title);
            let several = list(&panel["targets"]).len() > 1;
            check(!several || target["legendFormat"] != "", "legends where there are several lines", title);
        }
    }
    check(first.as_deref() == Some("Is it well?"), "the first row answers whether it is well", "");
    for (place, expression) in dashboard.expressions() {
        check(
            expression.matches('(').count() == expression.matches(')').count(),
            "target-promql-rule",
            &place,
        );
        for (name, matchers, range) in selectors(&expression) {
            check(matchers.contains("job=~\"$job\""), "target-job-rule", &place);
            check(matchers.contains("instance=~\"$instance\""), "target-instance-rule", &place);
            let interval = range.as_deref().is_none_or(|r| r == "$__rate_interval" || r == "$__range");
            check(interval, "target-rate-interval-rule", &place);
            let is_counter = metric(&name).is_some_and(|m| m.kind != Kind::Gauge);
            check(is_counter == range.is_some(), "target-counter-agg-rule", &format!("{place}: {name}"));
        }
    }
    found
}

/// Names in dashboards and rules that nothing of that name is exposed or recorded for.
#[must_use]
pub fn unknown_names() -> Vec<String> {
    let is_known = |name: &String| {
        name == "up" || metric(name).is_some() || RECORDED.iter().any(|recorded| recorded.name == name)
    };
    everything().into_iter().filter(|name| !is_known(name)).collect()
}

/// Metrics of the catalogue, and recorded series, that are in no dashboard and no rule.
#[must_use]
pub fn unused() -> Vec<String> {
    let used = everything();
    let shown: BTreeSet<&str> = used.iter().filter_map(|name| Some(metric(name)?.name)).collect();
    let metrics = catalogue::all().map(|m| m.name).filter(|name| !shown.contains(name));
    let recorded = RECORDED.iter().map(|r| r.name).filter(|name| !used.contains(*name));
    metrics.chain(recorded).map(str::to_owned).collect()
}

/// All names, of all dashboards and rules; but for what is recorded only by its own name.
fn everything() -> BTreeSet<String> {
    let all = dashboards::all();
    let shown = all.iter().flat_map(|d| {
        let series = d.choices().into_iter().map(|(_, _, series)| series);
        d.expressions().into_iter().map(|(_, expression)| expression).chain(series).collect::<Vec<_>>()
    });
    let rules = RECORDED
        .iter()
        .map(|r| r.expression.to_owned())
        .chain(ALERTS.iter().map(super::rules::Alert::expression));
    shown.chain(rules).flat_map(|expression| names(&expression)).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn dashboards_keep_the_rules() {
        let found: Vec<String> = dashboards::all().iter().flat_map(dashboard).collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn the_lint_finds_what_is_wrong() {
        let mut bad = dashboards::all().remove(0);
        bad.rows[0].title = "Numbers";
        bad.rows[0].panels[0].queries = vec![("sum(bellows_oom_kills_total)".to_owned(), "")];
        bad.rows[0].panels[1].unit = "bananas";
        bad.rows[0].panels[2].description = "";
        let found = dashboard(&bad).join("\n");
        for rule in [
            "target-job-rule",
            "target-instance-rule",
            "target-counter-agg-rule",
            "panel-units-rule",
            "panel-title-description-rule",
            "whether it is well",
        ] {
            assert!(found.contains(rule), "{rule} is not in\n{found}");
        }
    }

    #[test]
    fn everything_that_is_named_exists_and_everything_that_exists_is_shown() {
        assert_eq!(unknown_names(), Vec::<String>::new());
        assert_eq!(unused(), Vec::<String>::new());
    }

    #[test]
    fn every_alert_has_a_runbook_and_a_test() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
        let tests =
            fs::read_to_string(root.join("dashboards/prometheus/rules_test.yml")).expect("tests of rules");
        for alert in ALERTS {
            let path = alert.runbook();
            let text = fs::read_to_string(root.join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            for part in
                [&format!("# {}", alert.name), "## What it means", "## What to look at", "## What to do"]
            {
                assert!(text.contains(part), "{path}: no {part}");
            }
            assert!(text.contains("bellows "), "{path}: no command");
            assert!(tests.contains(&format!("alertname: {}\n", alert.name)), "{}: no test", alert.name);
        }
        let runbooks = fs::read_dir(root.join(super::super::rules::RUNBOOKS)).expect("runbooks");
        for file in runbooks.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            assert!(ALERTS.iter().any(|alert| name == format!("{}.md", alert.name)), "{name}: no such alert");
        }
    }
}
