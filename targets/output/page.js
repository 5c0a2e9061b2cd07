/* What clicks, keys and the address do. The address after # holds the state, so that a view can be
   sent to someone: #program=NAME&task=NUMBER&zoom=FROM-TO&sort=TABLE:COLUMN:up */

const longestRows = [...document.querySelectorAll("#operations tbody tr")];
let state = {};

function setState(changes) {
  state = { ...state, ...changes };
  for (const name of Object.keys(state)) if (state[name] === null) delete state[name];
  const text = new URLSearchParams(state).toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname);
}

function readState() {
  state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const named = data.programs.findIndex(one => one.name === state.program);
  const range = (state.zoom || "0-1").split("-").map(Number);
  const sound = range.length === 2 && range[0] >= 0 && range[1] <= 1 && range[0] < range[1];
  choose(named < 0 ? heaviest : named, sound ? range : [0, 1]);
  if (state.sort) sortBy(...state.sort.split(":"));
  if (/^\d+$/.test(state.task || "")) openTask(view.program, +state.task);
  const cards = [...document.querySelectorAll(".card[data-field]")];
  const card = cards.find(one => one.dataset.field === state.field);
  if (card) fieldSheet(card);
}

function choose(program, [from, to] = [0, 1]) {
  Object.assign(view, { program, from, to, task: -1 });
  draw();
}

function draw() {
  if (!data.programs.length) return;
  drawOverview();
  drawTabs();
  drawLanes();
}

function openTask(program, number) {
  if (!data.programs[program] || !data.programs[program].tasks[number]) return;
  if (program !== view.program) choose(program);
  view.task = number;
  drawLanes();
  taskSheet(program, number);
  setState({ program: data.programs[program].name, task: number, field: null });
}

/* ---- zoom ----------------------------------------------------------------------------------- */

function zoomTo(from, to) {
  const size = Math.min(Math.max(to - from, 1e-4), 1);
  view.from = Math.min(Math.max(from, 0), 1 - size);
  view.to = view.from + size;
  setState({ zoom: size < 1 ? `${view.from.toFixed(5)}-${view.to.toFixed(5)}` : null });
  drawLanes();
}

function zoomAt(factor, anchor) {
  const middle = view.from + anchor * (view.to - view.from);
  zoomTo(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
}

/* Where a pointer is on the time axis, 0 to 1. */
function anchorOf(event) {
  const back = document.querySelector("#lanes .back").getBoundingClientRect();
  return Math.min(Math.max((event.clientX - back.left) / back.width, 0), 1);
}

function zoomByDragging(place) {
  let begin = null, moved = false;
  place.addEventListener("pointerdown", event => {
    if (event.pointerType === "touch" || !place.querySelector(".back")) return;
    begin = anchorOf(event);
    moved = false;
  });
  addEventListener("pointermove", event => {
    if (begin === null || !event.buttons) return;
    moved = moved || Math.abs(anchorOf(event) - begin) > .01;
  });
  addEventListener("pointerup", event => {
    if (begin === null) return;
    const end = anchorOf(event), size = view.to - view.from;
    const [a, b] = begin < end ? [begin, end] : [end, begin];
    if (moved && b - a > .01) zoomTo(view.from + a * size, view.from + b * size);
    begin = null;
  });
  // A drag that ends on a bar is no click on it.
  place.addEventListener("click", event => {
    if (moved) event.stopPropagation();
    moved = false;
  }, true);
  place.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey || !place.querySelector(".back")) return;
    event.preventDefault();
    zoomAt(event.deltaY > 0 ? 1.25 : .8, anchorOf(event));
  }, { passive: false });
}

/* ---- tables --------------------------------------------------------------------------------- */

/* The first click on a column of numbers shows the largest first, of texts the first letters. */
function sortBy(name, column, direction) {
  const table = document.getElementById(name);
  const heads = table && table.tHead ? [...table.tHead.rows[0].cells] : [];
  const head = heads[column];
  if (!head) return;
  const numeric = head.classList.contains("number");
  const was = head.getAttribute("aria-sort");
  const first = numeric ? "down" : "up", turned = was === "descending" ? "up" : "down";
  const way = direction || (was ? turned : first), sign = way === "up" ? 1 : -1;
  const key = row => row.cells[column].dataset.order;
  const order = numeric ? (a, b) => key(a) - key(b) : (a, b) => key(a).localeCompare(key(b));
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * order(a, b)));
  heads.forEach(one => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", way === "up" ? "ascending" : "descending");
  setState({ sort: `${name}:${column}:${way}` });
}

/* ---- events --------------------------------------------------------------------------------- */

/* The nearest element around an event; some events are of the document, which is none. */
function around(event, selector) {
  return event.target.closest ? event.target.closest(selector) : null;
}

function onClick(event) {
  const hit = selector => around(event, selector);
  const sort = hit("[data-sort]"), link = hit("button[data-task]"), bar = hit(".bar");
  const call = hit("[data-program]"), zoom = hit("[data-zoom]"), card = hit(".card[data-field]");
  const go = hit("[data-goto]");
  if (sort) sortBy(sort.closest("table").id, sort.dataset.sort);
  else if (link) openTask(...placeOf(link.dataset.task));
  else if (bar) openTask(view.program, +bar.dataset.task);
  else if (zoom && zoom.dataset.zoom === "all") zoomTo(0, 1);
  else if (zoom) zoomAt(+zoom.dataset.zoom, .5);
  else if (go) document.getElementById(go.dataset.goto).scrollIntoView();
  else if (card) { fieldSheet(card); setState({ field: card.dataset.field, task: null }); }
  else if (call) {
    choose(+call.dataset.program);
    setState({ program: data.programs[view.program].name, task: null, zoom: null });
  }
}

/* "NAME:NUMBER"; the name may hold colons of its own. */
function placeOf(text) {
  const cut = text.lastIndexOf(":");
  return [data.programs.findIndex(one => one.name === text.slice(0, cut)), +text.slice(cut + 1)];
}

function onPoint(event) {
  const bar = around(event, ".bar"), call = around(event, ".call");
  if (bar) showTip(taskTip(view.program, +bar.dataset.task), event.clientX, event.clientY);
  else if (call) {
    showTip(callTip(+call.dataset.program, +call.dataset.count), event.clientX, event.clientY);
  }
  else hideTip();
}

function onKey(event) {
  const bar = around(event, ".bar");
  if (event.key === "Escape") closeSheet();
  if (bar && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    openTask(view.program, +bar.dataset.task);
  }
}

document.addEventListener("click", onClick);
document.addEventListener("pointermove", onPoint);
document.addEventListener("keydown", onKey);
addEventListener("resize", draw);
addEventListener("hashchange", readState);
zoomByDragging(document.getElementById("lanes"));
readState();
