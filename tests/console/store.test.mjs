// What is kept of the journal: without a hole that is not told. `node --test tests/console/*.test.mjs`

import assert from "node:assert/strict";
import { test } from "node:test";
import { agent } from "./agent.mjs";
import { settled } from "./page.mjs";

let pages = 0;

/** A page of its own, which listens to an agent that knows so many records. */
async function open(count, most) {
  const there = agent(most);
  there.tell(count);
  const page = await import(`../../agent/console/store.js?${pages += 1}`);
  page.connect();
  await settled();
  return { there, ...page };
}

/** The ids from the oldest to the newest, of which none may be missing. */
function whole({ records }) {
  const ids = records.map((record) => record.id);
  const at = ids.findIndex((id, index) => index > 0 && id !== ids[index - 1] + 1);
  assert.equal(at, -1, `after ${ids[at - 1]} comes ${ids[at]}`);
  return [ids[0], ids.at(-1)];
}

test("older records join those that are here, up to the agent's oldest", async () => {
  const { there, store, older } = await open(700);
  assert.deepEqual(whole(store), [401, 700]);
  there.tell(5);
  await older();
  assert.deepEqual(whole(store), [101, 705]);
  await Promise.all([older(), older()]);
  assert.deepEqual([whole(store), store.older], [[1, 705], null]);
});

test("all is kept that the agent keeps", async () => {
  const { there, store, older } = await open(8000);
  while (store.older !== null) await older();
  there.tell(192);
  await settled();
  assert.deepEqual(whole(store), [1, 8192]);
  there.tell(100);
  await settled();
  assert.deepEqual([whole(store), store.older], [[101, 8292], null]);
});

test("older ones go on from what is left where some were dropped for newer ones", async () => {
  const { there, store, older } = await open(20_000, 100_000);
  for (let told = 0; told < 20_000; told += 1000) {
    there.tell(1000);
    await settled();
    await older();
    whole(store);
  }
  assert.equal(store.records.length, 8192 + 300);
});

test("older ones are not taken where the oldest were dropped while they were on their way", async () => {
  const { there, store, older } = await open(20_000, 100_000);
  there.tell(8192 - 300);
  await settled();
  const asked = older();
  there.tell(100);
  await settled();
  await asked;
  assert.deepEqual(whole(store), [27_992 - 8191, 27_992]);
});

test("older ones may be asked for again when they could not be had", async () => {
  const { there, store, older, connect } = await open(700);
  there.kill();
  await older();
  there.start(false);
  connect();
  await settled();
  await older();
  assert.deepEqual(whole(store), [101, 700]);
});

/** What there is in turn: ids from one to another, how many without an id, and what is said of gaps. */
function parts({ records }) {
  const list = [];
  for (const { id, event, words } of records) {
    const last = list.at(-1);
    if (event === "gap") list.push(words);
    else if (id === null && typeof last === "number") list[list.length - 1] += 1;
    else if (id === null) list.push(1);
    else if (Array.isArray(last) && id === last[1] + 1) last[1] = id;
    else list.push([id, id]);
  }
  return list;
}

/** The agent ends and is started again, and has recorded so many things before the page has found it. */
async function again({ there, connect }, isFresh, count) {
  there.kill();
  await settled();
  there.start(isFresh);
  there.tell(count);
  connect();
  await settled();
}

test("a journal that goes on goes on", async () => {
  const page = await open(57);
  await again(page, false, 5);
  assert.deepEqual(parts(page.store), [[1, 62]]);
});

test("what the agent keeps no more is told", async () => {
  const page = await open(57, 100);
  await again(page, false, 200);
  assert.deepEqual(parts(page.store),
    [[1, 57], "100 records from 58 on are not kept any more; the journal's files may have them", [158, 257]]);
});

test("a journal that began anew is taken from its beginning, and no id is of the old one", async () => {
  for (const count of [12, 400, 450]) {
    const page = await open(400);
    await again(page, true, count);
    page.there.tell(3);
    await settled();
    assert.deepEqual(parts(page.store), [300, "the journal began anew: up to record 400 it was another one", [1, count + 3]]);
    assert.equal(page.store.older, null);
  }
});

test("a journal that began anew and has nothing yet is noticed, too", async () => {
  const page = await open(57);
  await again(page, true, 0);
  page.there.tell(3);
  await settled();
  assert.deepEqual(parts(page.store), [57, "the journal began anew: record 57 is not known, the newest is 0", [1, 3]]);
});

test("a journal that began anew may have forgotten its beginning", async () => {
  const page = await open(57, 100);
  await again(page, true, 150);
  assert.deepEqual(parts(page.store), [57, "the journal began anew: up to record 57 it was another one",
    "50 records from 1 on are not kept any more; the journal's files may have them", [51, 150]]);
});

test("who has not been drawn meanwhile hears that the journal began anew, and no id of the old one", async (t) => {
  const page = await open(57);
  const heard = [];
  page.listen((what) => heard.push(what));
  let draw = null;
  t.mock.method(globalThis, "requestAnimationFrame", (frame) => { draw = frame; });
  page.there.tell(3);
  await again(page, true, 2);
  draw();
  assert.equal(heard[0].anew, true);
  assert.deepEqual(parts(heard[0]), [3, "the journal began anew: up to record 60 it was another one", [1, 2]]);
});

test("older ones of a new journal are not put before those of the old one", async () => {
  const page = await open(700);
  page.there.kill();
  await settled();
  page.there.start(true);
  page.there.tell(500);
  await page.older();
  assert.deepEqual(parts(page.store), [[401, 700]]);
});
