// What is known of the agent, and the one stream that keeps it so. Pages listen; nothing here touches the document.

/** Records that are kept here: as many as the agent keeps in memory, so that none is dropped here that could be had of it. */
const RECORDS = 8192;
/** Records of a page of older ones. */
const PAGE = 300;
/** Points of the node's course, one a second: ten minutes. */
const COURSE = 600;
/** After so long without a word what is shown is no longer the state: the agent tells something four times a second, or every two seconds. */
const SILENT_MS = 5000;
const RETRY_MS = 1000;
const HIDDEN_MS = 30_000;

export const store = {
  node: null,
  tenants: [],
  /** By `tenant/name`. */
  workloads: new Map(),
  /** Oldest first. What is said of gaps has no id, nor have those of a journal that is gone: theirs name others now. */
  records: [],
  /** The record before which there may be others; null for none. */
  older: null,
  /** `wait`, `live` or `lost`, and since when. */
  link: { state: "wait", since: Date.now(), why: "" },
  /** The node's course: { at, granted, used, available }. */
  course: [],
};

const listeners = new Set();
/** Ends the stream that is being read. */
let reading = null;
let told = null;
let heard = 0;
let pending = null;
let retry = null;

/** Calls `listener` at most once a frame, with what has changed: names of workloads, records, whether all is new, whether the journal is. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function change() {
  if (!pending) {
    pending = { names: new Set(), records: [], all: false, anew: false };
    requestAnimationFrame(() => {
      const what = pending;
      pending = null;
      for (const listener of listeners) listener(what);
    });
  }
  return pending;
}

function link(state, why = "") {
  if (store.link.state !== state || store.link.why !== why) {
    const since = store.link.state === state ? store.link.since : Date.now();
    store.link = { state, since, why };
    change();
  }
}

/** Begins to listen, and goes on whatever happens. Not by an EventSource: a refusal's reason could not be read, nor a long event be seen to come. */
export async function connect() {
  clearTimeout(retry);
  reading?.abort();
  const own = new AbortController();
  reading = own;
  heard = Date.now();
  const answer = await fetch(`/api/v1/watch${told === null ? "" : `?since=${told}`}`, { signal: own.signal }).catch(() => null);
  const isAnew = answer?.ok && (await isAnother(own.signal));
  if (reading !== own) return;
  if (isAnew) {
    say(`the journal began anew: up to record ${told} it was another one`);
    forget();
    return connect();
  }
  const why = answer && !answer.ok ? await reason(answer) : "the agent does not answer";
  const reader = answer?.ok ? answer.body.pipeThrough(new TextDecoderStream()).getReader() : null;
  for (let rest = ""; ;) {
    const part = await reader?.read().catch(() => null);
    if (reading !== own) return;
    if (!part || part.done) return lose(why);
    heard = Date.now();
    const events = (rest + part.value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      try {
        take(fields(event));
      } catch (error) {
        // One that is not understood takes no other with it.
        reportError(error);
      }
    }
  }
}

/**
 * Whether the agent has another record under the id of the newest here: then its journal began anew, and may have come further than the
 * old one had. Asked when it has answered, so that it is the one that will be listened to.
 */
async function isAnother(signal) {
  const last = store.records.findLast((record) => record.id !== null);
  if (!last) return false;
  const answer = await fetch(`/api/v1/events?limit=1&before=${last.id + 1}`, { signal }).catch(() => null);
  const [record] = answer?.ok ? await answer.json().catch(() => []) : [];
  return record !== undefined && (record.id !== last.id || record.unix_ns !== last.unix_ns);
}

/** What the agent told is of a journal that is gone. It stays to be read; the new one is told from its beginning on. */
function forget() {
  const what = change();
  store.records = store.records.map(nameless);
  what.records = what.records.map(nameless);
  what.all = what.anew = true;
  store.older = null;
  told = 0;
}

export const nameless = (record) => ({ ...record, id: null });

/** The fields of a server-sent event, each of which has one line here. */
function fields(event) {
  return Object.fromEntries(event.split("\n").map((line) => line.match(/^([^:]*):? ?(.*)$/s).slice(1)));
}

function lose(why) {
  reading?.abort();
  reading = null;
  link("lost", why);
  clearTimeout(retry);
  retry = setTimeout(connect, RETRY_MS);
}

