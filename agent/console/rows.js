// Rows of which only those in view are in the document: a thousand workloads cost what thirty do.

import { h } from "./dom.js";

/** Pixels; the style sheet's --row. */
const HEIGHT = 34;
/** Rows kept above and below those in view. */
const SPARE = 8;

/**
 * `titles` are the column headers, `make()` gives an empty row with a function that fills it: { node, fill(item, index) }.
 * `label` names the table for those who hear it.
 */
export function rows({ label, kind, titles, make, empty }) {
  const space = h("div", { class: "space", role: "presentation" });
  const none = h("p", { class: "empty", hidden: true }, empty);
  const body = h("div", { class: "body", tabindex: "0", role: "rowgroup", "aria-label": `${label}, rows` }, space);
  const head = h("div", { class: "line titles", role: "row", "aria-rowindex": "1" }, titles);
  const table = h("div", { role: "table", "aria-label": label, "aria-colcount": String(titles.length) },
    h("div", { role: "rowgroup" }, head), body);
  const node = h("div", { class: `rows ${kind}` }, table, none);
  const pool = [];
  let items = [];
  let asked = false;

  function draw() {
    asked = false;
    const first = Math.max(0, Math.floor(body.scrollTop / HEIGHT) - SPARE);
    const count = Math.min(items.length - first, Math.ceil(body.clientHeight / HEIGHT) + 2 * SPARE);
    while (pool.length < count) {
      const row = make();
      row.node.setAttribute("role", "row");
      row.at = -1;
      pool.push(row);
    }
    // A row keeps its place in the pool as it scrolls, so that focus stays on what it is on.
    const used = new Set();
    for (let at = first; at < first + count; at += 1) {
      const row = pool[at % pool.length];
      used.add(row);
      if (row.at !== at) {
        row.at = at;
        row.node.style.transform = `translateY(${at * HEIGHT}px)`;
        row.node.setAttribute("aria-rowindex", String(at + 2));
      }
      row.fill(items[at], at);
      if (!row.node.isConnected) space.append(row.node);
    }
    for (const row of pool) {
      if (!used.has(row) && row.node.isConnected) {
        row.node.remove();
        row.at = -1;
      }
    }
  }

  function ask() {
    if (!asked) {
      asked = true;
      requestAnimationFrame(draw);
    }
  }

  body.addEventListener("scroll", () => {
    head.scrollLeft = body.scrollLeft;
    ask();
  }, { passive: true });
  new ResizeObserver(ask).observe(body);
  // Nothing is put in another place under a pointer that is about to press it.
  let isPointed = false;
  body.addEventListener("pointerenter", () => { isPointed = true; });
  body.addEventListener("pointerleave", () => { isPointed = false; });

  return {
    node,
    body,
    isPointed: () => isPointed,
    /** Shows these items; `keepEnd` keeps to the end whoever stands there. */
    show(next) {
      items = next;
      const tall = `${items.length * HEIGHT}px`;
      if (space.style.height !== tall) space.style.height = tall;
      table.setAttribute("aria-rowcount", String(items.length + 1));
      none.hidden = items.length > 0;
      ask();
    },
    /** Moves the view by rows, for items that were put before the first. */
    shift(count) {
      if (body.scrollTop > 0) body.scrollTop += count * HEIGHT;
    },
  };
}

/** A header that sorts: `sort` is { by, down }, changed by a click; `changed` is called then. */
export function sorter(sort, by, words, changed, kind = "") {
  const button = h("button", { type: "button", class: kind, onclick: () => {
    sort.down = sort.by === by ? !sort.down : by !== "name" && by !== "class";
    sort.by = by;
    changed();
  } });
  const cell = h("div", { role: "columnheader", class: kind }, button);
  const update = () => {
    const is = sort.by === by;
    button.textContent = is ? `${words} ${sort.down ? "▾" : "▴"}` : words;
    if (is) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  };
  update();
  return { cell, update };
}
