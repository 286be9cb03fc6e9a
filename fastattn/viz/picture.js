"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const { rows, columns, colours, tokens, maps } = data;
const map = byId("map"), reading = byId("reading");
const largest = Math.max(1, ...maps.map((one) => Math.max(...one)));
const shown = (weight) => (weight / data.whole).toFixed(weight < data.whole / 100 ? 4 : 3);
const colour = (weight) => colours[Math.round(weight / largest * (colours.length - 1))];
let chosen = 0;

function paint(canvas, width, height, weights) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  weights.forEach((weight, i) => image.data.set([...colour(weight), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

const place = (cell) => `row ${Math.floor(cell / columns) + 1} of ${rows}, column ${cell % columns + 1} of ${columns}`;

function choose(token, focus) {
  buttons[chosen].tabIndex = -1;
  buttons[chosen].setAttribute("aria-pressed", "false");
  chosen = Math.max(0, Math.min(tokens.length - 1, token));
  buttons[chosen].tabIndex = 0;
  buttons[chosen].setAttribute("aria-pressed", "true");
  if (focus) buttons[chosen].focus();
  paint(map, columns, rows, maps[chosen]);
  const most = Math.max(...maps[chosen]);
  reading.textContent = `${tokens[chosen]}: most in ${place(maps[chosen].indexOf(most))}: ${shown(most)}`;
}

const buttons = tokens.map((token, i) => {
  const button = byId("tokens").appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = token;
  button.tabIndex = -1;
  button.setAttribute("aria-pressed", "false");
  const mine = () => { if (i !== chosen) choose(i, false); };
  for (const event of ["mouseover", "focus", "click"]) button.addEventListener(event, mine);
  return button;
});
byId("tokens").addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: tokens.length - 1 };
  if (!(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  choose(moves[event.key], true);
});
map.addEventListener("mousemove", (event) => {
  const box = map.getBoundingClientRect();
  const at = (part, count) => Math.max(0, Math.min(count - 1, Math.floor(part * count)));
  const cell = at((event.clientY - box.top) / box.height, rows) * columns
    + at((event.clientX - box.left) / box.width, columns);
  reading.textContent = `${tokens[chosen]}: ${place(cell)}: ${shown(maps[chosen][cell])}`;
});

byId("picture").src = data.picture;
byId("top").textContent = shown(largest);
paint(byId("bar"), colours.length, 1, colours.map((_, i) => i / (colours.length - 1) * largest));
choose(0, false);
