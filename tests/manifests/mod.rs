//! The manifests for Kubernetes, read as they are committed, and what a container runtime makes of the agent's container.
//!
//! A runtime's part is played here as containerd plays it: its default mounts, its covers of `/proc` and `/sys`, a cgroup namespace, the
//! capabilities that are named and no others. So what the manifest asks for is what the kernel tests run with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What runtimes cover, and make read-only, in every container that is not privileged.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Of what their default filter refuses, what a launcher of containers might want. (The filter is a list of what is allowed.)
const REFUSED: [&str; 16] = [
    "add_key",
    "keyctl",
    "request_key",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "kexec_load",
    "init_module",
    "finit_module",
    "iopl",
    "acct",
    "swapon",
    "settimeofday",
    "open_by_handle_at",
    "move_pages",
];

/// Where the manifests are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

/// All documents of a YAML text.
pub fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// The base's DaemonSet.
pub fn daemon_set() -> anyhow::Result<Value> {
    Ok(serde_saphyr::from_str(&fs::read_to_string(directory().join("base/daemonset.yaml"))?)?)
}

/// The configuration of a bundle for the pod's first container. `place` says where a volume of a name is on this machine, `programs` is the
/// directory that the image would have as `/usr/bin`, `cgroup` the container's own.
pub fn bundle(pod: &Value, programs: &Path, cgroup: &Path, place: impl Fn(&str) -> PathBuf) -> Value {
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    let names = |key: &str| -> Vec<String> {
        let list = security["capabilities"][key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(|name| format!("CAP_{name}")).collect()
    };
    let mut mounts = vec![
        mount("/proc", "proc", Path::new("proc"), &[]),
        mount("/dev", "tmpfs", Path::new("tmpfs"), &["nosuid", "mode=755"]),
        mount("/dev/pts", "devpts", Path::new("devpts"), &["newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/dev/shm", "tmpfs", Path::new("shm"), &["mode=1777"]),
        mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &[]),
        mount("/sys", "sysfs", Path::new("sysfs"), &["nosuid", "noexec", "nodev", "ro"]),
        mount("/usr/bin", "bind", programs, &["rbind", "ro"]),
    ];
    for volume in container["volumeMounts"].as_array().into_iter().flatten() {
        let text = |key: &str| volume[key].as_str().unwrap_or_default();
        let access = if volume["readOnly"] == true { "ro" } else { "rw" };
        mounts.push(mount(
            text("mountPath"),
            "bind",
            &place(text("name")).join(text("subPath")),
            &["rbind", access],
        ));
    }
    let mut namespaces = vec!["mount", "cgroup", "ipc"];
    namespaces.extend((pod["hostPID"] != true).then_some("pid"));
    namespaces.extend((pod["hostNetwork"] != true).then_some("network"));
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": security["runAsUser"], "gid": security["runAsGroup"] },
            "args": container["command"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": security["allowPrivilegeEscalation"] != true,
            "capabilities": { "bounding": names("add"), "effective": names("add"), "permitted": names("add") },
        },
        "root": { "path": "rootfs", "readonly": security["readOnlyRootFilesystem"] },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }], "memory": { "limit": 512 << 20 } },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": REFUSED, "action": "SCMP_ACT_ERRNO" }],
            },
        },
    })
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}
