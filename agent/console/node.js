// The node: is it well, what is granted and used, who wants to be looked at.

import { chart } from "./chart.js";
import { attribute, h, key, mark, text, tiles, width } from "./dom.js";
import { explain } from "./explain.js";
import { name, store } from "./store.js";
import { glyph, moment, size, span, trouble } from "./units.js";

const SHOWN = 8;

export function mount(main) {
  const root = h("span", { class: "muted mono" });
  const figures = tiles([["Granted", "granted"], ["Used", "used"], ["Free to grant", "free"], ["Waiting for a grant", "waiting"],
    ["Workloads", "workloads"], ["Memory available", "available"], ["Swap free", "swap"], ["Cpus used", "cpus"]]);
  const parts = { granted: h("i", { class: "granted" }), used: h("i", { class: "used" }), reserve: h("i", { class: "reserve" }) };
  const bar = h("div", { class: "band tall", role: "img" }, parts.granted, parts.used, parts.reserve);
  const course = chart({ label: "Granted, used and available memory", low: false });
  const attention = h("ul", { class: "attention" });
  const latest = h("ul", { class: "attention latest" });
  const tenants = h("tbody");
  main.append(
    h("div", { class: "head" }, h("h1", null, "Node"), root),
    figures.node,
    h("section", { class: "panel", "aria-labelledby": "budget" }, h("h2", { id: "budget" }, "Memory budget"), bar,
      key([["used", "used"], ["granted", "granted, not used"], ["", "free to grant"], ["reserve", "reserve, never granted"]])),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("h2", null, "Wants to be looked at"), attention),
      h("section", { class: "panel" }, h("h2", null, "Tenants"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Tenants" },
        h("table", { class: "plain-table" }, h("thead", null, h("tr", null,
          h("th", { scope: "col" }, "Tenant"),
          ["Run", "Granted", "Guarantee", "Cap", "Wait"].map((word) => h("th", { class: "right", scope: "col" }, word)))), tenants)))),
    h("section", { class: "panel" }, h("h2", null, "Course"), course.node,
      key([["used", "used by workloads"], ["granted", "granted"], ["ceiling", "to grant at most"], ["ok", "available on the machine"]])),
    h("section", { class: "panel" }, h("h2", null, "Latest"), latest, h("p", null, h("a", { href: "#/journal" }, "All of the journal"))),
  );
  let drawn = 0;

  return {
    update(what) {
      const node = store.node;
      if (!node) return;
      const pool = node.capacity - node.reserve;
      text(root, `${node.root} · bellows ${node.version}, running for ${span((node.now_unix_ns - node.started_unix_ns) / 1e9)}`);
      figures.set("granted", size(node.granted), `${share(node.granted, pool)} of ${size(pool)}`);
      figures.set("used", size(node.used), `${share(node.used, node.granted)} of the grants`);
      figures.set("free", size(node.free), `capacity ${size(node.capacity)}`);
      figures.set("waiting", String(node.waiting), node.waiting > 0 ? "workloads" : "nobody");
      figures.set("workloads", String(node.workloads), `${store.tenants.length} tenants`);
      figures.set("available", size(node.memory_available), `of ${size(node.memory_total)}`);
      figures.set("swap", node.swap_total ? size(node.swap_free) : "none", node.swap_total ? `of ${size(node.swap_total)}` : "");
      figures.set("cpus", node.cpus_used.toFixed(2), `of ${node.cpus}`);
      width(parts.granted, node.granted / node.capacity);
      width(parts.used, node.used / node.capacity);
      width(parts.reserve, node.reserve / node.capacity);
      attribute(bar, "aria-label", `Of a capacity of ${size(node.capacity)}, ${size(node.granted)} are granted, ${size(node.used)} used, ${size(node.reserve)} reserved`);
      // Four times a second is for figures; lists may take their time.
      if (!what.all && performance.now() - drawn < 950) return;
      drawn = performance.now();
      drawCourse(course, node, pool);
      drawAttention(attention);
      latest.replaceChildren(...store.records.slice(-SHOWN).reverse().map(line));
      tenants.replaceChildren(...store.tenants.map(tenant));
    },
  };
}

const share = (part, whole) => (whole > 0 ? `${Math.round((part / whole) * 100)} %` : "–");

function drawCourse(course, node, pool) {
  const to = node.now_unix_ns / 1e6;
  const from = Math.min(to - 60_000, store.course[0]?.at ?? to);
  const line = (field) => store.course.map((point) => [point.at, point[field]]);
  course.show({
    from, to, top: Math.max(pool, ...store.course.map((point) => Math.max(point.granted, point.used))) * 1.05, isSize: true, format: size,
    series: [
      { name: "granted", points: line("granted"), colour: "granted", fill: 0.45, step: true },
      { name: "used", points: line("used"), colour: "used", fill: 0.35 },
      { name: "available", points: line("available"), colour: "ok", width: 1.5, dash: [2, 3] },
    ],
    lines: [{ at: pool, colour: "ceiling", dash: [7, 4] }],
    words: `${size(node.granted)} granted of ${size(pool)}, ${size(node.used)} used`,
  });
}

function drawAttention(list) {
  const all = [...store.workloads.values()].map((view) => [view, trouble(view)]).filter(([, why]) => why);
  all.sort(([a, x], [b, y]) => y[3] - x[3] || name(a).localeCompare(name(b)));
  const waiting = store.tenants.filter((tenant) => tenant.waiting > 0).map((tenant) => h("li", null,
    mark(["…", "warn", "waits"]), h("span", null, tenant.tenant), h("span", null, `${tenant.waiting} of its workloads wait for a grant`)));
  const items = all.slice(0, SHOWN).map(([view, why]) => h("li", null, mark(why),
    h("a", { href: `#/workload/${name(view)}` }, name(view)), h("span", null, why[2])));
  const rest = all.length - SHOWN;
  list.replaceChildren(...waiting, ...items);
  if (rest > 0) list.append(h("li", null, h("span"), h("a", { href: "#/workloads" }, `${rest} more`), h("span")));
  if (list.children.length === 0) list.append(h("li", null, mark(["✓", "ok", "well"]), h("span", null, "Nobody"), h("span", { class: "muted" }, "no workload is at a limit, is frozen, or has lost a process to the OOM killer")));
}

function line(record) {
  const when = record.id === null ? h("span", { class: "num" }, moment(record.unix_ns)) : h("button", { type: "button", class: "plain num", "aria-label": `Why: record ${record.id}`, onclick: () => explain(record.id) }, moment(record.unix_ns));
  const who = record.workload ? h("a", { href: `#/workload/${record.workload}` }, record.workload) : h("span", null, "node");
  return h("li", null, when, mark(glyph(record)), who, h("span", { title: record.words }, record.words));
}

function tenant(row) {
  const cells = [row.workloads, size(row.granted), row.guarantee > 0 ? size(row.guarantee) : "–", row.cap === null ? "none" : size(row.cap), row.waiting];
  return h("tr", null, h("th", { scope: "row" }, h("a", { href: `#/workloads/${row.tenant}` }, row.tenant)), cells.map((cell) => h("td", { class: "num right" }, String(cell))));
}
