// The element that has the focus: its number among the stops, whether it has a name, and whether it, what is in it or
// its card looks otherwise than without the focus; nothing where the page itself has it. The body of a function.
const node = document.activeElement;
if (node === null || node === document.body) return null;
const shown = [node, ...node.children, node.closest(".sd-card")].filter((part) => part !== null);
const looks = () => shown.map((part) => {
  const style = getComputedStyle(part);
  return [style.outline, style.boxShadow, style.backgroundColor, style.textDecoration, style.border].join();
}).join();
const focused = looks();
node.blur();
const marked = focused !== looks();
node.focus({ focusVisible: true });
const picture = node.querySelector("img[alt]");
const names = [node.getAttribute("aria-label"), node.textContent, node.placeholder, picture && picture.alt];
return [node.dataset.stop ?? node.outerHTML, names.some((name) => name && name.trim()), marked];
