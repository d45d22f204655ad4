//! Dashboards as Grafana's JSON. Everything that is the same everywhere is here: data source, job and instance are variables,
//! every panel has a title, a description and a unit.

use serde_json::{Value, json};

/// What stands in an expression for the matchers of job and instance.
const MATCHERS: &str = "job=~\"$job\",instance=~\"$instance\"";

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// The name of its file, and part of its address.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it answers.
    pub description: &'static str,
    /// What can be chosen besides data source, job and instance.
    pub variables: Vec<Variable>,
    /// What is marked in all its panels.
    pub annotations: Vec<Annotation>,
    /// From top to bottom; the first one answers "is it well?".
    pub rows: Vec<Row>,
}

/// Something that can be chosen.
#[derive(Debug)]
pub struct Variable {
    /// Its name, and that of the label.
    pub name: &'static str,
    /// What people read.
    pub label: &'static str,
    /// The series whose label it is, with matchers.
    pub series: String,
}

/// Moments that are marked.
#[derive(Debug)]
pub struct Annotation {
    /// What they are.
    pub name: &'static str,
    /// Above zero where there is one.
    pub expression: String,
    /// Labels that the mark shows.
    pub keys: &'static str,
    /// Its colour.
    pub colour: &'static str,
}

/// Panels beside each other.
#[derive(Debug)]
pub struct Row {
    /// Its title.
    pub title: &'static str,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// How a panel shows its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One number, red from 1 on.
    Trouble,
    /// One number.
    Stat,
    /// Lines over time.
    Lines,
    /// The present values, a row each, with a link to a dashboard.
    Table(&'static str),
}

/// A panel.
#[derive(Debug)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// What it says, and what to do about it.
    pub description: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// How it is shown.
    pub shape: Shape,
    /// What it shows: expressions and legends.
    pub queries: Vec<(String, &'static str)>,
}

/// An expression, in which `@` stands for the matchers of job and instance, `&` for these and the tenant's, `%` for these and the
/// workload's, and `#` for the interval of a rate.
#[must_use]
pub fn expression(text: &str) -> String {
    text.replace('%', "&,workload=~\"$workload\"")
        .replace('&', "@,tenant=~\"$tenant\"")
        .replace('@', MATCHERS)
        .replace('#', "$__rate_interval")
}

/// A panel; its queries as pairs of expression and legend.
#[must_use]
pub fn panel(
    shape: Shape,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &[(&str, &'static str)],
) -> Panel {
    let queries = queries.iter().map(|(text, legend)| (expression(text), *legend)).collect();
    Panel { title, description, unit, shape, queries }
}

/// Lines over time.
#[must_use]
pub fn lines(
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &[(&str, &'static str)],
) -> Panel {
    panel(Shape::Lines, title, unit, description, queries)
}

/// One number.
#[must_use]
pub fn stat(title: &'static str, unit: &'static str, description: &'static str, query: &str) -> Panel {
    panel(Shape::Stat, title, unit, description, &[(query, "")])
}

/// One number that is to be zero.
#[must_use]
pub fn trouble(title: &'static str, description: &'static str, query: &str) -> Panel {
    panel(Shape::Trouble, title, "short", description, &[(query, "")])
}

impl Dashboard {
    /// Every panel.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// Every expression, with where it is.
    #[must_use]
    pub fn expressions(&self) -> Vec<(String, String)> {
        let panels =
            self.panels().flat_map(|panel| panel.queries.iter().map(|(e, _)| (panel.title, e.clone())));
        let annotations = self.annotations.iter().map(|a| (a.name, a.expression.clone()));
        panels.chain(annotations).map(|(place, e)| (format!("{}: {place}", self.name), e)).collect()
    }

    /// The variables besides the data source: name and series.
    #[must_use]
    pub fn choices(&self) -> Vec<(&'static str, &'static str, String)> {
        let own = self.variables.iter().map(|v| (v.name, v.label, v.series.clone()));
        [
            ("job", "Job", "bellows_build_info".to_owned()),
            ("instance", "Instance", "bellows_build_info{job=~\"$job\"}".to_owned()),
        ]
        .into_iter()
        .chain(own)
        .collect()
    }

    /// As Grafana reads it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut variables = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "current": {}, "hide": 0, "includeAll": false, "multi": false, "refresh": 1, "regex": "",
        })];
        variables
            .extend(self.choices().into_iter().map(|(name, label, series)| variable(name, label, &series)));
        let mut annotations = vec![json!({
            "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": true, "hide": true,
            "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard",
        })];
        annotations.extend(self.annotations.iter().map(|annotation| {
            json!({
                "name": annotation.name, "datasource": source(), "enable": true, "iconColor": annotation.colour,
                "expr": annotation.expression, "titleFormat": annotation.name, "textFormat": annotation.keys,
                "step": "10s", "useValueForTime": false,
            })
        }));
        json!({
            "uid": format!("bellows-{}", self.name), "title": self.title, "description": self.description,
            "tags": ["bellows"], "editable": false, "graphTooltip": 1, "schemaVersion": 39, "version": 1,
            "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "refresh": "10s",
            "templating": {"list": variables}, "annotations": {"list": annotations},
            "links": [{
                "title": "bellows", "type": "dashboards", "tags": ["bellows"], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false,
            }],
            "panels": self.layout(),
        })
    }

    /// Rows of 24 columns, panels of equal width in each.
    fn layout(&self) -> Vec<Value> {
        let (mut panels, mut y) = (Vec::new(), 0_usize);
        for row in &self.rows {
            let id = panels.len() + 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }));
            let is_small = row.panels.iter().all(|p| matches!(p.shape, Shape::Stat | Shape::Trouble));
            let (width, height) = (24 / row.panels.len().max(1), if is_small { 4 } else { 9 });
            for (index, panel) in row.panels.iter().enumerate() {
                let mut value = panel.json(panels.len() + 1);
                value["gridPos"] = json!({"x": index * width, "y": y + 1, "w": width, "h": height});
                panels.push(value);
            }
            y += 1 + height;
        }
        panels
    }
}

