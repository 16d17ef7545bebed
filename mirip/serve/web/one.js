// One work: large, with what the model says of it.

import { h } from "./dom.js";
import { t } from "./language.js";
import { zoomButtons } from "./pair.js";
import { removeButton } from "./parts.js";
import { contextChoice, resultPanel } from "./result.js";
import { Zoom } from "./zoom.js";

const zooms = new WeakMap(); // by works

export function oneView(page, work, { canRemove, extra = null }) {
  if (!zooms.has(work)) zooms.set(work, new Zoom(1));
  const zoom = zooms.get(work);
  const pane = h(
    "div",
    { key: work.id, class: "pane", tabindex: "0", role: "group", "aria-label": t("pane", work), dataset: { key: "pane:0" }, ref: zoom.refs[0] },
    h("img", { src: page.large(work), alt: work.name, draggable: false }),
  );
  return h(
    "div",
    { class: "one" },
    h("h2", { class: "unseen" }, work.name),
    h(
      "figure",
      {},
      pane,
      h("figcaption", {}, h("p", { class: "name" }, work.name), zoomButtons(zoom, () => 0), canRemove && removeButton(page, work, "add")),
    ),
    h("div", { class: "beside" }, extra, work.result && [contextChoice(page), resultPanel(page, work)]),
  );
}
