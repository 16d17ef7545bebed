// Buttons and pictures that several views have.

import { h, icon } from "./dom.js";
import { t } from "./language.js";

export function toggle(iconName, isOn, short, label, key, onclick) {
  const attributes = { type: "button", class: "quiet", "aria-pressed": String(isOn), "aria-label": label, dataset: { key }, onclick };
  return h("button", attributes, icon(iconName), h("span", {}, short));
}

export function removeButton(page, work, next) {
  const attributes = { type: "button", class: "quiet remove", "aria-label": t("remove", work), dataset: { key: `remove:${work.id}`, next } };
  return h("button", { ...attributes, onclick: () => page.remove([work]) }, icon("remove"));
}

export function picture(work) {
  if (work.small) return h("img", { src: work.small, alt: "", loading: "lazy", draggable: false });
  return h("span", { class: "no-picture", "aria-hidden": "true" }, extension(work.name));
}

function extension(name) {
  const found = /\.([a-z0-9]{1,5})$/i.exec(name);
  return found ? found[1].toUpperCase() : "?";
}
