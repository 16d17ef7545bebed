// The sheet to print: each work with its place, how sure that is, and the notice. Only a printer sees it.

import { draw, h } from "./dom.js";
import { language, place, t } from "./language.js";
import { picture } from "./parts.js";
import { closePlaces, placeInWords, tierOf, top } from "./result.js";

// Fill the sheet; return a promise that is kept when its pictures can be printed.
export function fillSheet(page, works, heading) {
  const sheet = document.getElementById("sheet");
  const isRanked = works.length > 1;
  const hasMine = isRanked && page.works.isMine;
  const date = new Intl.DateTimeFormat(language(), { dateStyle: "long" }).format(new Date());
  const titles = [isRanked && t("sheet_place"), t("sheet_work"), isRanked ? t("sheet_sure") : t("percentile"), t("tier"), hasMine && t("sheet_teacher")];
  draw(
    sheet,
    h("h1", {}, heading || t(isRanked ? "sheet_title" : "one_sheet")),
    h("p", { class: "sheet-date" }, t("sheet_date", { date, n: works.length })),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, titles.filter(Boolean).map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, works.map((work) => row(page, work, isRanked, hasMine))),
    ),
    h("p", { class: "sheet-notice" }, t("notice")),
    h("p", { class: "sheet-model" }, `Mirip · ${t("model", page.sending.model.model)}`),
  );
  return Promise.allSettled([...sheet.querySelectorAll("img")].map((image) => image.decode()));
}

function row(page, work, isRanked, hasMine) {
  const entry = isRanked ? page.works.place.get(work.id) : null;
  const close = isRanked ? closePlaces(page.works, work) : "";
  return h(
    "tr",
    {},
    entry && h("td", { class: "at" }, place(entry.place)),
    h("td", { class: "work" }, picture(work), h("span", {}, work.name)),
    entry
      ? h("td", {}, h("p", {}, placeInWords(entry)), close && h("p", { class: "small" }, t("sheet_tied", { places: close })))
      : h("td", {}, t("top", { percent: top(work.result.percentile) }), h("p", { class: "small" }, t("between", { low: top(work.result.percentile_high), high: top(work.result.percentile_low) }))),
    h("td", {}, tierOf(work)),
    hasMine && h("td", {}, place(page.works.myPlace(work)), work.tier ? `, ${t("tier_is", work)}` : ""),
  );
}
