// Elements, made and changed with as little writing to the document as possible.

/** An element. Keys of `props` are attributes; `on*` are listeners, `class` is the class. Children are text or elements. */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets the text where it differs. */
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute where it differs; takes it away for null. */
export function attribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** A share of a band, 0 to 1. Styles are set by the object model: the page's policy allows no other. */
export function width(node, share) {
  const wanted = `${(Math.min(1, Math.max(0, share || 0)) * 100).toFixed(2)}%`;
  if (node.style.width !== wanted) node.style.width = wanted;
}

/** The same as a place. */
export function left(node, share) {
  const wanted = `${(Math.min(1, Math.max(0, share || 0)) * 100).toFixed(2)}%`;
  if (node.style.left !== wanted) node.style.left = wanted;
}

/** Figures with their names: `items` are [name, id]; the answer sets one's value and its small print. */
export function tiles(items) {
  const cells = new Map();
  const node = h("dl", { class: "tiles" }, items.map(([name, id]) => {
    const value = h("span", null, "–");
    const small = h("small", null, "\u00a0");
    cells.set(id, [value, small]);
    return h("div", null, h("dt", null, name), h("dd", null, value, small));
  }));
  const set = (id, value, print = "\u00a0") => {
    const [main, small] = cells.get(id);
    text(main, value);
    text(small, print);
  };
  return { node, set };
}

/** What the parts of a band mean: [class, words]. */
export function key(items) {
  return h("ul", { class: "key" }, items.map(([name, words]) => h("li", null, h("i", { class: name }), words)));
}

/** A mark, with what it means for those who do not see it. */
export function mark([glyph, kind, words]) {
  return h("span", { class: `mark ${kind}`, role: "img", "aria-label": words, title: words }, glyph);
}