setInterval(() => {
  if (reading && Date.now() - heard > SILENT_MS) lose("the agent has gone silent");
}, 1000);

// Nobody looks at a hidden page: it asks for nothing, and is told what came meanwhile when it is shown again.
let hidden = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (!document.hidden && !reading && store.link.state !== "lost") connect();
  if (document.hidden) {
    hidden = setTimeout(() => {
      clearTimeout(retry);
      reading?.abort();
      reading = null;
      link("wait");
    }, HIDDEN_MS);
  }
});

/** What a problem says. */
export async function reason(answer) {
  const problem = await answer.json().catch(() => null);
  return problem?.detail ? `${problem.detail}${problem.hint ? ` (${problem.hint})` : ""}` : `${answer.status}`;
}

function take(event) {
  // Only a sign of life.
  if (!event.data) return;
  const data = JSON.parse(event.data);
  const what = change();
  if (data.node) {
    store.node = data.node;
    remember(data.node);
  }
  if (data.tenants) store.tenants = data.tenants;
  if (event.event === "state") {
    what.all = true;
    const there = new Set(data.workloads.map(name));
    for (const known of store.workloads.keys()) if (!there.has(known)) data.gone.push(known);
  }
  for (const view of data.workloads) {
    measure(view, store.workloads.get(name(view)));
    store.workloads.set(name(view), view);
    what.names.add(name(view));
  }
  for (const gone of data.gone) {
    store.workloads.delete(gone);
    what.names.add(gone);
    what.all = true;
  }
  const isFirst = told === null;
  const id = Number(event.id);
  // Ids only rise in one journal.
  if (id < told) forget();
  if (data.gap) say(data.gap);
  append(data.records);
  told = id;
  link("live");
  if (isFirst) {
    store.older = oldest();
    older();
  }
}

/** A line of the page's own among the records. */
function say(words) {
  append([{ id: null, unix_ns: Date.now() * 1e6, workload: "", event: "gap", words }]);
}

function append(records) {
  const what = change();
  store.records.push(...records);
  // Older ones go on from what is left, or what was dropped would be missing between them.
  if (bound(store.records, RECORDS) && store.older !== null) store.older = oldest();
  what.records.push(...records);
  // A page that is not drawn hears, and does not take.
  if (bound(what.records, RECORDS)) what.all = true;
}

/** Drops the first of what is more than `most`; whether there was more. */
export function bound(list, most) {
  return list.splice(0, list.length - most).length > 0;
}

const oldest = () => store.records.find((record) => record.id !== null)?.id ?? told + 1;

/** Fetches the page of records before the oldest, if there may be one, and puts it before them. */
export async function older() {
  const from = store.older;
  if (from === null) return;
  const answer = await fetch(`/api/v1/events?words=true&limit=${PAGE}&before=${from}`).catch(() => null);
  const records = answer?.ok ? await answer.json() : null;
  // It no longer fits where another has come meanwhile, or the oldest were dropped; and an agent that is not listened to may be another.
  if (!records || store.older !== from || store.link.state !== "live") return;
  store.records.unshift(...records);
  store.older = answer.headers.has("link") ? records[0].id : null;
  change().all = true;
}

export const name = (view) => `${view.tenant}/${view.name}`;

/** Use of cpus, from the times at which the agent's figure changed; it looks at what is idle seldom. */
function measure(view, before) {
  // Without a quota it looks for scrapes alone, too seldom for a course.
  if (!view.cpu && view.cpu_quota === null) {
    view.cpus_used = 0;
    return;
  }
  const now = performance.now();
  const mark = before?.mark ?? { at: now, us: view.cpu_usage_us };
  view.cpus_used = before?.cpus_used ?? 0;
  view.mark = mark;
  const ms = now - mark.at;
  if (view.pid !== before?.pid || view.cpu_usage_us < mark.us) {
    view.mark = { at: now, us: view.cpu_usage_us };
    view.cpus_used = 0;
  } else if (ms >= 1500) {
    view.cpus_used = (view.cpu_usage_us - mark.us) / (ms * 1000);
    view.mark = { at: now, us: view.cpu_usage_us };
  }
}

function remember(node) {
  const at = node.now_unix_ns / 1e6;
  const last = store.course.at(-1);
  if (last && at - last.at < 950) return;
  store.course.push({ at, granted: node.granted, used: node.used, available: node.memory_available });
  if (store.course.length > COURSE) store.course.shift();
}
