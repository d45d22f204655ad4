// An agent as the console's modules hear it: its journal, and who listens. It answers as api/watch.rs, api/stream.rs and api/page.rs do.

/** Keeps as many records as the ring of agent/src/journal/mod.rs. */
export function agent(most = 8192) {
  let ring = [];
  let isUp = true;
  let listening = [];
  const bounds = () => [ring.at(0)?.id ?? 0, ring.at(-1)?.id ?? 0];
  const after = (id) => ring.filter((record) => record.id > id);

  function gap(told) {
    const [oldest, newest] = bounds();
    if (told > newest) return `the journal began anew: record ${told} is not known, the newest is ${newest}`;
    const missed = oldest - told - 1;
    return missed > 0 ? `${missed} records from ${told + 1} on are not kept any more; the journal's files may have them` : null;
  }

  function round(to, event, more = {}) {
    const missing = gap(to.told);
    if (missing?.includes("anew")) to.told = 0;
    const records = after(to.told);
    to.told = bounds()[1];
    const data = { node: null, tenants: null, workloads: [], gone: [], gap: missing, records, ...more };
    to.body.enqueue(new TextEncoder().encode(`event: ${event}\nid: ${to.told}\ndata: ${JSON.stringify(data)}\n\n`));
  }

  function watch(since, signal) {
    const to = { told: since === null ? bounds()[1] : Number(since), body: null };
    const body = new ReadableStream({ start(controller) { to.body = controller; } });
    signal.addEventListener("abort", () => { listening = listening.filter((one) => one !== to); });
    listening.push(to);
    round(to, "state");
    return new Response(body);
  }

  function events({ before = Infinity, limit = most, workload = null }) {
    const wanted = ring.filter((record) => record.id < before && (!workload || record.workload === workload));
    const kept = wanted.slice(-limit);
    const link = `</api/v1/events?words=true&limit=${limit}&before=${kept[0]?.id}>; rel="next"`;
    return Response.json(kept, { headers: wanted.length > kept.length ? { link } : {} });
  }

  globalThis.fetch = async (path, { signal } = {}) => {
    if (!isUp) throw new TypeError("nobody listens");
    const { pathname, searchParams } = new URL(path, "http://127.0.0.1");
    if (pathname === "/api/v1/watch") return watch(searchParams.get("since"), signal);
    if (pathname === "/api/v1/events") return events(Object.fromEntries(searchParams));
    return new Response("{}", { status: 404 });
  };

  return {
    /** Records so many things. */
    tell(count) {
      for (let id = bounds()[1] + 1; count > 0; count -= 1, id += 1) {
        // Each at another time, to the millisecond.
        const unix_ns = (Date.now() + performance.now()) * 1e6;
        ring.push({ id, unix_ns, workload: "acme/web", event: "limits_moved", verb: "grow", to: { high: 1, max: 2 }, words: `grow ${id}` });
      }
      ring = ring.slice(-most);
      for (const to of listening) round(to, "change");
    },
    /** A workload ends. */
    end(name) {
      for (const to of listening) round(to, "change", { gone: [name] });
    },
    kill() {
      isUp = false;
      for (const to of listening) to.body.close();
      listening = [];
    },
    /** Starts again; with a fresh journal, or with that of before. */
    start(isFresh) {
      isUp = true;
      if (isFresh) ring = [];
    },
  };
}