impl Panel {
    fn json(&self, id: usize) -> Value {
        let is_table = matches!(self.shape, Shape::Table(_));
        let targets = self.queries.iter().zip('A'..='Z').map(|((expression, legend), name)| {
            json!({
                "refId": name.to_string(), "datasource": source(), "expr": expression, "legendFormat": legend,
                "editorMode": "code", "range": !is_table, "instant": is_table,
                "format": if is_table { "table" } else { "time_series" },
            })
        });
        let targets: Vec<Value> = targets.collect();
        let kind = match self.shape {
            Shape::Trouble | Shape::Stat => "stat",
            Shape::Lines => "timeseries",
            Shape::Table(_) => "table",
        };
        let steps = match self.shape {
            Shape::Trouble => json!([{"color": "green", "value": null}, {"color": "red", "value": 1}]),
            Shape::Stat | Shape::Lines | Shape::Table(_) => json!([{"color": "green", "value": null}]),
        };
        let mut value = json!({
            "id": id, "type": kind, "title": self.title, "description": self.description, "datasource": source(),
            "targets": targets,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps},
                    "custom": {},
                },
                "overrides": [],
            },
            "options": {},
        });
        match self.shape {
            Shape::Trouble | Shape::Stat => {
                value["options"] = json!({
                    "reduceOptions": {"calcs": ["lastNotNull"], "values": false},
                    "colorMode": "value", "graphMode": "area",
                });
            }
            Shape::Lines => {
                value["fieldConfig"]["defaults"]["custom"] =
                    json!({"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"});
                value["options"] = json!({
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                });
            }
            Shape::Table(to) => {
                let names: Vec<String> =
                    self.queries.iter().zip('A'..='Z').map(|(_, n)| format!("Value #{n}")).collect();
                let renamed =
                    names.iter().zip(&self.queries).map(|(name, (_, legend))| (name.clone(), json!(legend)));
                let mut renamed: serde_json::Map<String, Value> = renamed.collect();
                if let Some((_, legend)) = self.queries.first().filter(|_| self.queries.len() == 1) {
                    renamed.insert("Value".to_owned(), json!(legend));
                }
                value["transformations"] = json!([
                    {"id": "merge", "options": {}},
                    {"id": "organize", "options": {"excludeByName": {"Time": true, "job": true}, "renameByName": renamed}},
                ]);
                value["fieldConfig"]["defaults"]["links"] = json!([{
                    "title": format!("Open {to}"),
                    "url": format!(
                        "/d/bellows-{to}?${{datasource:queryparam}}&${{job:queryparam}}&var-instance=${{__data.fields.instance}}\
                         &var-tenant=${{__data.fields.tenant}}&var-workload=${{__data.fields.workload}}&${{__url_time_range}}"
                    ),
                }]);
            }
        }
        value
    }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn variable(name: &str, label: &str, series: &str) -> Value {
    let query = format!("label_values({series}, {name})");
    json!({
        "name": name, "label": label, "type": "query", "datasource": source(), "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"}, "refresh": 2, "sort": 1, "hide": 0,
        "multi": true, "includeAll": true, "allValue": ".+", "current": {"text": ["All"], "value": ["$__all"]},
        "regex": "",
    })
}
