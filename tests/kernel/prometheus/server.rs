//! A Prometheus of this test's own, and what it answers.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::rig::Agent;

/// How far back a dashboard looks, and between two of its points, in seconds.
const SHOWN: u64 = 60;
const STEP: u64 = 5;

pub(super) struct Server {
    child: Child,
    address: String,
    directory: PathBuf,
    asked: Cell<usize>,
}

impl Server {
    /// Scrapes each second, and evaluates the committed rules.
    pub(super) fn start(agent: &Agent) -> Self {
        let directory = agent.runtime_dir.join("prometheus");
        fs::create_dir_all(&directory).expect("directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let address = free.to_string();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 2s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: bellows\n    static_configs: [{{targets: ['{}']}}]\n",
            super::rules().display(),
            agent.address,
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("configuration");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus is missing: make setup installs it");
        Self { child, address, directory, asked: Cell::new(0) }
    }

    /// Waits until it has scraped the agent and evaluated rules over it.
    pub(super) fn wait_for_samples(&self) {
        let holds = || self.value("instance:bellows_budget_granted:ratio").is_ok();
        super::wait_until("Prometheus has samples", holds, || {
            format!("{:?}", self.get("/api/v1/targets").map(|targets| targets.to_string()))
        });
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.get()
    }

    /// The values of an expression now: at least one, and all of them finite.
    pub(super) fn ask(&self, expression: &str) -> Result<Vec<f64>, String> {
        self.asked.set(self.asked.get() + 1);
        self.value(expression)
    }

    fn value(&self, expression: &str) -> Result<Vec<f64>, String> {
        let answer = self.get(&format!("/api/v1/query?query={}", escaped(expression)))?;
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        finite(result.iter().map(|series| series["value"][1].clone()))
    }

    /// The same of the last minute, as a panel shows it.
    pub(super) fn ask_over_time(&self, expression: &str) -> Result<Vec<f64>, String> {
        self.asked.set(self.asked.get() + 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={now}&step={STEP}",
            escaped(expression),
            now - SHOWN
        );
        let answer = self.get(&path)?;
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let points = |series: &Value| series["values"].as_array().cloned().unwrap_or_default();
        finite(result.iter().flat_map(points).map(|point| point[1].clone()))
    }

    /// What a variable offers.
    pub(super) fn values_of(&self, label: &str, series: &str) -> Vec<String> {
        self.asked.set(self.asked.get() + 1);
        let path = format!("/api/v1/label/{label}/values?match[]={}", escaped(series));
        let answer = self.get(&path).unwrap_or_default();
        let values = answer["data"].as_array().cloned().unwrap_or_default();
        values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    /// Rules that Prometheus could not evaluate.
    pub(super) fn unhealthy_rules(&self) -> Vec<String> {
        let answer = self.get("/api/v1/rules").expect("rules");
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!(rules.len(), super::RECORDED.len() + super::ALERTS.len(), "all rules are loaded");
        rules.iter().filter(|rule| rule["health"] != "ok").map(|rule| format!("rule {rule}")).collect()
    }

    /// Decisions that buckets were shown with.
    pub(super) fn exemplars(&self, selector: &str) -> Vec<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let path = format!("/api/v1/query_exemplars?query={selector}&start={}&end={now}", now - 600);
        let answer = self.get(&path).expect("exemplars");
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        let all = series.iter().flat_map(|s| s["exemplars"].as_array().cloned().unwrap_or_default());
        all.filter_map(|exemplar| exemplar["labels"]["decision_id"].as_str().map(str::to_owned)).collect()
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        let text = self.request(path).map_err(|error| error.to_string())?;
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let answer: Value = serde_json::from_str(body).map_err(|_| text.clone())?;
        if answer["status"] == "success" { Ok(answer) } else { Err(answer.to_string()) }
    }

    /// By HTTP 1.0, so that the answer comes in one piece.
    fn request(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The numbers of answers, which have them as text.
fn finite(values: impl Iterator<Item = Value>) -> Result<Vec<f64>, String> {
    let number = |value: Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    let values: Vec<f64> = values.map(number).collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("{value} among {} values", values.len())),
        None if values.is_empty() => Err("no data".to_owned()),
        None => Ok(values),
    }
}

/// For a query: everything but letters and digits.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text + &char::from(byte).to_string(),
        _ => text + &format!("%{byte:02X}"),
    })
}
