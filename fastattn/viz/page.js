"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const make = (parent, tag, text) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;
  return element;
};
const map = byId("map"), reading = byId("reading"), sentence = byId("sentence");
const chosen = { example: 0, layer: 0, head: 0 };
const place = { row: 0, column: 0 };
let example, weights, cells, columns, rows, words;

function choice(name, label, names) {
  if (names.length < 2) return;
  const form = byId("choice");
  form.hidden = false;
  const select = make(make(form, "label", label), "select");
  names.forEach((text, value) => { make(select, "option", text).value = value; });
  select.addEventListener("change", () => { chosen[name] = Number(select.value); draw(); });
}

/* Weights of the chosen layer and head; head 0 is the mean when there are several. */
function current() {
  const { heads, source, target } = example, size = source.length * target.length;
  const several = heads > 1, first = chosen.layer * heads * size;
  if (!several || chosen.head) {
    const at = first + (several ? chosen.head - 1 : 0) * size;
    return example.weights.slice(at, at + size);
  }
  return Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let head = 0; head < heads; head++) sum += example.weights[first + head * size + i];
    return sum / heads;
  });
}

const whole = 10 ** data.digits;
const step = (weight) => Math.max(0, Math.min(data.steps, Math.round(weight / data.top * data.steps)));
const shown = (weight) => (weight / whole).toFixed(weight < whole / 100 ? data.digits : 3);

function mark() {
  const width = example.source.length;
  columns.forEach((th, i) => th.classList.toggle("on", i === place.column));
  rows.forEach((th, i) => th.classList.toggle("on", i === place.row));
  words.forEach((span, i) => { span.className = "c" + step(weights[place.row * width + i]); });
  const weight = weights[place.row * width + place.column];
  reading.textContent = `${example.target[place.row]} attends to ${example.source[place.column]}: ${shown(weight)}`;
}

function go(row, column, focus) {
  const width = example.source.length;
  cells[place.row * width + place.column].tabIndex = -1;
  place.row = Math.max(0, Math.min(example.target.length - 1, row));
  place.column = Math.max(0, Math.min(width - 1, column));
  const cell = cells[place.row * width + place.column];
  cell.tabIndex = 0;
  if (focus) cell.focus();
  mark();
}

function draw() {
  example = data.examples[chosen.example];
  weights = current();
  const { source, target } = example, numbers = Math.max(source.length, target.length) <= 12;
  map.replaceChildren();
  map.classList.toggle("numbers", numbers);
  map.setAttribute("aria-label", "Attention weights: rows are target tokens, columns are source tokens");
  map.setAttribute("aria-rowcount", target.length + 1);
  map.setAttribute("aria-colcount", source.length + 1);
  const head = make(make(map, "thead"), "tr");
  make(head, "td").className = "corner";
  columns = source.map((token) => {
    const th = make(head, "th");
    th.scope = "col";
    make(th, "span", token).title = token;
    return th;
  });
  const body = make(map, "tbody");
  cells = [];
  rows = target.map((token, i) => {
    const tr = make(body, "tr"), th = make(tr, "th");
    th.scope = "row";
    make(th, "span", token).title = token;
    source.forEach((other, j) => {
      const weight = weights[i * source.length + j], td = make(tr, "td");
      td.className = "c" + step(weight);
      td.setAttribute("role", "gridcell");
      td.setAttribute("aria-label", `${token}, ${other}, ${shown(weight)}`);
      td.tabIndex = -1;
      if (numbers) td.textContent = weight >= 0.995 * whole ? "1" : (weight / whole).toFixed(data.digits / 2).slice(1);
      cells.push(td);
    });
    return th;
  });
  sentence.replaceChildren();
  words = source.map((token) => make(sentence, "span", token));
  go(place.row, place.column, false);
}

const at = (event) => cells.indexOf(event.target.closest("td[role=gridcell]"));
map.addEventListener("mouseover", (event) => {
  const cell = at(event), row = rows.indexOf(event.target.closest("th"));
  if (cell >= 0) go(Math.floor(cell / example.source.length), cell % example.source.length, false);
  else if (row >= 0) go(row, place.column, false);
});
map.addEventListener("focusin", (event) => {
  const cell = at(event);
  if (cell >= 0) go(Math.floor(cell / example.source.length), cell % example.source.length, false);
});
map.addEventListener("keydown", (event) => {
  const { row, column } = place, end = example.source.length - 1, last = example.target.length - 1;
  const moves = {
    ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column], PageUp: [row - 10, column], PageDown: [row + 10, column],
    Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? last : row, end],
  };
  const move = moves[event.key];
  if (!move || event.altKey || event.metaKey) return;
  event.preventDefault();
  go(move[0], move[1], true);
});

for (let i = 0; i <= data.steps; i++) make(byId("bar"), "span").className = "c" + i;
byId("top").textContent = data.top === whole ? "1" : `${shown(data.top)}, the largest weight`;
choice("example", "Sentence", data.examples.map((one) => one.name));
choice("layer", "Layer", data.layers);
choice("head", "Head", data.heads.length > 1 ? ["mean of all", ...data.heads] : data.heads);
draw();
