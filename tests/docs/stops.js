// Where the Tab key should stop: everything shown that can be clicked, filled in or scrolled. Numbers them, and returns
// the beginning of each. The body of a function.
const nodes = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
const stops = [...nodes].filter((node) => node.tabIndex >= 0 && !node.disabled && node.getClientRects().length > 0 &&
  node.checkVisibility({ opacityProperty: true, visibilityProperty: true }));
stops.forEach((node, number) => { node.dataset.stop = number; });
return stops.map((node) => node.outerHTML.slice(0, 100));
