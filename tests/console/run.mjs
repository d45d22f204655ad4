// The console in a real browser, against a live agent in a real kernel. `make test-console` starts this beside a guest.
//
// usage: run.mjs DIRECTORY-OF-PROGRAMS [DIRECTORY-FOR-SCREENSHOTS [PART-OF-A-STEP'S-NAME]]

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [programs, pictures, only = ""] = process.argv.slice(2);
const BASE = "http://127.0.0.1:9464";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
/** Workloads that sleep, beside the two that do something. */
const MANY = 1000;
const figures = {};

/** A stage in the guest, and somebody there who takes orders. */
async function setStage() {
  const stage = spawn(join(programs, "bellows-kernel"), ["exec", "--", join(programs, "bellows-stage")], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((ready, fail) => {
    stage.stdout.on("data", (data) => String(data).includes("ready") && ready());
    stage.on("exit", (code) => fail(new Error(`the stage ended with ${code}`)));
  });
  const orders = connect(9465, "127.0.0.1");
  let text = "";
  const waiting = [];
  orders.on("data", (data) => {
    text += data;
    for (let end; (end = text.indexOf("\n")) >= 0; text = text.slice(end + 1)) waiting.shift()(text.slice(0, end));
  });
  return {
    /** What fails is tried again where it may: a starved guest takes longer over a launch than is waited, and then it is there. */
    async order(words, tries = 1, again = false) {
      const answer = await new Promise((answered) => {
        waiting.push(answered);
        orders.write(`${words}\n`);
      });
      if (again && answer.includes("exists already")) return undefined;
      if (answer !== "ok" && tries > 1) return this.order(words, tries - 1, true);
      assert.equal(answer, "ok", words);
    },
    end() {
      stage.removeAllListeners("exit");
      orders.end();
    },
  };
}

/** `told` says what there was instead, should it never be so. */
async function eventually(what, is, ms = 60_000, told = () => "") {
  for (const end = Date.now() + ms; ; await new Promise((later) => setTimeout(later, 100))) {
    const found = await is();
    if (found) return found;
    if (Date.now() >= end) assert.fail(`in ${ms} ms it was not so: ${what} ${await told()}`);
  }
}

const rows = (page) => page.locator(".rows .body [role=row]").evaluateAll((all) => all
  .map((row) => [row.getBoundingClientRect().top, [...row.children].map((cell) => cell.textContent.trim())])
  .sort(([a], [b]) => a - b).map(([, cells]) => cells));

async function axe(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.target).join(", ")}`);
  assert.deepEqual(told, [], `axe, ${what}`);
  figures.axe = [...(figures.axe ?? []), what];
}

/** Of a page that is connected: a guest that is starved stands still for seconds, and the page says so. */
async function picture(page, name) {
  if (!pictures) return;
  await page.getByText("live", { exact: true }).waitFor();
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}

/** Each step with its name; the first that fails ends it. */
const steps = {
  async "the page is painted within a second, and says no word of error"({ page }) {
    await page.goto(BASE);
    await page.getByText("live", { exact: true }).waitFor();
    const entries = await page.evaluate(() => performance.getEntriesByType("paint").map(({ name, startTime }) => [name, startTime]));
    figures.first_paint_ms = Math.round(Object.fromEntries(entries)["first-contentful-paint"]);
    assert.ok(figures.first_paint_ms <= 1000, `first paint after ${figures.first_paint_ms} ms`);
  },

  async "a change is seen by itself"({ page, stage }) {
    await page.goto(`${BASE}/#/workloads`);
    // Under a pointer nothing is put in another place, and what is new is there all the same.
    await page.locator(".rows .body").hover();
    await stage.order("run acme web 16 256 swell 120 --times 200 --hold-ms 4000 --rest-ms 2000");
    await stage.order("run beta steady 16 64 idle 900");
    const began = Date.now();
    const used = async () => (await rows(page)).find(([name]) => name === "acme/web")?.[4];
    const first = await eventually("the workload is there", used);
    figures.seen_after_ms = Date.now() - began;
    await eventually("its use moves", async () => (await used()) !== first);
    await eventually("its limit follows", async () => /^1\d\d\.\d MiB$/.test((await rows(page)).find(([name]) => name === "acme/web")[5]));
  },

  async "rows are sorted and filtered"({ page }) {
    const column = async (at) => (await rows(page)).map((cells) => cells[at]);
    await page.getByRole("columnheader", { name: "Workload" }).getByRole("button").click();
    await eventually("by name", async () => (await column(0)).join() === "acme/web,beta/steady");
    await page.getByRole("columnheader", { name: "Workload" }).getByRole("button").click();
    await eventually("the other way", async () => (await column(0)).join() === "beta/steady,acme/web");
    assert.equal(await page.locator("[aria-sort]").getAttribute("aria-sort"), "descending");
    await page.keyboard.press("/");
    await page.keyboard.type("STEADY running");
    await eventually("only one is left", async () => (await column(0)).join() === "beta/steady");
    await page.keyboard.press("Escape");
    await eventually("all are back", async () => (await column(0)).length === 2);
  },

  async "a workload shows its course, and a click says why"({ page }) {
    await page.getByRole("link", { name: "acme/web", exact: true }).click();
    const why = page.getByRole("button", { name: /^Why: record/ });
    await eventually("decisions are there", async () => (await why.count()) > 3);
    const line = page.locator("tbody tr", { hasText: "grow: high" }).first();
    await line.getByRole("button").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("EVIDENCE").waitFor();
    await dialog.getByText("would have prevented it").waitFor();
    await axe(page, "explanation");
    await picture(page, "explain");
    await page.keyboard.press("Escape");
    await page.waitForTimeout(15_000);
    const spread = await page.locator(".chart canvas").first().evaluate((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Set();
      for (let at = 0; at < data.length; at += 4) seen.add(data.slice(at, at + 4).join());
      return seen.size;
    });
    assert.ok(spread > 20, `the chart has ${spread} colours only`);
    const told = await page.locator(".chart canvas").nth(1).getAttribute("aria-label");
    assert.match(told, /of the last second for memory/);
    await page.evaluate(() => scrollTo(0, 0));
    await picture(page, "workload");
  },

  async "every page is free of what axe finds, dark and light"({ page }) {
    for (const scheme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const place of ["", "workloads", "workload/acme/web", "journal", "policies", "doctor"]) {
        await page.goto(`${BASE}/#/${place}`);
        await page.waitForTimeout(1500);
        await axe(page, `${place || "node"}, ${scheme}`);
      }
    }
    await page.emulateMedia({ colorScheme: "dark" });
  },

  async "keys go to the pages"({ page }) {
    await page.keyboard.press("3");
    await page.getByRole("heading", { name: "Journal" }).waitFor();
    await page.keyboard.press("?");
    await axe(page, "keys");
    await page.keyboard.press("Escape");
    await page.keyboard.press("1");
    await page.getByRole("heading", { name: "Node", exact: true }).waitFor();
  },

  async "the agent is killed and started while the page is open: nothing is missing"({ page, stage }) {
    await page.goto(`${BASE}/#/journal`);
    // Under the pointer the list is held.
    await page.mouse.move(0, 0);
    await page.getByText("live", { exact: true }).waitFor();
    await stage.order("kill");
    await page.getByText("not connected").waitFor();
    assert.match(await page.getByRole("alert").textContent(), /Workloads go on without the agent/);
    await page.waitForTimeout(2000);
    await stage.order("start");
    const began = Date.now();
    await page.getByText("live", { exact: true }).waitFor();
    figures.back_after_ms = Date.now() - began;
    await eventually("the takeover is told", async () => (await rows(page)).some(([, , who, what]) => who === "acme/web" && /taken over/.test(what)));
    const ids = await page.evaluate(async () => (await import("/console/store.js")).store.records.map((record) => record.id));
    assert.ok(ids.length > 10 && !ids.includes(null), "no gap is told");
    assert.ok(ids.every((id, at) => at === 0 || id === ids[at - 1] + 1), `ids without a hole: ${ids}`);
  },

  async "a thousand workloads are smooth"({ page, stage }) {
    for (let number = 0; number < MANY; number += 1) {
      await stage.order(`run ${["acme", "beta", "gamma"][number % 3]} idle-${number} 1 16 idle 3600`, 3);
    }
    await page.goto(`${BASE}/#/workloads`);
    const shown = () => page.locator(".head [role=status]").textContent();
    const around = async () => `${await shown()}, ${await page.locator(".link").textContent()}`;
    await eventually("all are there", async () => /of 100[02]$/.test(await shown()), 120_000, around);
    assert.ok((await page.locator(".rows .body [role=row]").count()) < 80, "only those in view are in the document");
    await page.locator(".rows .body").hover();
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable");
    const cpu = async () => (await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "ThreadTime").value;
    const before = await cpu();
    const scroll = page.evaluate(() => new Promise((done) => {
      const body = document.querySelector(".rows .body");
      const times = [];
      let last = performance.now();
      const end = last + 6000;
      requestAnimationFrame(function frame(now) {
        times.push(now - last);
        last = now;
        body.scrollTop = ((now % 3000) / 3000) * body.scrollHeight;
        if (now < end) requestAnimationFrame(frame);
        else done(times.slice(1));
      });
    }));
    const times = (await scroll).sort((a, b) => a - b);
    const cost = ((await cpu()) - before) * 1000 / times.length;
    const total = times.reduce((sum, time) => sum + time, 0);
    figures.frames = { per_second: +(times.length / total * 1000).toFixed(1), median_ms: +times[times.length >> 1].toFixed(1), p95_ms: +times[Math.floor(times.length * 0.95)].toFixed(1), longest_ms: +times.at(-1).toFixed(1), cpu_ms: +cost.toFixed(1) };
    // What a frame costs is the page's; how many there are in a second is the machine's, too, and this one has a guest to translate.
    assert.ok(figures.frames.per_second >= 30 || cost <= 1000 / 30, JSON.stringify(figures.frames));
    await axe(page, "a thousand workloads");
    await page.keyboard.press("/");
    await page.keyboard.type("idle-99");
    await eventually("eleven of a thousand", async () => /^11 of 100[02]$/.test(await page.locator(".head [role=status]").textContent()));
    await page.keyboard.press("Escape");
    await page.mouse.move(5, 5);
    await page.waitForTimeout(1500);
    await picture(page, "workloads");
    await page.goto(`${BASE}/#/`);
    await page.waitForTimeout(20_000);
    await picture(page, "node");
  },
};

