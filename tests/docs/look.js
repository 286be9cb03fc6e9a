// What is wrong with how a page looks: wider than the window, and texts whose contrast with what is behind them is too
// low (WCAG 2, level AA). The body of a function that returns strings.
const numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);

function over([r, g, b, opacity = 1], below) {
  return [r, g, b].map((x, i) => opacity * x + (1 - opacity) * below[i]);
}

function behind(node) {
  if (node === null) return [255, 255, 255];
  const colour = numbers(getComputedStyle(node).backgroundColor);
  return colour.length < 4 ? colour : over(colour, behind(node.parentElement));
}

const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const found = new Set(wider > 0 ? [`${wider} pixels wider than the window`] : []);
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const text = walk.currentNode.data.trim(), node = walk.currentNode.parentElement, style = getComputedStyle(node);
  const box = node.getBoundingClientRect(); // what is for screen readers alone is a pixel large
  const shown = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  if (!text || !shown || box.width < 2 || box.height < 2) continue;
  const below = behind(node), light = [luminance(over(numbers(style.color), below)), luminance(below)];
  const ratio = (Math.max(...light) + 0.05) / (Math.min(...light) + 0.05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) found.add(`contrast ${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
}
return [...found];
