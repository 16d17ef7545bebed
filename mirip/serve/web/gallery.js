// The works in the model's order: each with the places that it may have, and what cannot be told apart marked.

import { h } from "./dom.js";
import { number, percent, place, t } from "./language.js";
import { picture, removeButton, toggle } from "./parts.js";
import { closePlaces, flags, placeBar, placeInWords, problemInWords, tierOf } from "./result.js";

const MOST_LANES = 3;

export function galleryView(page) {
  const { works } = page;
  const { ordered, isSettled } = works;
  const known = new Set(ordered);
  const shown = [...ordered, ...works.list.filter((work) => !known.has(work) && work.state !== "problem")];
  const lanes = isSettled ? lanesOf(works.ranking.bands) : [];
  const frozen = works.find(page.frozen);
  return h(
    "div",
    { class: frozen ? "gallery with-frozen" : "gallery" },
    frozen && frozenWork(page, frozen),
    h(
      "div",
      { class: "ordered" },
      h("h2", { class: "unseen" }, t("order_title")),
      isSettled && bandList(works.ranking),
      h("ol", { class: "cards", style: { "--lanes": lanes.length } }, shown.map((work, row) => card(page, work, row, lanes, shown))),
    ),
  );
}

// Bands that overlap lie in lanes of their own; [[band, ...], ...].
function lanesOf(bands) {
  const lanes = [];
  for (const band of bands) {
    const free = lanes.find((lane) => lane.at(-1).last < band.first);
    if (free) free.push(band);
    else if (lanes.length < MOST_LANES) lanes.push([band]);
  }
  return lanes;
}

function bandList({ bands, leastConfidence }) {
  return h(
    "div",
    { class: "bands" },
    h("p", { class: "hint" }, t("may_change")),
    bands.length
      ? h("details", {}, h("summary", {}, t("bands_title")), h("ul", {}, bands.map((band) => h("li", {}, t("band", band)))))
      : h("p", { class: "hint" }, t("no_bands", { least: percent(leastConfidence) })),
  );
}

function card(page, work, row, lanes, shown) {
  const entry = work.state === "scored" ? page.works.place.get(work.id) : null;
  const close = entry ? closePlaces(page.works, work) : "";
  const isChosen = page.chosen.includes(work.id);
  const neighbours = [shown[row + 1], shown[row - 1]].filter(Boolean);
  const next = [...neighbours.map((other) => `remove:${other.id}`), "add"].join(" ");
  return h(
    "li",
    { key: work.id, class: `card${isChosen ? " chosen" : ""}`, dataset: { work: work.id, state: work.state } },
    h(
      "button",
      { type: "button", class: "look", "aria-label": t("look", work), dataset: { key: `look:${work.id}`, next }, onclick: () => page.openViewer(work) },
      picture(work),
    ),
    entry && h("div", { class: "lanes", "aria-hidden": "true" }, lanes.map((lane) => laneMark(lane, entry.place))),
    h(
      "div",
      { class: "said" },
      entry
        ? [
            h("p", { class: "place" }, h("strong", {}, place(entry.place)), h("span", {}, placeInWords(entry))),
            placeBar(entry, page.works.ranking.order.length),
            close && h("p", { class: "close-to" }, t("close_to", { places: close })),
          ]
        : h("p", { class: "state" }, work.state === "scored" ? "" : t(work.state)),
      h("p", { class: "name", title: work.name }, work.name),
      work.state === "scored" && h("p", { class: "meta" }, h("span", {}, tierOf(work)), h("span", { class: "figure" }, number(work.result.score, 2))),
      work.state === "scored" && flags(work),
    ),
    h(
      "div",
      { class: "actions" },
      entry && [
        toggle("compare", isChosen, t("compare_short"), t("choose_pair", work), `pair:${work.id}`, () => page.choose(work)),
        toggle(
          "freeze",
          page.frozen === work.id,
          t("freeze_short"),
          t(page.frozen === work.id ? "unfreeze" : "freeze", work),
          `freeze:${work.id}`,
          () => page.freeze(work),
        ),
      ],
      removeButton(page, work, next),
    ),
  );
}

function laneMark(lane, at) {
  const band = lane.find((each) => each.first <= at && at <= each.last);
  if (!band) return h("i", {});
  return h("i", { class: `in${band.first === at ? " first" : ""}${band.last === at ? " last" : ""}` });
}

function frozenWork(page, work) {
  const entry = page.works.place.get(work.id);
  return h(
    "aside",
    { class: "frozen", "aria-label": t("frozen") },
    h("img", { src: page.large(work), alt: work.name }),
    h(
      "div",
      { class: "frozen-line" },
      h("p", {}, h("strong", {}, entry ? `${place(entry.place)} ` : ""), work.name),
      toggle("remove", true, t("unfreeze_short"), t("unfreeze", work), "unfreeze", () => page.freeze(work)),
    ),
  );
}

// Files without a score: each with what is wrong and what to do.
export function leftOut(page) {
  const { problems } = page.works;
  if (!problems.length) return null;
  return h(
    "section",
    { class: "left-out" },
    h("h2", {}, t("left_out", { n: problems.length })),
    h(
      "ul",
      {},
      problems.map((work, row) => {
        const said = problemInWords(work, page.sending.limits);
        const others = [problems[row + 1], problems[row - 1]].filter(Boolean);
        const next = [...others.map((other) => `remove:${other.id}`), "add"].join(" ");
        return h(
          "li",
          { key: work.id, class: "problem", dataset: { work: work.id } },
          h("span", { class: "thumb" }, picture(work)),
          h(
            "div",
            {},
            h("p", { class: "name" }, work.name),
            h("p", {}, h("strong", {}, said.what), " ", said.advice),
            said.details && h("details", {}, h("summary", {}, t("details")), h("p", { lang: "en" }, said.details)),
          ),
          h("button", { type: "button", dataset: { key: `again:${work.id}`, next: `remove:${work.id}` }, onclick: () => page.again(work) }, t("retry")),
          removeButton(page, work, next),
        );
      }),
    ),
  );
}