const home = mkdtempSync(join(tmpdir(), "bellows-browser-"));
const { existsSync } = await import("node:fs");
const executablePath = process.env.BROWSER_PATH ?? BROWSERS.find((path) => existsSync(path));
assert.ok(executablePath, "a browser is missing: apt-get install chromium, or name one with BROWSER_PATH");
const stage = await setStage();
const browser = await chromium.launchPersistentContext(home, {
  executablePath, headless: true, viewport: { width: 1360, height: 900 }, colorScheme: "dark",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
let failed = 0;
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const errors = [];
  let isDown = false;
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && !isDown && errors.push(message.text()));
  for (const [name, step] of Object.entries(steps).filter(([name]) => name.includes(only))) {
    // Without an agent a browser says so in its console.
    isDown = name.includes("killed");
    const began = Date.now();
    try {
      await step({ page, stage });
      assert.deepEqual(errors, [], "errors of the page");
      console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack}`);
      await page.screenshot({ path: join(home, "..", "bellows-console-failed.png") }).catch(() => {});
      break;
    }
  }
} finally {
  await browser.close();
  stage.end();
  rmSync(home, { recursive: true, force: true });
}
console.log(JSON.stringify(figures, null, 1));
if (pictures) writeFileSync(join(pictures, "figures.json"), JSON.stringify(figures, null, 1));
process.exit(failed);
