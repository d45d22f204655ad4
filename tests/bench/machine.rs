//! Where the figures come from.

use serde_json::{Value, json};

/// What a reader needs to know to compare.
pub(crate) fn describe() -> Value {
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory = bellows::kernel::discover::machine_memory().map_or(0, |bytes| bytes.0 >> 20);
    json!({
        "kernel": kernel,
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kind": std::env::var("BELLOWS_KERNEL_KIND").unwrap_or_else(|_| "unknown".to_owned()),
        "memory_mib": memory,
        "arch": std::env::consts::ARCH,
        "cpu_model": cpu_model(),
        "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "thp": chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn cpu_model() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// The word in brackets, as sysfs marks the chosen one of several.
fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(word, _)| word)
}
