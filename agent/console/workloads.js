// All workloads: sorted, filtered, each with its use inside its band.

import { attribute, h, key, left, text, width } from "./dom.js";
import { rows, sorter } from "./rows.js";
import { name, store } from "./store.js";
import { cpus, granted, size, span, states, trouble, used } from "./units.js";

/** A page that is left and come back to is as it was. */
const sort = { by: "trouble", down: true };
let words = "";

const VALUES = {
  name,
  class: (view) => view.class,
  trouble: (view) => trouble(view)?.[3] ?? 0,
  share: (view) => view.memory_current / (granted(view) ?? Infinity),
  used: (view) => view.memory_current,
  granted: (view) => granted(view) ?? Infinity,
  ceiling: (view) => view.memory.ceiling,
  cpus: (view) => view.cpus_used,
  moves: (view) => view.limit_moves + view.would_moves,
  oom: (view) => view.oom_kills,
  age: (view) => -view.started_unix_ns,
};

export function mount(main, [tenant]) {
  if (tenant) words = `${tenant}/`;
  const filter = h("input", { type: "search", placeholder: "name, class or state", "aria-label": "Filter", size: "28" });
  filter.value = words;
  const count = h("p", { class: "muted num", role: "status" });
  const heads = [["name", "Workload"], ["class", "Class"], ["trouble", "State"], ["share", "Memory, of its ceiling"], ["used", "Used", "right"],
    ["granted", "Granted", "right"], ["ceiling", "Ceiling", "right"], ["cpus", "Cpus", "right"], ["moves", "Moves", "right"], ["oom", "OOM", "right"], ["age", "Age", "right"]]
    .map(([by, label, kind]) => sorter(sort, by, label, () => order(), kind));
  const table = rows({ label: "Workloads", kind: "workloads", titles: heads.map(({ cell }) => cell), make: row, empty: "No workload is like that." });
  main.append(
    h("div", { class: "head" }, h("h1", null, "Workloads"), h("label", null, h("span", { class: "muted" }, "Filter "), filter), count, h("span", { class: "grow" }),
      key([["used", "used"], ["granted", "granted"], ["floor", "floor"]])),
    table.node,
  );
  filter.addEventListener("input", () => {
    words = filter.value;
    order();
  });
  let ordered = 0;
  let list = [];

  /** `isStill`: those that are shown keep their places, and new ones come after them. */
  function order(isStill = false) {
    ordered = performance.now();
    for (const head of heads) head.update();
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...store.workloads.values()];
    const seen = all.filter((view) => {
      const said = `${name(view)} ${view.class} ${states(view).map(([state]) => state).join(" ")}`.toLowerCase();
      return wanted.every((word) => said.includes(word));
    });
    const value = VALUES[sort.by];
    const keyed = seen.map((view) => [value(view), name(view)]);
    const way = sort.down ? -1 : 1;
    keyed.sort(([a, x], [b, y]) => (a === b ? (x < y ? -1 : 1) : (a < b ? -1 : 1) * way));
    const next = keyed.map(([, full]) => full);
    const [before, after] = [new Set(list), new Set(next)];
    list = isStill ? [...list.filter((full) => after.has(full)), ...next.filter((full) => !before.has(full))] : next;
    text(count, `${list.length} of ${all.length}`);
    table.show(list);
  }

  return {
    /** Figures change at once; the order once a second, and not under the pointer, so that a row can be read and clicked. */
    update(what) {
      if (what.all || performance.now() - ordered > 1000) order(table.isPointed());
      else table.show(list);
    },
  };
}

function row() {
  const link = h("a", { href: "#/" });
  const badges = h("div", { role: "cell" });
  const parts = { granted: h("i", { class: "granted" }), used: h("i", { class: "used" }), floor: h("i", { class: "floor" }) };
  const cell = (kind = "num right") => h("div", { role: "cell", class: kind });
  const cells = { class: cell("muted"), used: cell(), granted: cell(), ceiling: cell(), cpus: cell(), moves: cell(), oom: cell(), age: cell() };
  const band = h("div", { class: "band", role: "img" }, parts.granted, parts.used, parts.floor);
  const node = h("div", { class: "line" }, h("div", { role: "cell" }, link), cells.class, badges, h("div", { role: "cell" }, band),
    cells.used, cells.granted, cells.ceiling, cells.cpus, cells.moves, cells.oom, cells.age);
  let told = "";
  let shown = null;

  function fill(full) {
    const view = store.workloads.get(full);
    const age = span(((store.node?.now_unix_ns ?? Date.now() * 1e6) - (view?.started_unix_ns ?? 0)) / 1e9);
    // What has changed is another object.
    if (!view || (view === shown && age === cells.age.textContent)) return;
    shown = view;
    text(link, full);
    attribute(link, "href", `#/workload/${full}`);
    text(cells.class, view.class);
    const why = trouble(view);
    const all = states(view);
    // There is room for what is special.
    const list = all.length > 1 ? all.slice(1) : all;
    const said = `${list.join()}${why?.[2]}`;
    if (said !== told) {
      told = said;
      badges.replaceChildren(
        ...(why ? [h("span", { class: `mark ${why[1]}`, role: "img", "aria-label": why[2], title: why[2] }, why[0])] : [h("span", { class: "mark" })]),
        ...list.flatMap(([state, kind]) => [" ", h("span", { class: `badge ${kind}` }, state)]),
      );
    }
    const high = granted(view);
    const whole = view.memory.ceiling || 1;
    width(parts.granted, (high ?? whole) / whole);
    width(parts.used, view.memory_current / whole);
    left(parts.floor, view.memory.floor / whole);
    attribute(band, "aria-label", `uses ${Math.round((view.memory_current / whole) * 100)} % of its ceiling`);
    text(cells.used, size(view.memory_current));
    text(cells.granted, size(high));
    text(cells.ceiling, size(view.memory.ceiling));
    text(cells.cpus, view.cpu_quota === null ? used(view) : `${view.cpus_used.toFixed(2)}/${cpus(view.cpu_quota)}`);
    text(cells.moves, view.limit_moves + view.would_moves);
    text(cells.oom, view.oom_kills);
    text(cells.age, age);
  }
  return { node, fill };
}
