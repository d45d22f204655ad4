// Which page is shown, whether the agent answers, theme and keys.

import { h, text } from "./dom.js";
import { connect, listen, store } from "./store.js";
import { span, time } from "./units.js";
import * as doctor from "./doctor.js";
import * as journal from "./journal.js";
import * as node from "./node.js";
import * as policies from "./policies.js";
import * as workload from "./workload.js";
import * as workloads from "./workloads.js";

const PAGES = { node, workloads, workload, journal, policies, doctor };
const byId = (id) => document.getElementById(id);
const main = byId("main");
let shown = { update() {} };

/** `#/workload/acme/web` is the page `workload` with the rest. */
function go() {
  const [page = "node", ...rest] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  const { mount } = PAGES[page] ?? node;
  shown.end?.();
  main.replaceChildren();
  shown = mount(main, rest);
  const tab = page === "workload" ? "workloads" : page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${rest.length > 0 ? rest.join("/") : page} · bellows`;
  shown.update({ names: new Set(), records: [], all: true });
  scrollTo(0, 0);
}

function status() {
  const { state, since, why } = store.link;
  const link = byId("link");
  link.dataset.state = state;
  text(link, { wait: "connecting", live: "live", lost: "not connected" }[state]);
  const banner = byId("banner");
  const node = store.node;
  main.classList.toggle("stale", state === "lost");
  const said = state === "lost"
    ? `${capital(why)}: trying again for ${span((Date.now() - since) / 1000)}. What is shown is as it was at ${time(since)} UTC. Workloads go on without the agent.`
    : node && node.loop_idle_ms > 3000 ? `The agent's control loop has not turned for ${span(node.loop_idle_ms / 1000)}: limits may be open.`
    : node && !node.policies_are_current ? "The last policies were refused; older ones are in force. See Policies." : "";
  banner.classList.toggle("warn", state === "live" && Boolean(node) && node.loop_idle_ms <= 3000);
  text(banner, said);
  banner.hidden = said === "";
  text(byId("clock"), node && state === "live" ? `${time(node.now_unix_ns / 1e6)} UTC` : `${time(Date.now())} UTC`);
}

const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

const THEMES = ["system", "dark", "light"];
function theme(wanted) {
  document.documentElement.style.colorScheme = wanted === "system" ? "" : wanted;
  text(byId("theme"), `Theme: ${wanted}`);
  localStorage.setItem("theme", wanted);
  shown.update({ names: new Set(), records: [], all: true });
}
byId("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(localStorage.getItem("theme") ?? "system") + 1) % THEMES.length]);
});

const KEYS = [["1 – 5", "the pages, in their order"], ["/", "to the filter"], ["t", "another theme"], ["?", "this"], ["Esc", "closes, or clears the filter"]];
function keys() {
  const on = h("input", { type: "checkbox", id: "single" });
  on.checked = localStorage.getItem("keys") !== "off";
  on.addEventListener("change", () => localStorage.setItem("keys", on.checked ? "on" : "off"));
  byId("keys").replaceChildren(
    h("header", null, h("h2", { id: "keys-title" }, "Keys"), h("button", { type: "button", onclick: () => byId("keys").close() }, "Close")),
    h("div", { class: "content" },
      h("table", { class: "plain-table" }, h("tbody", null,
        KEYS.map(([key, words]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, key)), h("td", null, words))))),
      h("p", null, h("label", null, on, " single keys are shortcuts"))),
  );
  byId("keys").showModal();
}
byId("help").addEventListener("click", keys);

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && isTyping && event.target.value) {
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    return;
  }
  const isOff = localStorage.getItem("keys") === "off" || document.querySelector("dialog[open]");
  if (isTyping || isOff || event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = document.querySelectorAll("nav a");
  if (event.key >= "1" && event.key <= String(tabs.length)) location.hash = tabs[event.key - 1].hash;
  else if (event.key === "/") document.querySelector("main input[type=search]")?.focus();
  else if (event.key === "t") byId("theme").click();
  else if (event.key === "?") keys();
  else return;
  event.preventDefault();
});

listen((what) => {
  status();
  shown.update(what);
});
setInterval(status, 1000);
addEventListener("hashchange", go);
theme(localStorage.getItem("theme") ?? "system");
go();
connect();
