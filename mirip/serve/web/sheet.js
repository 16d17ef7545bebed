// The sheet to print: each work with its place, how sure that is, and the notice. Only a printer sees it.

import { draw, h } from "./dom.js";
import { language, place, t } from "./language.js";
import { picture } from "./parts.js";
import { closePlaces, placeInWords, rangeInWords, tierOf, top } from "./result.js";

// Fill the sheet with works, in their order, or empty it; return a promise that is kept when its pictures can be printed.
export function fillSheet(page, works) {
  const sheet = document.getElementById("sheet");
  draw(sheet, works.length > 0 && content(page, works));
  return Promise.allSettled([...sheet.querySelectorAll("img")].map((image) => image.decode()));
}

function content(page, works) {
  const isRanked = works.length > 1;
  const hasMine = isRanked && page.works.isMine;
  const date = new Intl.DateTimeFormat(language(), { dateStyle: "long" }).format(new Date());
  const titles = [
    hasMine && t("sheet_teacher"), isRanked && t("sheet_place"), t("sheet_work"), isRanked ? t("sheet_sure") : t("percentile"), t("tier"),
  ];
  const { context } = page.works.ranking;
  return [
    h("h1", {}, page.heading || t(isRanked ? "sheet_title" : "one_sheet")),
    h("p", { class: "sheet-date" }, t("sheet_date", { date, n: works.length })),
    h("p", { class: "sheet-notice" }, t("notice")),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, titles.filter(Boolean).map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, works.map((work) => row(page, work, isRanked, hasMine))),
    ),
    h("p", { class: "small" }, isRanked ? t("sheet_range") : context && `${t("context")}: ${context}`),
    h("p", { class: "sheet-model" }, `Mirip · ${t("model", page.sending.model.model)}`),
  ];
}

function row(page, work, isRanked, hasMine) {
  const entry = isRanked ? page.works.place.get(work.id) : null;
  const close = isRanked ? closePlaces(page.works, work) : "";
  const among = page.works.percentile(work);
  const mine = hasMine && [place(page.works.myPlace(work)), work.tier && h("p", { class: "small" }, t("tier_is", work))];
  return h(
    "tr",
    {},
    hasMine && h("td", { class: "at" }, mine),
    entry && h("td", { class: hasMine ? "" : "at" }, place(entry.place)),
    h("td", { class: "work" }, picture(work), h("span", {}, work.name.replace(/\.[a-z0-9]{2,5}$/i, ""))),
    entry
      ? h("td", {}, h("p", {}, placeInWords(entry)), close && h("p", { class: "small" }, t("sheet_tied", { places: close })))
      : h("td", {}, t("top", { percent: top(among.percentile) }), h("p", { class: "small" }, rangeInWords(among))),
    h("td", {}, tierOf(work)),
  );
}
