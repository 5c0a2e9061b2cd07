/* The tip at the pointer, and the sheet with formula, figures and sources of what was clicked. */

function element(tag, text, name) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
}

function button(text, name, act) {
  const node = element("button", text, name);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function showTip(lines, x, y) {
  const tip = document.getElementById("tip");
  const [first, ...others] = lines;
  tip.replaceChildren(element("b", first), ...others.map(line => element("div", line)));
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 16 + height > innerHeight ? Math.max(4, y - height - 10) : y + 16}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

function taskTip(program, number) {
  const task = data.programs[program].tasks[number];
  const bound = data.texts[task.facts[0][1]];
  return [data.texts[task.name], `${data.texts[task.kind]}, ${task.time}, bound by ${bound}`,
    `${task.share} of the step, all its runs together`];
}

function callTip(program, count) {
  const one = data.programs[program];
  const split = one.split.map((share, part) => [share, data.parts[part]])
    .filter(([share]) => share >= .0005)
    .map(([share, part]) => `${part} ${(100 * share).toFixed(1)} %`);
  return [`${count > 1 ? `${count} × ` : ""}${one.name}`, timeText(one.duration * count), ...split];
}

/* ---- the sheet ------------------------------------------------------------------------------ */

function openSheet(title, subtitle, ...content) {
  const sheet = document.getElementById("details");
  const head = element("h2", title);
  sheet.replaceChildren(button("×", "close", closeSheet), head, element("p", subtitle), ...content);
  sheet.querySelector(".close").setAttribute("aria-label", "close");
  sheet.scrollTop = 0;
  sheet.hidden = false;
}

function closeSheet() {
  document.getElementById("details").hidden = true;
  setState({ task: null, field: null });
}

function taskSheet(program, number) {
  const one = data.programs[program], task = one.tasks[number];
  const facts = element("dl");
  for (const [name, text] of task.facts) {
    const pair = element("div");
    pair.append(element("dt", data.texts[name]), element("dd", data.texts[text]));
    facts.append(pair);
  }
  const hidden = data.parts[task.part] === "exposed communication" ? " that no kernel hides" : "";
  const formula = data.texts[task.formula] || "no formula is recorded";
  openSheet(data.texts[task.name],
    `${data.texts[task.kind]} in ${one.name}: ${task.time} each, ${one.count} times a step, ` +
    `${task.share} of it${hidden}`,
    element("code", formula, "formula"), facts,
    element("h3", "Figures of the machine that it rests on"),
    figureRows(task.figures.map(figure => data.figures[figure])));
}

function fieldSheet(card) {
  const shown = data.figures.filter(figure => figure.value !== undefined).slice(0, 12);
  openSheet(`${card.querySelector("span").textContent}: ${card.querySelector("b").textContent}`,
    card.dataset.definition, element("h3", "Figures of the machine behind the step, by share"),
    figureRows(shown), element("h3", "Tasks it is made of"), taskLinks());
}

/* Where the time is: the longest operations, which the table lists first. */
function taskLinks() {
  const list = element("ul");
  for (const row of [...longestRows].slice(0, 8)) {
    const [name, kind, programs, , time, share] = [...row.cells].map(cell => cell.textContent);
    const line = element("li"), link = button(name, "link");
    link.dataset.task = row.querySelector("[data-task]").dataset.task;
    line.append(link, ` (${kind}) in ${programs}: ${time}, ${share} of the step`);
    list.append(line);
  }
  return list;
}

function figureRows(figures) {
  const frame = element("div", undefined, "scroll"), table = element("table");
  for (const figure of figures) {
    const row = table.insertRow(), name = row.insertCell();
    name.append(button(figure.path, "link", () => goToFigure(figure.path)));
    row.append(element("td", figure.value || "not listed"));
    const evidence = row.insertCell(), kind = figure.evidence || "unknown";
    evidence.append(element("span", kind, `badge ${kind.replace(/[^a-z]/g, "")}`));
    row.append(element("td", figure.source || ""));
  }
  if (!figures.length) table.insertRow().append(element("td", "none"));
  frame.append(table);
  return frame;
}

function goToFigure(path) {
  const name = document.getElementById(`figure:${path}`);
  if (!name) return;
  document.querySelectorAll("tr.chosen").forEach(row => row.classList.remove("chosen"));
  name.closest("tr").classList.add("chosen");
  name.scrollIntoView({ block: "center" });
}
