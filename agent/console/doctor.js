// Whether the machine is as it should be, and the agent too.

import { h, mark, text } from "./dom.js";
import { reason, store } from "./store.js";
import { span } from "./units.js";

const MARKS = { ok: ["✓", "ok", "ok"], warn: ["!", "warn", "works, with less"], fail: ["✕", "bad", "does not work"] };

export function mount(main) {
  const own = h("tbody");
  const checks = h("tbody");
  const said = h("p", { class: "muted", role: "status" }, "asking …");
  const table = (label, body) => h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, h("table", { class: "plain-table" },
    h("thead", null, h("tr", null, h("td"), ["Check", "Found", "What to do"].map((word) => h("th", { scope: "col" }, word)))), body));
  main.append(
    h("div", { class: "head" }, h("h1", null, "Doctor"), said),
    h("section", { class: "panel" }, h("h2", null, "Agent"), table("Agent", own)),
    h("section", { class: "panel" }, h("h2", null, "Machine"), table("Machine", checks)),
  );
  load(checks, said);
  let drawn = 0;
  return {
    update() {
      if (store.node && performance.now() - drawn > 950) {
        drawn = performance.now();
        own.replaceChildren(...agent(store.node).map(row));
      }
    },
  };
}

async function load(checks, said) {
  const answer = await fetch("/api/v1/doctor").catch(() => null);
  if (!answer?.ok) return text(said, answer ? await reason(answer) : "the agent does not answer");
  const found = await answer.json();
  const bad = found.filter((check) => check.status !== "ok").length;
  text(said, bad === 0 ? "all is as it should be" : `${bad} of ${found.length} are not as they should be`);
  checks.replaceChildren(...found.map(row));
}

function row({ status, name, found, fix }) {
  return h("tr", null, h("td", null, mark(MARKS[status])), h("th", { scope: "row" }, name), h("td", null, found), h("td", null, fix));
}

/** What the agent tells of itself with every round. */
function agent(node) {
  const check = (name, isOk, found, fix, otherwise = "warn") => ({ status: isOk ? "ok" : otherwise, name, found, fix: isOk ? "" : fix });
  return [
    check("control loop", node.loop_idle_ms < 3000, node.loop_idle_ms < 1000 ? "turns" : `has not turned for ${span(node.loop_idle_ms / 1000)}`,
      "its watchdog opens all limits; look at the agent's log", "fail"),
    check("policies", node.policies_are_current, node.policies_are_current ? "the last ones are in force" : "the last ones were refused", "bellows policy check"),
    check("journal", node.journal_lost === 0, `records ${node.journal_oldest} to ${node.journal_newest} at hand, ${node.journal_lost} lost`,
      "more happened at once than its queue holds; the limits are not touched by that"),
    check("journal on disk", node.journal_unwritten === 0, node.journal_unwritten === 0 ? "complete" : `${node.journal_unwritten} records are not on it`,
      "look for room and errors on the disk of the runtime directory"),
    check("budget", node.waiting === 0, node.waiting === 0 ? "nobody waits" : `${node.waiting} workloads wait for a grant`,
      "fewer floors, a lower ceiling of others, or more capacity: bellows tenants"),
  ];
}
