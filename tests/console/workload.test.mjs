// What the page of a workload keeps of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { agent } from "./agent.mjs";
import { element, settled } from "./page.mjs";
import { connect, listen } from "../../agent/console/store.js";
import { mount } from "../../agent/console/workload.js";

const there = agent();
there.tell(20);
connect();
const main = element();
const shown = mount(main, ["acme", "web"]);
listen((what) => shown.update(what));
await settled();

/** The decisions that are listed, each with whether there is a why. */
const listed = () => main.all(({ tag }) => tag === "tbody")[0].children
  .map((row) => [row.children[2].textContent, row.all(({ tag }) => tag === "button").length === 1]);

test("decisions of a journal that is gone are listed, and have no why", async () => {
  assert.deepEqual(listed().slice(0, 2), [["grow 20", true], ["grow 19", true]]);
  there.kill();
  await settled();
  there.start(true);
  there.tell(1);
  connect();
  await settled();
  assert.deepEqual(listed().slice(0, 2), [["grow 1", true], ["grow 20", false]]);
  assert.equal(listed().length, 21);
});

test("a page that stays open keeps so many decisions", async () => {
  for (let told = 0; told < 3000; told += 100) {
    there.tell(100);
    await settled();
  }
  assert.equal(main.all(({ tag }) => tag === "canvas")[0].circles, 2400);
  assert.deepEqual(listed()[0], ["grow 3001", true]);
});
