// Why: what `bellows explain` prints, in a dialog.

import { h } from "./dom.js";
import { reason } from "./store.js";

const dialog = document.getElementById("explain");

/** Opens the explanation of a record (a number) or of a workload (`tenant/name`). */
export async function explain(what) {
  const content = h("div", { class: "content" }, h("p", { class: "muted" }, "asking …"));
  const title = h("h2", { id: "explain-title" }, typeof what === "number" ? `Record ${what}` : what);
  dialog.replaceChildren(
    h("header", null, title, h("code", { class: "muted" }, `bellows explain ${what}`),
      h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    content,
  );
  if (!dialog.open) dialog.showModal();
  const answer = await fetch(`/api/v1/explain/${what}`, { headers: { accept: "text/plain" } }).catch(() => null);
  if (!answer) return content.replaceChildren(h("p", null, "The agent does not answer."));
  if (!answer.ok) return content.replaceChildren(h("p", null, await reason(answer)));
  content.replaceChildren(...sections(await answer.text()));
}

/** The text is in sections, with an empty line between them. Ids at the beginning of a line lead on. */
function sections(text) {
  return text.trimEnd().split("\n\n").map((part) => {
    const [head, ...lines] = part.split("\n");
    // A table is not wrapped.
    const isTable = /^ +[A-Z]{3,}/.test(lines[0] ?? "");
    const pre = h("pre", { class: isTable ? "wide" : "", tabindex: "0", role: "group", "aria-label": head });
    for (const [index, line] of [head, ...lines].entries()) {
      const row = isTable ? pre : h("div", { class: "hang" });
      const record = line.match(/^(\s+)(\d+)(  \d\d:\d\d:.*)$/);
      if (isTable && index > 0) pre.append("\n");
      if (record) {
        const id = Number(record[2]);
        row.append(record[1], h("button", { type: "button", class: "plain", onclick: () => explain(id) }, record[2]), record[3]);
      } else {
        row.append(line);
      }
      if (row !== pre) pre.append(row);
    }
    return h("div", { class: "section" }, pre);
  });
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
