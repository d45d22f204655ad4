// What happened: the newest first, live, filtered; a click says why.

import { h, mark, text } from "./dom.js";
import { explain } from "./explain.js";
import { rows } from "./rows.js";
import { older, store } from "./store.js";
import { glyph, moment } from "./units.js";

let words = "";

export function mount(main, [tenant, name]) {
  if (name) words = `${tenant}/${name}`;
  else if (tenant) explain(Number(tenant));
  const filter = h("input", { type: "search", placeholder: "who or what", "aria-label": "Filter", size: "28" });
  filter.value = words;
  const count = h("p", { class: "muted num", role: "status" });
  const more = h("button", { type: "button", onclick: () => older() }, "Older");
  const hold = h("input", { type: "checkbox" });
  const head = (label) => h("div", { role: "columnheader" }, label);
  const table = rows({ label: "Journal", kind: "journal", titles: ["Time, UTC", "Record", "Who", "What"].map(head), make: row, empty: "No record is like that." });
  main.append(
    h("div", { class: "head" }, h("h1", null, "Journal"), h("label", null, h("span", { class: "muted" }, "Filter "), filter),
      h("label", null, hold, " hold still"), count, h("span", { class: "grow" }), more),
    table.node,
  );
  let list = [];
  let held = 0;

  function show(isFresh) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const before = list.length;
    list = store.records.filter((record) => {
      const said = `${record.workload || "node"} ${record.words} ${glyph(record)[2]}`.toLowerCase();
      return wanted.every((word) => said.includes(word));
    }).reverse();
    // Whoever reads further down is left where they are.
    if (isFresh) table.shift(list.length - before);
    table.show(list);
    held = 0;
    text(count, `${list.length} of ${store.records.length} records`);
    more.hidden = !store.older;
  }
  filter.addEventListener("input", () => {
    words = filter.value;
    show(false);
  });
  hold.addEventListener("change", () => show(false));

  return {
    update(what) {
      if (what.all) show(false);
      else if (hold.checked || table.isPointed()) held += what.records.length;
      else if (held > 0 || what.records.length > 0) show(true);
      if (held > 0) text(count, `${held} more came, held while you look`);
    },
  };
}

function row() {
  const when = h("div", { role: "cell", class: "num" });
  const why = h("button", { type: "button", class: "plain num" });
  const what = h("span");
  const sign = h("span");
  const who = h("a");
  const node = h("div", { class: "line" }, when, h("div", { role: "cell" }, why), h("div", { role: "cell" }, who), h("div", { role: "cell" }, sign, " ", what));
  let told = null;
  why.addEventListener("click", () => explain(told.id));

  function fill(record) {
    if (record === told) return;
    told = record;
    text(when, moment(record.unix_ns));
    text(why, record.id ?? "");
    why.hidden = record.id === null;
    why.setAttribute("aria-label", `Why: record ${record.id}`);
    text(who, record.workload || "node");
    who.setAttribute("href", record.workload ? `#/workload/${record.workload}` : "#/");
    sign.replaceChildren(mark(glyph(record)));
    text(what, record.words);
    node.title = record.words;
  }
  return { node, fill };
}
