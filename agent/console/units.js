// Figures as the command line prints them, and what of a workload wants to be looked at.

const STEPS = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];

/** `202.9 MiB`; no limit is `max`. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "max";
  const step = STEPS.find(([, unit]) => bytes >= unit);
  return step ? `${(bytes / step[1]).toFixed(1)} ${step[0]}` : `${bytes} B`;
}

/** Millionths of a cpu. */
export function cpus(millionths) {
  return millionths === null || millionths === undefined ? "max" : (millionths / 1e6).toFixed(2);
}

/** What it uses of the cpus. Without a quota the agent does not look. */
export function used(view) {
  return view.cpu || view.cpu_quota !== null ? view.cpus_used.toFixed(2) : "-";
}

export function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

/** `12s`, `3m`, `5h`, `2d`. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  return s < 172800 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86400)}d`;
}

const two = (n) => String(n).padStart(2, "0");

/** `14:03:07`, UTC. */
export function time(ms) {
  const date = new Date(ms);
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
}

/** The same of a record, with milliseconds. */
export function moment(unixNs) {
  const ms = unixNs / 1e6;
  return `${time(ms)}.${String(Math.floor(ms % 1000)).padStart(3, "0")}`;
}

/** What is granted: the limit in force, or what it would be. */
export const granted = (view) => view.would_high ?? view.memory_high;

/** What wants to be looked at, the worst first: [glyph, kind, words], or nothing. */
export function trouble(view) {
  const high = granted(view);
  if (view.oom_kills > 0) {
    const times = view.oom_kills === 1 ? "once" : `${view.oom_kills} times`;
    return ["✕", "bad", `the kernel killed in it ${times}: out of memory`, 5];
  }
  if (view.state === "failed") return ["✕", "bad", view.detached?.ended ?? "it failed", 4];
  if (view.is_frozen) return ["❄", "warn", "frozen for somebody more important", 4];
  if (high !== null && high >= view.memory.ceiling - 4096 && view.memory_current > high * 0.95) {
    return ["▲", "warn", `at its ceiling of ${size(view.memory.ceiling)}`, 3];
  }
  if (view.lends_cpu) return ["◆", "warn", "part of its cpu quota is lent", 2];
  if (view.state === "running" && view.memory_high === null && view.mode === "enforce") {
    return ["○", "warn", "its limits stand open", 2];
  }
  return null;
}

/** Badges of a state: [words, kind]. */
export function states(view) {
  const kinds = { running: "ok", failed: "bad", lost: "bad", frozen: "warn", stopping: "warn" };
  const list = [[view.state, kinds[view.state] ?? ""]];
  if (view.is_frozen && view.state !== "frozen") list.push(["frozen", "warn"]);
  if (view.pin) list.push(["pinned", ""]);
  if (view.mode === "observe") list.push(["observed", ""]);
  if (view.adopted) list.push(["adopted", ""]);
  if (view.lends_cpu) list.push(["lends cpu", "warn"]);
  return list;
}

const VERBS = {
  grow: ["▲", "grow", "grow"], shrink: ["▼", "ok", "shrink"], fail: ["✕", "bad", "given up"],
  reclaim: ["▽", "ok", "reclaim"], hold: ["■", "warn", "held"],
};
const EVENTS = {
  held: ["■", "warn", "held"], quota_held: ["■", "warn", "held"], reclaimed: ["▽", "ok", "reclaim"],
  incident: ["!", "bad", "incident"], launched: ["●", "ok", "started"], ended: ["○", "", "ended"],
  launch_failed: ["✕", "bad", "not started"], trouble: ["!", "bad", "trouble"], write_failed: ["!", "bad", "refused by the kernel"],
  quota_failed: ["!", "bad", "refused by the kernel"], foreign_write: ["!", "warn", "foreign write"],
  squeezed: ["❄", "warn", "gives way"], eased: ["◇", "ok", "gives way no more"], order_refused: ["✕", "warn", "order refused"],
  policies_refused: ["!", "bad", "policies refused"], gap: ["…", "warn", "a gap"],
};

/** The mark of a record. */
export function glyph(record) {
  if (record.event === "ended" && record.code !== 0) return ["✕", "bad", "ended, and not well"];
  const of = record.event === "limits_moved" || record.event === "quota_moved" || record.event === "would_have";
  return (of ? VERBS[record.verb] : EVENTS[record.event]) ?? ["·", "", "a record"];
}
