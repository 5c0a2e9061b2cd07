"use strict";
/* Draws the step and one run of a program as SVG. Times are whole nanoseconds. */

const data = JSON.parse(document.getElementById("data").textContent);
const view = { program: 0, from: 0, to: 1, task: -1 };
const ROW = { lane: 26, busy: 15 };
const GAP = 3, AXIS = 18, OVERVIEW = 46;

const heaviest = data.programs.reduce(
  (best, one, n) => (one.share > data.programs[best].share ? n : best), 0);

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function timeText(nano) {
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  const [size, unit] = units.find(([size]) => nano >= size) || [1, "ns"];
  return `${+(nano / size).toPrecision(4)} ${unit}`;
}

/* Round steps of an axis: 1, 2 or 5 times a power of ten, about one for every 90 pixels. */
function tickStep(span, width) {
  const rough = Math.max(span / Math.max(2, width / 90), 1e-9);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(f => f * power).find(step => step >= rough);
}

/* A label's pixels are about 6.2 a letter; what does not fit is left out or cut. */
function fitted(text, width) {
  const letters = Math.floor((width - 6) / 6.2);
  if (letters < 3) return "";
  return text.length <= letters ? text : text.slice(0, letters - 1) + "…";
}

function drawAxis(picture, left, width, height, from, to) {
  const step = tickStep(to - from, width);
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    const x = left + (time - from) / (to - from) * width;
    picture.append(svg("line", { class: "grid", x1: x, x2: x, y1: AXIS - 4, y2: height }));
    const last = x > left + width - 30;
    picture.append(svg("text", { class: "axis", x, y: 10,
      "text-anchor": last ? "end" : "start" }, time ? timeText(time) : "0"));
  }
}

/* ---- the step ------------------------------------------------------------------------------ */

function drawOverview() {
  const place = document.getElementById("overview");
  const total = data.calls.reduce((end, [, start, duration]) => Math.max(end, start + duration), 0);
  if (!total) { place.textContent = "The step is empty."; return; }
  const width = place.clientWidth, height = AXIS + OVERVIEW + 6;
  const picture = svg("svg", { height, viewBox: `0 0 ${width} ${height}` });
  drawAxis(picture, 0, width, AXIS, 0, total);
  for (const [program, start, duration, count] of data.calls) {
    picture.append(drawCall(program, count, start / total * width, duration / total * width));
  }
  place.replaceChildren(picture);
}

function drawCall(program, count, x, width) {
  const one = data.programs[program];
  const group = svg("g", { class: "call", "data-program": program, "data-count": count });
  group.classList.toggle("chosen", program === view.program);
  const inner = Math.max(width - (width > 3 ? 1 : 0), .3);
  let y = AXIS;
  one.split.forEach((share, part) => {
    if (!share) return;
    group.append(svg("rect", { class: `part-${part}`, x, y, width: inner,
      height: share * OVERVIEW }));
    y += share * OVERVIEW;
  });
  group.append(svg("rect", { class: "frame", x, y: AXIS, width: inner, height: OVERVIEW }));
  group.append(svg("rect", { class: "mark", x, y: AXIS + OVERVIEW + 2, width: inner, height: 3 }));
  return group;
}

function drawTabs() {
  const tabs = data.programs.map((one, n) => {
    const tab = document.createElement("button");
    const times = document.createElement("small");
    const share = `${(100 * one.share).toFixed(1)} %`;
    times.textContent = `${one.count} × ${timeText(one.duration)}, ${share}`;
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", n === view.program);
    tab.dataset.program = n;
    tab.append(one.name, times);
    return tab;
  });
  document.getElementById("programs").replaceChildren(...tabs);
}

/* ---- one run of a program ------------------------------------------------------------------- */

function drawLanes() {
  const place = document.getElementById("lanes"), one = data.programs[view.program];
  const width = place.clientWidth;
  if (!one || !one.duration) { place.textContent = "Nothing runs here."; return; }
  const left = width < 600 ? 76 : 130;
  const [from, to] = [view.from * one.duration, view.to * one.duration];
  const height = AXIS + one.rows.reduce((sum, row) => sum + ROW[row.role] + GAP, 0);
  const picture = svg("svg", { height, viewBox: `0 0 ${width} ${height}` });
  drawAxis(picture, left, width - left, height, from, to);
  let y = AXIS;
  for (const row of one.rows) {
    const scale = { left, width: width - left, from, to, y, height: ROW[row.role] };
    picture.append(drawRow(one, row, scale));
    y += ROW[row.role] + GAP;
  }
  place.classList.toggle("moved", view.to - view.from < 1);
  place.replaceChildren(picture);
  const part = view.to - view.from < 1 ? `${timeText(from)} to ${timeText(to)} of ` : "";
  document.getElementById("span").textContent = `${one.name}: ${part}${timeText(one.duration)}`;
}

function drawRow(one, row, scale) {
  const { left, width, y, height } = scale;
  const group = svg("g", { class: "row", "data-row": row.title, "data-role": row.role });
  const title = row.role === "busy" ? `· ${row.title}` : row.title;
  group.append(svg("text", { x: 0, y: y + height / 2 + 4,
    class: row.role === "busy" ? "faint" : "" }, fitted(title, left)));
  group.append(svg("rect", { class: "back", x: left, y, width, height }));
  const link = row.role === "lane" && row.title !== "compute";
  for (const bar of row.bars) drawBar(group, one, bar, scale, row.role, link);
  if (link) drawExposed(group, one, row, scale);
  return group;
}

/* [x, width] of an interval within the picture, or null if it lies outside. */
function placed(start, end, { left, width, from, to }) {
  const a = Math.max(start, from), b = Math.min(end, to);
  if (b < a || (b === a && end > start)) return null;
  const x = left + (a - from) / (to - from) * width;
  return [x, Math.max((b - a) / (to - from) * width, .7)];
}

function drawBar(group, one, [number, start, duration], scale, role, link) {
  const spot = placed(start, start + duration, scale);
  if (!spot) return;
  const [x, width] = spot, { y, height } = scale, task = one.tasks[number];
  const bar = svg("rect", { x, y, width: Math.max(width - .5, .7), height,
    class: `bar part-${task.part}`, "data-task": number });
  bar.classList.toggle("chosen", number === view.task && role === "lane");
  bar.classList.toggle("hidden", link);
  if (role === "lane") {
    bar.setAttribute("tabindex", 0);
    bar.setAttribute("role", "button");
    bar.setAttribute("aria-label", `${data.texts[task.name]}, ${task.time}`);
  }
  group.append(bar);
  if (role !== "lane") return;
  const colour = link ? "" : `inside on-${task.part}`;
  const label = svg("text", { class: colour, x: x + 4, y: y + height / 2 + 4 },
    fitted(data.texts[task.name], width));
  if (label.textContent) group.append(label);
}

/* Transfers are pale where kernels hide them; what the cores wait for is drawn over in full. */
function drawExposed(group, one, row, scale) {
  for (const [, start, duration] of row.bars) {
    for (const [a, b] of one.exposed) {
      const [from, to] = [Math.max(a, start), Math.min(b, start + duration)];
      const spot = from < to ? placed(from, to, scale) : null;
      if (!spot) continue;
      group.append(svg("rect", { class: "part-3", "pointer-events": "none", x: spot[0],
        width: Math.max(spot[1] - .5, .7), y: scale.y + scale.height - 7, height: 7 }));
    }
  }
}
