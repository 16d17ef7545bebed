// What the page is drawn with: a tree of what should be there, of which Preact changes only what is different.

import { h as node, render } from "../assets/preact.module.js";

// Describe an element. Attributes: `on...` are listeners, `dataset` an object; children may be lists, and false or null.
export function h(tag, { dataset = {}, ...attributes } = {}, ...children) {
  for (const [name, value] of Object.entries(dataset)) attributes[`data-${name}`] = value;
  return node(tag, attributes, ...children.flat(Infinity).filter((child) => child !== undefined && child !== ""));
}

const ICONS = {
  up: "M12 19V5M5 12l7-7 7 7",
  down: "M12 5v14M5 12l7 7 7-7",
  remove: "M6 6l12 12M18 6L6 18",
  tie: "M5 9h14M5 15h14",
  drag: "M9 5h.01M9 12h.01M9 19h.01M15 5h.01M15 12h.01M15 19h.01",
  freeze: "M9 3h6l-1 7 4 4H6l4-4-1-7zM12 14v7",
  compare: "M12 4v16M4 7h6v10H4zM14 7h6v10h-6z",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v10H5z",
  add: "M12 5v14M5 12h14",
  less: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  back: "M19 12H5M12 5l-7 7 7 7",
  next: "M5 12h14M12 5l7 7-7 7",
  swap: "M7 4L3 8l4 4M3 8h14M17 20l4-4-4-4M21 16H7",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
};

export function icon(name) {
  return h("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, h("path", { d: ICONS[name] }));
}

// Draw a part of the page. What has the focus is told by `data-key`; where it is gone, `data-next` of the old element
// names, by their keys, what takes it instead.
export function draw(part, ...children) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const wanted = focused ? [focused.dataset.key, ...(focused.dataset.next ?? "").split(" ")].filter(Boolean) : [];
  render(children.flat(Infinity), part);
  if (!focused || document.activeElement === focused) return;
  for (const key of wanted) {
    const again = part.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (again) {
      again.focus({ preventScroll: true });
      return;
    }
  }
  part.focus({ preventScroll: true });
}
