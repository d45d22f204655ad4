// The policies in force, each value with its origin, and what is wrong with newer ones.

import { h, text } from "./dom.js";
import { reason } from "./store.js";

export function mount(main) {
  const version = h("span", { class: "muted mono" });
  const refused = h("div", { class: "panel", hidden: true });
  const content = h("div");
  main.append(
    h("div", { class: "head" }, h("h1", null, "Policies"), version),
    refused,
    h("p", { class: "muted intro" }, "Read only. They are files: ", h("code", null, "bellows policy check"), " tries them, and a change is taken in by itself."),
    content,
  );

  async function load() {
    const answer = await fetch("/api/v1/policies").catch(() => null);
    if (!answer) return content.replaceChildren(h("p", { class: "panel" }, "The agent does not answer."));
    if (!answer.ok) return content.replaceChildren(h("p", { class: "panel" }, await reason(answer)));
    const policies = await answer.json();
    text(version, `version ${policies.ruleset}`);
    refused.hidden = policies.refused.length === 0;
    refused.replaceChildren(h("h2", null, "Refused: the ones below are in force still"),
      h("pre", { tabindex: "0", role: "group", "aria-label": "What is wrong" }, policies.refused.join("\n")));
    content.replaceChildren(...policies.text.trimEnd().split("\n\n").map((section) => {
      const [head, ...lines] = section.split("\n");
      const title = h("h2", null, head.replace(/[[\]]/g, "").split("#")[0].trim());
      const table = h("table", { class: "plain-table thirds" }, h("caption", { hidden: true }, head), h("tbody", null, lines.map(line)));
      return h("section", { class: "panel" }, title, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": head }, table));
    }));
  }
  load();
  return {
    update(what) {
      if (what.records.some((record) => record.event.startsWith("policies_"))) load();
    },
  };
}

/** `key = value   # origin`, or a comment. */
function line(written) {
  const unset = written.match(/^# (\S+) is not set$/);
  const [, name, value, origin] = written.match(/^(\S+) = (.*?)\s*(?:# (.*))?$/) ?? [null, unset?.[1] ?? written, unset ? "not set" : "", ""];
  return h("tr", null, h("th", { scope: "row" }, h("code", null, name)), h("td", null, unset ? h("span", { class: "muted" }, value) : h("code", null, value)),
    h("td", { class: "muted" }, origin ?? ""));
}
