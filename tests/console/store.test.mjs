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
  const { there, store, older } = await open(700);
  there.kill();
  await older();
  there.start(false);
  await older();
  assert.deepEqual(whole(store), [101, 700]);
});
