// A course in time on a canvas: areas, lines, steps, and marks that can be clicked.

import { h } from "./dom.js";
import { time } from "./units.js";

/** Points further from each other than this, ms, are not joined: while an agent is there they come about each second. */
const APART = 5000;
const PAD = { left: 74, right: 12, top: 10, bottom: 24 };

/** Resolves a colour of the style sheet as it is in this theme. */
function colours(probe, names) {
  return Object.fromEntries(names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  }));
}

/** A round upper end for an axis of sizes (powers of two) or of plain numbers. */
function ceil(value, isSize) {
  if (!(value > 0)) return 1;
  const unit = isSize ? 2 ** (10 * Math.floor(Math.log2(value) / 10)) : 10 ** Math.floor(Math.log10(value));
  const steps = isSize ? [1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512, 640, 768, 1024] : [1, 2, 4, 5, 10];
  return unit * (steps.find((step) => unit * step >= value) ?? 1024);
}

/**
 * `draw()` gives { from, to, top, isSize, format, series, lines, marks, words }:
 * series [{ points: [[ms, value]], colour, fill, dash, step, width }], lines across [{ at, colour, dash }],
 * marks [{ at, value, glyph, colour, id }]. `pick(id)` is called for a mark that is clicked.
 */
export function chart({ label, low, pick }) {
  const canvas = h("canvas", { role: "img", "aria-label": label });
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const probe = h("span", { hidden: true });
  const node = h("div", { class: low ? "chart low" : "chart" }, canvas, tip, probe);
  let what = null;
  let scale = null;

  function paint() {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!what || width === 0) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${getComputedStyle(node).fontFamily}`;
    const hue = colours(probe, ["text", "muted", "line", "panel", "used", "granted", "ceiling", "ok", "warn", "bad"]);
    const top = ceil(what.top, what.isSize);
    const x = (ms) => PAD.left + ((ms - what.from) / (what.to - what.from)) * (width - PAD.left - PAD.right);
    const y = (value) => height - PAD.bottom - (Math.min(value, top) / top) * (height - PAD.top - PAD.bottom);
    scale = { x, y, width, height };

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    const parts = low ? 2 : 4;
    for (let part = 0; part <= parts; part += 1) {
      const value = (top / parts) * part;
      const at = Math.round(y(value)) + 0.5;
      pen.strokeStyle = hue.line;
      stroke(pen, [[PAD.left, at], [width - PAD.right, at]]);
      pen.fillStyle = hue.muted;
      pen.textAlign = "right";
      pen.fillText(what.format(value), PAD.left - 8, at);
    }
    pen.textBaseline = "alphabetic";
    const every = [10, 30, 60, 120, 300, 600, 1800, 3600, 10800].find((s) => (what.to - what.from) / 1000 / s <= 7) ?? 43200;
    for (let ms = Math.ceil(what.from / 1000 / every) * every * 1000; ms <= what.to; ms += every * 1000) {
      pen.fillStyle = hue.muted;
      pen.textAlign = "center";
      if (x(ms) < width - 30) pen.fillText(time(ms), x(ms), height - 7);
    }

    pen.save();
    pen.beginPath();
    pen.rect(PAD.left, 0, width - PAD.left - PAD.right, height - PAD.bottom + 1);
    pen.clip();
    for (const series of what.series) for (const path of paths(series, x, y, what.to)) {
      const { colour, fill, dash, width: thick } = series;
      if (path.length === 1) {
        pen.fillStyle = hue[colour];
        pen.fillRect(path[0][0] - 1.5, path[0][1] - 1.5, 3, 3);
        continue;
      }
      if (fill) {
        pen.globalAlpha = fill;
        pen.fillStyle = hue[colour];
        pen.beginPath();
        pen.moveTo(path[0][0], y(0));
        for (const point of path) pen.lineTo(...point);
        pen.lineTo(path.at(-1)[0], y(0));
        pen.fill();
        pen.globalAlpha = 1;
      }
      pen.strokeStyle = hue[colour];
      pen.lineWidth = thick ?? 2;
      pen.setLineDash(dash ?? []);
      stroke(pen, path);
    }
    for (const { at, colour, dash } of what.lines ?? []) {
      pen.strokeStyle = hue[colour];
      pen.lineWidth = 1.5;
      pen.setLineDash(dash ?? []);
      stroke(pen, [[PAD.left, y(at)], [width - PAD.right, y(at)]]);
    }
    pen.setLineDash([]);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = "12px sans-serif";
    for (const mark of what.marks ?? []) {
      const [mx, my] = [x(mark.at), y(mark.value)];
      pen.fillStyle = hue.panel;
      pen.strokeStyle = hue[mark.colour];
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(mx, my, 8, 0, 7);
      pen.fill();
      pen.stroke();
      pen.fillStyle = hue[mark.colour];
      pen.fillText(mark.glyph, mx, my + 0.5);
    }
    pen.restore();
    canvas.setAttribute("aria-label", `${label}: ${what.words}`);
  }

  /** The mark within reach of the pointer. */
  function near(event) {
    const box = canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const far = ({ at, value }) => Math.hypot(scale.x(at) - px, scale.y(value) - py);
    const nearest = (what?.marks ?? []).filter((mark) => far(mark) < 14).sort((a, b) => far(a) - far(b))[0];
    return [nearest, px, py];
  }

  canvas.addEventListener("pointermove", (event) => {
    if (!what || !scale) return;
    const [mark, px, py] = near(event);
    canvas.style.cursor = mark ? "pointer" : "crosshair";
    const ms = what.from + ((px - PAD.left) / (scale.width - PAD.left - PAD.right)) * (what.to - what.from);
    const lines = mark ? [mark.words] : what.series.filter(({ name }) => name).map(({ name, points }) => {
      const point = points.findLast(([at, value]) => at <= ms && value !== null);
      return point ? `${name} ${what.format(point[1])}` : null;
    });
    const told = [time(mark ? mark.at : ms), ...lines.filter(Boolean)];
    tip.textContent = told.join("\n");
    tip.hidden = told.length < 2 || px < PAD.left;
    tip.style.left = `${Math.min(px + 14, scale.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(4, py - tip.offsetHeight - 8)}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const [mark] = scale ? near(event) : [];
    if (mark && pick) pick(mark.id);
  });
  new ResizeObserver(paint).observe(canvas);

  return { node, show(next) { what = next; paint(); } };
}

/** A series as lines. A step holds until the next point; others are not joined over a time in which nobody measured. */
function paths({ points, step }, x, y, to) {
  const all = [];
  let last = -Infinity;
  for (const [ms, value] of points) {
    if (value === null) continue;
    if (all.length === 0 || (!step && ms - last > APART)) all.push([]);
    const path = all.at(-1);
    if (step && path.length > 0) path.push([x(ms), path.at(-1)[1]]);
    path.push([x(ms), y(value)]);
    last = ms;
  }
  if (step && all.length > 0) all[0].push([x(to), all[0].at(-1)[1]]);
  return all;
}

function stroke(pen, path) {
  pen.beginPath();
  path.forEach((point, index) => (index === 0 ? pen.moveTo(...point) : pen.lineTo(...point)));
  pen.stroke();
}
