// What happened: the newest first, live, filtered; a click says why.

import { h, mark, text } from "./dom.js";
import { explain } from "./explain.js";
import { rows } from "./rows.js";
import { nameless, older, store } from "./store.js";
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
  /** What the list is chosen from, and how many came since. */
  let kept = [];
  let held = 0;
  const isHeld = () => kept.length > 0 && (hold.checked || table.isPointed());

  function show() {
    if (isHeld()) {
      // Older ones are asked for, and move nothing.
      kept.unshift(...store.records.slice(0, Math.max(0, store.records.indexOf(kept[0]))));
    } else {
      kept = [...store.records];
      held = 0;
    }
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    list = kept.filter((record) => {
      const said = `${record.workload || "node"} ${record.words} ${glyph(record)[2]}`.toLowerCase();
      return wanted.every((word) => said.includes(word));
    }).reverse();
    table.show(list);
    text(count, held > 0 ? `${held} more came, held while you look` : `${list.length} of ${kept.length} records`);
    more.hidden = !store.older;
  }
  filter.addEventListener("input", () => {
    words = filter.value;
    show();
  });

  function update(what) {
    held += what.records.length;
    if (what.anew) kept = kept.map(nameless);
    if (what.all || held > 0) {
      const [first] = list;
      show();
      // Whoever reads further down is left where they are.
      table.shift(Math.max(0, list.indexOf(first)));
    }
  }
  hold.addEventListener("change", () => update({ records: [], all: true }));

  return { update };
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
