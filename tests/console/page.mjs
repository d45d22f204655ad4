// So much of a browser as the console's modules ask of it: elements that can be read, and pens that count.

class Node {
  children = [];
  attributes = {};
  listeners = {};
  parent = null;
  style = {};
  hidden = false;
  checked = false;
  value = "";
  scrollTop = 0;
  clientWidth = 800;
  clientHeight = 400;
  /** Circles drawn since it was cleared. */
  circles = 0;

  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  addEventListener(type, listener) { this.listeners[type] = listener; }
  /** What an event of this kind sets off. */
  hear(type) { return this.listeners[type]({ target: this }); }
  append(...children) {
    for (const child of children) if (child instanceof Node) child.parent = this;
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }
  remove() {
    this.parent.children = this.parent.children.filter((child) => child !== this);
    this.parent = null;
  }
  get isConnected() { return this.parent !== null; }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(""); }
  set textContent(text) { this.children = [String(text)]; }
  getContext() {
    const own = { clearRect: () => { this.circles = 0; }, arc: () => { this.circles += 1; } };
    return new Proxy(own, { get: (pen, name) => pen[name] ?? (() => {}) });
  }
  /** All elements below that are like this. */
  all(is) {
    const nodes = this.children.filter((child) => child instanceof Node);
    return nodes.flatMap((node) => [...(is(node) ? [node] : []), ...node.all(is)]);
  }
}

const later = setImmediate;
Object.assign(globalThis, {
  document: Object.assign(new Node(), {
    createElement: (tag) => Object.assign(new Node(), { tag }),
    getElementById: () => new Node(),
  }),
  ResizeObserver: class { observe() {} },
  getComputedStyle: () => ({}),
  devicePixelRatio: 1,
  requestAnimationFrame: later,
  // Time is the test's: who waits for a second waits for ever.
  setInterval: () => 0,
  setTimeout: () => 0,
});

export const element = () => new Node();

/** All that is under way and needs no time has been done then. */
export async function settled() {
  for (let turn = 0; turn < 50; turn += 1) await new Promise((done) => later(done));
}
