// One workload: its limit against its use, how long it waited, and each decision with its why.

import { chart } from "./chart.js";
import { h, key, mark, text, tiles } from "./dom.js";
import { explain } from "./explain.js";
import { bound, nameless, reason, store } from "./store.js";
import { cpus, glyph, granted, moment, percent, size, span, states, trouble, used } from "./units.js";

/** What is kept of its course and of its records, at four a second as much as is shown, and how much that is. */
const POINTS = 2400;
const WINDOW_MS = 10 * 60_000;
const WAITS = [["memory", "bad"], ["cpu", "used"], ["io", "warn"]];

export function mount(main, [tenant = "", short = ""]) {
  const full = `${tenant}/${short}`;
  const badges = h("span");
  const why = h("span", { role: "status" });
  const figures = tiles([["Used", "used"], ["Granted", "high"], ["Killed at", "max"], ["Ceiling", "range"],
    ["Cpus", "cpus"], ["Moves", "moves"], ["OOM kills", "oom"], ["Started", "age"]]);
  const pick = (id) => id !== null && explain(id);
  const memory = chart({ label: "Memory: use, grant and decisions", pick });
  const pressure = chart({ label: "Time waited", low: true });
  const cpu = chart({ label: "Cpus used and quota", low: true });
  const decisions = h("tbody");
  const gone = h("p", { class: "panel", hidden: true }, "Nothing runs under this name now. What is known of it is below.");
  main.append(
    h("div", { class: "head" }, h("h1", null, full), badges, why, h("span", { class: "grow" }),
      h("button", { type: "button", onclick: () => explain(full) }, "Explain"), h("a", { href: `#/journal/${full}` }, "Its journal")),
    gone, figures.node,
    h("section", { class: "panel" }, h("h2", null, "Memory"), memory.node,
      key([["used", "used"], ["granted", "granted: memory.high"], ["max", "memory.max"], ["ceiling", "floor and ceiling"]])),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("h2", null, "Time in which some task waited"), pressure.node,
        key([["bad", "for memory"], ["used", "for a cpu"], ["warn", "for I/O (dashed)"]])),
      h("section", { class: "panel" }, h("h2", null, "Cpus"), cpu.node, key([["used", "used"], ["granted", "quota"]]))),
    h("section", { class: "panel" }, h("h2", null, "Decisions, the newest first"),
      h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Decisions" }, h("table", { class: "plain-table" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Time"), h("td"), h("th", { scope: "col" }, "What"), h("td"))), decisions))),
  );

  let records = [];
  let course = [];
  const waits = [];
  let before = null;
  let isOver = false;

  /** The journal knows its limits of before this page was opened. */
  async function past() {
    const answer = await fetch(`/api/v1/events?words=true&limit=400&workload=${encodeURIComponent(full)}`).catch(() => null);
    if (isOver || !answer?.ok) return;
    const known = await answer.json();
    const last = known.at(-1)?.id ?? 0;
    records = [...known, ...records.filter((record) => record.id > last)];
    course = [...known.flatMap(points), ...course];
    list();
    draw();
  }

  async function look() {
    const answer = await fetch(`/api/v1/workloads/${full}`).catch(() => null);
    if (isOver || !answer) return;
    gone.hidden = answer.ok;
    if (!answer.ok) return text(gone, `${await reason(answer)}. What the journal knows of it is below.`);
    const now = await answer.json();
    const ms = before ? (now.now_unix_ns - before.now_unix_ns) / 1e6 : 0;
    if (ms > 0) {
      const point = { at: now.now_unix_ns / 1e6 };
      for (const [of] of WAITS) {
        const [is, was] = [now[of]?.some_us, before[of]?.some_us];
        point[of] = is === undefined || was === undefined || is < was ? null : Math.min(1, (is - was) / 1000 / ms);
      }
      waits.push(point);
      if (waits.length > POINTS) waits.shift();
    }
    before = now;
  }

  function list() {
    decisions.replaceChildren(...records.slice(-60).reverse().map((record) => h("tr", null,
      h("td", { class: "num" }, moment(record.unix_ns)), h("td", null, mark(glyph(record))), h("td", null, record.words),
      h("td", null, record.id === null ? null
        : h("button", { type: "button", class: "plain", onclick: () => pick(record.id), "aria-label": `Why: record ${record.id}` }, "why")))));
  }

  function draw() {
    const view = store.workloads.get(full);
    const to = store.node ? store.node.now_unix_ns / 1e6 : Date.now();
    const first = course[0]?.at ?? to;
    const from = Math.max(to - WINDOW_MS, Math.min(to - 60_000, first));
    const line = (field) => course.map((point) => [point.at, point[field]]);
    const bounds = view?.memory;
    const seen = course.filter((point) => point.at >= from);
    const top = Math.max(1, ...seen.flatMap(({ high, max, used }) => [high, max, used].filter((n) => n !== null)));
    memory.show({
      from, to, isSize: true, format: size, top: (bounds && bounds.ceiling < top * 3 ? Math.max(top, bounds.ceiling) : top) * 1.06,
      series: [
        { name: "granted", points: line("high"), colour: "granted", fill: 0.5, step: true },
        { name: "memory.max", points: line("max"), colour: "muted", step: true, dash: [2, 3], width: 1.5 },
        { name: "used", points: line("used"), colour: "used", fill: 0.25 },
      ],
      lines: bounds ? [{ at: bounds.floor, colour: "ceiling", dash: [7, 4] }, { at: bounds.ceiling, colour: "ceiling", dash: [7, 4] }] : [],
      marks: records.filter((record) => record.unix_ns / 1e6 >= from).map(dot).filter(Boolean),
      words: view ? `uses ${size(view.memory_current)} of ${size(granted(view))} granted` : "ended",
    });
    pressure.show({
      from, to, top: Math.max(0.05, ...waits.flatMap((point) => WAITS.map(([of]) => point[of] ?? 0))), format: percent,
      series: WAITS.map(([of, colour]) => ({ name: of, points: waits.map((point) => [point.at, point[of]]), colour, dash: of === "io" ? [5, 3] : [] })),
      words: waits.length > 0 ? `${percent(waits.at(-1).memory ?? 0)} of the last second for memory` : "not known yet",
    });
    const quota = view?.cpu_quota ?? null;
    cpu.show({
      from, to, top: Math.max(0.1, (quota ?? 0) / 1e6, ...seen.map((point) => Math.max(point.cpus ?? 0, point.quota ?? 0))) * 1.1, format: (n) => n.toFixed(2),
      series: [{ name: "quota", points: line("quota"), colour: "granted", fill: 0.5, step: true }, { name: "used", points: line("cpus"), colour: "used" }],
      words: view ? `${used(view)} used of ${cpus(quota)}` : "ended",
    });
  }

  function show(view) {
    const high = granted(view);
    badges.replaceChildren(h("span", { class: "badge" }, `class ${view.class}`), " ", ...states(view).flatMap(([state, kind]) => [h("span", { class: `badge ${kind}` }, state), " "]));
    const wrong = trouble(view);
    text(why, wrong ? wrong[2] : "");
    figures.set("used", size(view.memory_current), `need ${size(view.memory_need)}`);
    figures.set("high", size(high), view.would_high === null || view.would_high === undefined ? `${percent(view.memory_current / (high || Infinity))} used` : "would be: observed");
    figures.set("max", size(view.would_max ?? view.memory_max), "memory.max");
    figures.set("range", size(view.memory.ceiling), `floor ${size(view.memory.floor)}`);
    figures.set("cpus", used(view), view.cpu_quota === null ? "by weight, no quota" : `of ${cpus(view.cpu_quota)}, at most ${cpus(view.cpu?.ceiling)}`);
    figures.set("moves", String(view.limit_moves + view.would_moves), `and ${view.quota_moves} of its quota`);
    figures.set("oom", String(view.oom_kills));
    figures.set("age", `${span((store.node ? store.node.now_unix_ns - view.started_unix_ns : 0) / 1e9)} ago`, view.pid > 0 ? `pid ${view.pid}` : view.detached?.ended ?? "");
  }

  let drawn = 0;
  past();
  look();
  const looking = setInterval(look, 1000);
  return {
    update(what) {
      const view = store.workloads.get(full);
      const at = store.node ? store.node.now_unix_ns / 1e6 : Date.now();
      if (view) {
        show(view);
        const point = { at, used: view.memory_current, high: granted(view), max: view.would_max ?? view.memory_max, cpus: view.cpus_used, quota: view.cpu_quota === null ? null : view.cpu_quota / 1e6 };
        const last = course.at(-1);
        if (!last || at - last.at >= 200) course.push(point);
        if (course.length > POINTS) course.shift();
      } else {
        badges.replaceChildren(h("span", { class: "badge" }, "ended"));
      }
      const fresh = what.records.filter((record) => record.workload === full);
      if (what.anew) records = records.map(nameless);
      if (what.anew || fresh.length > 0) {
        records.push(...fresh);
        bound(records, POINTS);
        list();
      }
      if (what.all || fresh.length > 0 || performance.now() - drawn > 450) {
        drawn = performance.now();
        draw();
      }
    },
    end() {
      isOver = true;
      clearInterval(looking);
    },
  };
}

/** What a record says of the limits from then on. */
function points(record) {
  const limits = record.event === "limits_moved" || record.event === "would_have" ? record.to : record.limits;
  if (!limits || record.event === "outcome_seen") return [];
  return [{ at: record.unix_ns / 1e6, used: record.current ?? null, high: limits.high, max: limits.max, cpus: null, quota: null }];
}

const HUES = { grow: "used", ok: "ok", warn: "warn", bad: "bad" };

/** A mark on the course, at the limit that was decided. */
function dot(record) {
  const value = record.to?.high ?? record.limits?.high;
  if (typeof value !== "number" || !["limits_moved", "would_have", "held", "incident"].includes(record.event)) return null;
  const [sign, kind] = glyph(record);
  return { at: record.unix_ns / 1e6, value, glyph: sign, colour: HUES[kind] ?? "muted", id: record.id, words: wrapped(record.words) };
}

const wrapped = (words) => words.replace(/(.{40,64}?)[ ]/g, "$1\n");
