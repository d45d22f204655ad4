//! The manifests for Kubernetes, as `kubectl kustomize` renders them. Part of `make check-kubernetes`; that what they grant is
//! enough is shown by `tests/kernel/container.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use bellows_tests::manifests::{directory, documents};
use bellows_tests::surfaces::rules::{ALERTS, RECORDED};
use serde_json::Value;

fn render(name: &str) -> Vec<Value> {
    let output = Command::new("kubectl").arg("kustomize").arg(directory().join(name)).output();
    let output =
        output.expect("kubectl is missing: https://kubernetes.io/docs/tasks/tools/ (any from 1.27 on)");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8_lossy(&output.stdout)).expect("YAML")
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

fn only<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(documents, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn named<'a>(values: &'a [Value], name: &str) -> &'a Value {
    values.iter().find(|value| value["name"] == name).unwrap_or_else(|| panic!("there is no {name}"))
}

#[test]
fn the_base_is_the_agent_with_what_it_needs_and_no_more() {
    let base = render("base");
    let kinds: Vec<&str> = base.iter().filter_map(|document| document["kind"].as_str()).collect();
    assert_eq!(kinds, ["Namespace", "ConfigMap", "DaemonSet"], "no account, no role, no service");
    let pod = &only(&base, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!((&pod["automountServiceAccountToken"], &pod["hostPID"]), (&false.into(), &true.into()));
    assert_eq!(pod["tolerations"][0]["operator"], "Exists", "on every node");
    let agent = named(list(&pod["containers"]), "agent");
    let security = &agent["securityContext"];
    assert_eq!((&security["privileged"], &security["readOnlyRootFilesystem"]), (&false.into(), &true.into()));
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
    // What would reach the kernel itself, or the network of the node.
    for capability in
        ["SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_TIME", "BPF", "NET_ADMIN", "NET_RAW", "ALL"]
    {
        assert!(!list(&security["capabilities"]["add"]).contains(&capability.into()), "{capability}");
    }
    assert_eq!(agent["resources"]["limits"]["cpu"], Value::Null, "a throttled agent is late");
    assert!(agent["resources"]["limits"]["memory"].is_string());
    for (probe, path) in
        [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
    {
        let get = &agent[probe]["httpGet"];
        assert_eq!((&get["path"], &get["host"]), (&path.into(), &"127.0.0.1".into()), "{probe}");
    }
    for mount in list(&agent["volumeMounts"]) {
        named(list(&pod["volumes"]), mount["name"].as_str().expect("a name"));
    }
}

/// The agent reads the file that is shipped, and what it governs is beside kubepods.
#[test]
fn the_configuration_is_read_and_names_a_subtree_of_its_own() {
    let base = render("base");
    let text = only(&base, "ConfigMap")["data"]["config.toml"].as_str().expect("config.toml").to_owned();
    let path = std::env::temp_dir().join(format!("bellows-manifests-{}.toml", std::process::id()));
    fs::write(&path, text).expect("config");
    let read =
        bellows::config::load(&bellows::config::Overrides { file: Some(path.clone()), values: Vec::new() });
    let _ = fs::remove_file(&path);
    let config = read.expect("the agent reads it");
    let root = config.root.expect("a root");
    assert_eq!(root.parent(), Some("/sys/fs/cgroup".as_ref()));
    assert!(!root.to_string_lossy().contains("kubepods"));
    assert!(config.node.capacity.is_some(), "what kubelet reserves is said");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464", "where the probes and the proxy ask");
}

#[test]
fn policies_come_as_a_directory_that_is_swapped_and_are_right() {
    let all = render("overlays/complete");
    let pod = &only(&all, "DaemonSet")["spec"]["template"]["spec"];
    let agent = named(list(&pod["containers"]), "agent");
    let mount = named(list(&agent["volumeMounts"]), "policies");
    assert_eq!(mount["mountPath"], bellows::config::POLICIES);
    assert_eq!(mount["subPath"], Value::Null, "kubelet never brings a newer one of those");
    // Of this very name: with a hash of what is in it, a change would be another pod.
    let map =
        of_kind(&all, "ConfigMap").into_iter().find(|map| map["metadata"]["name"] == "bellows-policies");
    let data = map.expect("policies")["data"].as_object().expect("files");
    let place = std::env::temp_dir().join(format!("bellows-manifests-{}.d", std::process::id()));
    fs::create_dir_all(&place).expect("directory");
    for (name, text) in data {
        fs::write(place.join(name), text.as_str().expect("text")).expect("a policy");
    }
    let node = bellows::policy::Node {
        given: None,
        machine: Some(bellows_policies::Bytes::mib(4096)),
        ..Default::default()
    };
    let compiled = bellows::policy::load(&place, node);
    let _ = fs::remove_dir_all(&place);
    assert!(compiled.refusal().is_none(), "{:?}", compiled.refusal());
}

/// The agent's container has no token; the proxy has one, and few rights.
#[test]
fn metrics_are_scraped_through_a_proxy_that_asks_who_may() {
    let all = render("overlays/complete");
    let pod = &only(&all, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let (agent, proxy) = (&pod["containers"][0], named(list(&pod["containers"]), "metrics-proxy"));
    assert_eq!(agent["name"], "agent");
    assert!(list(&agent["volumeMounts"]).iter().all(|mount| mount["name"] != "token"));
    assert_eq!(agent["image"], "registry.example.com/bellows:0.1.0");
    let security = &proxy["securityContext"];
    assert_eq!(
        (&security["runAsNonRoot"], &security["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(security["capabilities"]["add"], Value::Null);
    assert!(list(&proxy["args"]).contains(&"--allow-paths=/metrics".into()));
    let monitor = only(&all, "ServiceMonitor");
    let service = only(&all, "Service");
    let label = monitor["spec"]["jobLabel"].as_str().expect("a label");
    assert_eq!(service["metadata"]["labels"][label], "bellows", "rules and dashboards look for this job");
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], proxy["ports"][0]["name"]);
    assert_eq!(service["spec"]["selector"], only(&all, "DaemonSet")["spec"]["selector"]["matchLabels"]);
    let rules = list(&only(&all, "PrometheusRule")["spec"]["groups"]).iter();
    assert_eq!(rules.map(|group| list(&group["rules"]).len()).sum::<usize>(), ALERTS.len() + RECORDED.len());
}

#[test]
fn each_dashboard_is_a_config_map_that_grafana_finds() {
    let all = render("overlays/complete");
    let maps = of_kind(&all, "ConfigMap");
    let maps = maps.iter().filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    let mut files: Vec<String> =
        maps.flat_map(|map| map["data"].as_object().expect("files").keys().cloned()).collect();
    files.sort();
    let mut committed: Vec<String> = fs::read_dir(directory().join("../../dashboards/grafana"))
        .expect("dashboards")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "json"))
        .collect();
    committed.sort();
    assert_eq!(files, committed);
}
