// What the page of the journal shows, and that it stands still for whoever reads it.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { agent } from "./agent.mjs";
import { element, settled } from "./page.mjs";
import { connect, listen } from "../../agent/console/store.js";
import { mount } from "../../agent/console/journal.js";

const there = agent();
there.tell(700);
connect();
let shown = null;
listen((what) => shown?.update(what));

let main = null;
const having = (name, value) => main.all(({ attributes }) => attributes[name] === value)[0];
const status = () => having("role", "status").textContent;

/** The newest that is shown, whether it has a why, and how many are shown. */
function top() {
  const row = main.all(({ style }) => style.transform === "translateY(0px)")[0];
  const why = row.all(({ tag }) => tag === "button")[0];
  return [row.children[3].textContent.match(/grow \d+$/)[0], !why.hidden, having("role", "table").attributes["aria-rowcount"] - 1];
}

async function hear(node, type, props = {}) {
  Object.assign(node, props).hear(type);
  await settled();
}

async function tell(count) {
  there.tell(count);
  await settled();
}

beforeEach(async () => {
  main = element();
  shown = mount(main, []);
  shown.update({ names: new Set(), records: [], all: true });
  await settled();
});

test("what is held stands still until it is let go, whatever ends or comes", async () => {
  assert.deepEqual(top(), ["grow 700", true, 300]);
  await hear(having("type", "checkbox"), "change", { checked: true });
  await tell(3);
  there.end("acme/web");
  await settled();
  assert.deepEqual([top(), status()], [["grow 700", true, 300], "3 more came, held while you look"]);
  await hear(main.all(({ tag }) => tag === "button").find(({ textContent }) => textContent === "Older"), "click");
  assert.deepEqual(top(), ["grow 700", true, 600], "what was asked for is there");
  await hear(having("type", "search"), "input", { value: "70" });
  assert.deepEqual(top(), ["grow 700", true, 7], "170 to 670, and not 701");
  await hear(having("type", "search"), "input", { value: "" });
  await tell(9000);
  there.end("acme/web");
  await settled();
  assert.deepEqual(top(), ["grow 700", true, 600], "what the page has dropped is shown still");
  await hear(having("type", "checkbox"), "change", { checked: false });
  assert.deepEqual([top(), status()], [["grow 9703", true, 8192], "8192 of 8192 records"]);
});

test("a page that is opened under a pointer is filled", async () => {
  main = element();
  shown = mount(main, []);
  await hear(having("class", "body"), "pointerenter");
  await tell(1);
  assert.equal(top()[0], "grow 9704");
});

test("nothing moves under a pointer, nor for whoever reads further down", async () => {
  const body = having("class", "body");
  await hear(body, "pointerenter");
  await tell(1);
  there.end("acme/web");
  await settled();
  assert.equal(top()[0], "grow 9704");
  await hear(body, "pointerleave");
  await tell(1);
  assert.equal(top()[0], "grow 9706");
  body.scrollTop = 3400;
  there.end("acme/web");
  there.tell(2);
  await settled();
  assert.equal(body.scrollTop, 3400 + 2 * 34);
});

test("what is held of a journal that is gone has no why", async () => {
  await hear(having("type", "checkbox"), "change", { checked: true });
  there.kill();
  await settled();
  there.start(true);
  there.tell(5);
  connect();
  await settled();
  assert.deepEqual(top(), ["grow 9708", false, 8192]);
});
