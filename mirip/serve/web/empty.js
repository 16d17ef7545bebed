// The page before the first work: what it does, the notice, and a place to put images.

import { h, icon } from "./dom.js";
import { megabytes, number, t } from "./language.js";

export function emptyView(page) {
  const { limits } = page.sending;
  const values = { mb: number(megabytes(limits)), n: number(limits.rank_images) };
  return [
    h("section", { class: "intro" }, h("h1", { tabindex: "-1" }, t("title")), h("p", { class: "lead" }, t("lead"))),
    h(
      "aside",
      { class: "notice" },
      h("h2", {}, t("notice_title")),
      h("p", {}, t("notice")),
    ),
    h(
      "div",
      { class: "drop" },
      page.chooser("choose", "choose-first", h("span", { class: "drop-text" }, icon("add"), h("strong", {}, h("span", { class: "for-mouse" }, t("drop")), h("span", { class: "for-touch" }, t("choose_touch"))))),
      h("p", { class: "hint" }, t("drop_more", values)),
      page.camera(),
    ),
    h("p", { class: "hint private" }, t("private")),
  ];
}
