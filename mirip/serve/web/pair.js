// Two works: which is better and how sure that is, and both large, zoomed and moved together.

import { h, icon } from "./dom.js";
import { chance, percent, t } from "./language.js";
import { removeButton } from "./parts.js";
import { contextChoice, resultPanel } from "./result.js";
import { Zoom } from "./zoom.js";

// How the photos are shown stays while the page is open.
const shown = { pair: "", isSingle: false, which: 0, zoom: null };

export function pairView(page, a, b, { canRemove }) {
  const pair = `${a.id} ${b.id}`;
  if (shown.pair !== pair) Object.assign(shown, { pair, which: 0, zoom: new Zoom(2) });
  const { zoom } = shown;
  const names = ["A", "B"];
  const pane = (work, index) =>
    h(
      "div",
      {
        class: "pane", tabindex: "0", role: "group", "aria-label": t("pane", { name: `${names[index]}: ${work.name}` }),
        dataset: { key: `pane:${index}` }, ref: zoom.refs[index],
      },
      h("img", { src: page.large(work), alt: work.name, draggable: false }),
    );
  const figures = [a, b].map((work, index) =>
    h(
      "figure",
      { key: `${pair} ${index}`, class: shown.isSingle && shown.which !== index ? "hidden" : "" },
      pane(work, index),
      h(
        "figcaption",
        {},
        h("p", { class: "name" }, h("b", { class: "badge" }, names[index]), " ", work.name),
        canRemove && removeButton(page, work, "add"),
      ),
    ),
  );
  const again = (change) => () => {
    Object.assign(shown, change());
    page.draw();
  };
  const toggleLock = () => {
    zoom.locked = !zoom.locked;
    page.draw();
  };
  const controls = h(
    "div",
    { class: "controls" },
    h(
      "div",
      { class: "segments", role: "group", "aria-label": t("view") },
      h("button", { type: "button", "aria-pressed": String(!shown.isSingle), dataset: { key: "side" }, onclick: again(() => ({ isSingle: false })) }, t("side_by_side")),
      h("button", { type: "button", "aria-pressed": String(shown.isSingle), dataset: { key: "single" }, onclick: again(() => ({ isSingle: true })) }, t("single")),
    ),
    shown.isSingle &&
      h("button", { type: "button", dataset: { key: "flip" }, onclick: again(() => ({ which: 1 - shown.which })) }, icon("swap"), t("flip", { work: names[1 - shown.which] })),
    h(
      "button",
      { type: "button", "aria-pressed": String(zoom.locked), dataset: { key: "lock" }, title: t("locked_hint"), onclick: toggleLock },
      icon("lock"),
      t("locked"),
    ),
    zoomButtons(zoom, () => (shown.isSingle ? shown.which : zoom.last)),
  );
  return h("div", { class: "pair" }, verdict(page, a, b), controls, h("p", { class: "hint" }, h("span", { class: "for-mouse" }, t("wheel")), h("span", { class: "for-touch" }, t("touch")), !zoom.locked && ` ${t("locked_hint")}`), h("div", { class: shown.isSingle ? "panes single" : "panes" }, figures), results(page, a, b));
}

export function zoomButtons(zoom, which) {
  const button = (name, label, act) =>
    h("button", { type: "button", class: "quiet", "aria-label": label, title: label, dataset: { key: `zoom:${name}` }, onclick: act }, icon(name));
  return h(
    "div",
    { class: "zooms" },
    button("less", t("zoom_out"), () => zoom.step(which(), -1)),
    button("add", t("zoom_in"), () => zoom.step(which(), 1)),
    button("fit", t("fit"), () => zoom.fit()),
  );
}

function verdict(page, a, b) {
  const p = page.works.chance(a, b);
  const [ahead, sure] = p >= 0.5 ? ["A", p] : ["B", 1 - p];
  const isClose = page.works.isTooClose(a, b);
  const values = { work: ahead, percent: chance(sure), least: percent(page.works.ranking.leastConfidence) };
  return h(
    "section",
    { class: `verdict${isClose ? " close" : ""}` },
    h("h2", { tabindex: "-1", dataset: { key: "heading" } }, isClose ? t("too_close") : t("is_better", values)),
    isClose && h("p", {}, t("too_close_more", values)),
    h(
      "div",
      { class: "split", style: { "--from": `${p >= 0.5 ? 0 : p * 100}%`, "--share": `${sure * 100}%` }, role: "img", "aria-label": t("pair_bar", { a: chance(p), b: chance(1 - p) }) },
      h("span", {}, `A ${chance(p)}`),
      h("span", {}, `B ${chance(1 - p)}`),
    ),
  );
}

function results(page, a, b) {
  return h(
    "div",
    { class: "results" },
    contextChoice(page),
    [a, b].map((work, index) =>
      h("section", {}, h("h3", { class: "name" }, h("b", { class: "badge" }, "AB"[index]), " ", work.name), resultPanel(page, work)),
    ),
  );
}
