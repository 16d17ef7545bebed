// The teacher's own order beside the model's: by drag or by buttons, ties allowed, and where the two disagree.

import { h, icon } from "./dom.js";
import { chance, percent, place, places, t } from "./language.js";
import { picture } from "./parts.js";

const MOST_SHOWN = 30;

export function mineView(page) {
  const { works } = page;
  const rows = works.mineFlat;
  page.sortable ??= sortable(page);
  const list = h("ol", { class: "rows mine", ref: page.sortable }, rows.map((work, row) => myRow(page, work, row, rows)));
  return h(
    "div",
    { class: "orders" },
    h(
      "section",
      { class: "theirs" },
      h("h2", {}, t("model_order")),
      h("ol", { class: "rows" }, works.ordered.map((work) => modelRow(page, work))),
    ),
    h(
      "section",
      {},
      h("h2", { tabindex: "-1" }, t("mine_title")),
      h("p", { class: "hint" }, t("mine_hint")),
      list,
      h("p", {}, h("button", { type: "button", dataset: { key: "reset" }, onclick: () => page.resetMine() }, t("reset"))),
      h("p", { class: "hint" }, t("tiers_for_training")),
    ),
    disagreements(page),
  );
}

function modelRow(page, work) {
  const entry = page.works.place.get(work.id);
  return h(
    "li",
    { key: work.id, class: "row" },
    h("span", { class: "at" }, place(entry.place)),
    h("span", { class: "thumb" }, picture(work)),
    h("span", { class: "name" }, work.name),
    h("span", { class: "span" }, places(entry.first, entry.last)),
  );
}

function myRow(page, work, row, rows) {
  const { works } = page;
  const entry = works.place.get(work.id);
  const isTied = works.isTied(work);
  const place_ = works.myPlace(work);
  const sharesBelow = row + 1 < rows.length && works.myPlace(rows[row + 1]) === place_;
  const button = (name, label, key, isOff, act, more = {}) =>
    h(
      "button",
      {
        type: "button", class: "quiet", "aria-label": label, title: label, dataset: { key: `${key}:${work.id}` },
        "aria-disabled": isOff ? "true" : null, onclick: () => isOff || act(), ...more,
      },
      icon(name),
      name === "tie" && h("span", {}, t("tie_short")),
    );
  return h(
    "li",
    { key: work.id, class: `row${isTied ? " tied" : ""}${sharesBelow ? " ties-below" : ""}`, dataset: { work: work.id } },
    h("span", { class: "handle", title: t("drag", work), "aria-hidden": "true" }, icon("drag")),
    h("span", { class: "at" }, place(place_)),
    h("button", { type: "button", class: "thumb look", "aria-label": t("look", work), dataset: { key: `look:${work.id}` }, onclick: () => page.openViewer(work) }, picture(work)),
    h("span", { class: "named" }, h("span", { class: "name" }, work.name), h("span", { class: "span" }, t("model_says", { places: places(entry.first, entry.last) }))),
    tierChoice(page, work),
    h(
      "span",
      { class: "moves" },
      button("up", t("up", work), "up", row === 0, () => page.move(work, -1)),
      button("down", t("down", work), "down", row === rows.length - 1, () => page.move(work, 1)),
      button("tie", t("tie", work), "tie", row === 0, () => page.tie(work), { "aria-pressed": String(isTied) }),
    ),
  );
}

function tierChoice(page, work) {
  const option = (value, text) => h("option", { value }, text);
  return h(
    "select",
    { value: work.tier, "aria-label": t("your_tier", work), dataset: { key: `tier:${work.id}` }, onchange: (event) => page.works.setTier(work, event.target.value) },
    option("", t("no_tier")),
    page.sending.model.tiers.map((tier) => option(tier, t("tier_is", { tier }))),
  );
}

// Return what Preact gives the list to: it lets its rows be dragged.
function sortable(page) {
  let made = null;
  return (list) => {
    made?.destroy();
    made = list && new Sortable(list, {
      handle: ".handle",
      animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 150,
      forceFallback: true, // the same by mouse, pen and finger
      fallbackTolerance: 3,
      onStart: () => page.hold(true),
      onEnd: ({ item, oldIndex, newIndex }) => {
        list.insertBefore(item, list.children[oldIndex + (newIndex < oldIndex ? 1 : 0)] ?? null); // Preact moves it
        page.hold(false);
        if (oldIndex !== newIndex) page.moveTo(page.works.find(Number(item.dataset.work)), newIndex);
      },
    });
  };
}

function disagreements(page) {
  const found = page.works.disagreements;
  const rest = found.length - MOST_SHOWN;
  return h(
    "section",
    { class: "disagreements" },
    h("h2", {}, t("disagreements")),
    found.length === 0 && h("p", { class: "hint" }, t("disagree_none", { least: percent(page.works.ranking.leastConfidence) })),
    h("ol", {}, found.slice(0, MOST_SHOWN).map((each) => disagreement(page, each))),
    rest > 0 && h("p", { class: "hint" }, t("disagree_more", { n: rest })),
  );
}

function disagreement(page, { better, worse, against }) {
  const values = { better: better.name, worse: worse.name, percent: chance(against) };
  return h(
    "li",
    { key: `${better.id} ${worse.id}` },
    h("span", { class: "thumbs", "aria-hidden": "true" }, picture(better), icon("next"), picture(worse)),
    h("p", {}, t("disagree", values)),
    h("button", { type: "button", dataset: { key: `look:${better.id}:${worse.id}` }, onclick: () => page.compare(better, worse) }, t("disagree_look")),
  );
}
