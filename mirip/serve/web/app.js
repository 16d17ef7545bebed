// The page: takes images, shows what the model says of them, and what the teacher makes of it.

import { csvOf, download } from "./csv.js";
import { draw, h, icon } from "./dom.js";
import { emptyView } from "./empty.js";
import { filesOfDrop, filesOfPaste } from "./files.js";
import { galleryView, leftOut } from "./gallery.js";
import { choose as chooseLanguage, language, number, place, t } from "./language.js";
import { mineView } from "./mine.js";
import { oneView } from "./one.js";
import { pairView } from "./pair.js";
import * as pictures from "./pictures.js";
import { placeInWords } from "./result.js";
import { Sending } from "./sending.js";
import { fillSheet } from "./sheet.js";
import { Works } from "./works.js";

const ACCEPTED = "image/*,.heic,.heif,.avif,.tif,.tiff";
const MOST_WORKS = 100; // until the server has said its own limit
const TOAST_MS = 12_000;

class Page {
  constructor() {
    this.works = new Works();
    this.sending = new Sending(this.works);
    this.view = "gallery"; // of three works or more: gallery, mine or pair
    this.chosen = []; // ids of works to compare
    this.frozen = null; // id of the work that is kept in view
    this.heading = "";
    this.isHeld = false; // while something is dragged nothing is drawn
    this.drawSoon = false;
    this.main = document.getElementById("main");
    this.works.addEventListener("change", () => this.changed());
    this.sending.addEventListener("change", () => this.changed());
  }

  start() {
    this.#listen();
    this.drawAll();
    this.sending.go();
  }

  changed() {
    this.announce();
    if (this.drawSoon) return;
    this.drawSoon = true;
    requestAnimationFrame(() => {
      this.drawSoon = false;
      this.draw();
    });
  }

  // ---- what somebody does

  add(files) {
    if (!files.length) {
      this.say(t("none_found"));
      return;
    }
    const most = this.sending.model?.limits.rank_images ?? MOST_WORKS;
    const before = this.works.list.length;
    const { already, surplus } = this.works.add(files, most);
    this.#makePictures(this.works.list.slice(before));
    const said = [already && t("already", { n: already }), surplus && t("too_many", { n: surplus, most })].filter(Boolean);
    if (said.length) this.say(said.join(" "));
    this.sending.go();
    this.draw();
  }

  #makePictures(works) {
    for (const work of works) pictures.makeSmall(work, () => this.changed());
  }

  remove(works) {
    const said = works.length === 1 ? t("removed", works[0]) : t("removed_all", { n: works.length });
    const gone = new Set(works.map((work) => work.id));
    this.chosen = this.chosen.filter((id) => !gone.has(id));
    if (gone.has(this.frozen)) this.frozen = null;
    if (this.view === "pair") this.view = "gallery";
    this.works.remove(works);
    this.say(said, { canUndo: true });
    this.sending.go();
  }

  undo() {
    if (!this.works.undo()) return;
    this.#makePictures(this.works.list.filter((work) => !work.small));
    this.say(t("undone"));
    this.sending.go();
  }

  again(work) {
    this.works.again(work);
    this.sending.go();
  }

  choose(work) {
    const isOn = this.chosen.includes(work.id);
    this.chosen = isOn ? this.chosen.filter((id) => id !== work.id) : [...this.chosen, work.id];
    if (this.chosen.length === 2) this.compare(...this.chosen.map((id) => this.works.find(id)));
    else this.changed();
  }

  compare(a, b) {
    this.chosen = [a.id, b.id];
    this.back = this.view === "pair" ? this.back : this.view;
    this.view = "pair";
    this.draw();
    this.#toTop("h2");
  }

  leavePair() {
    const [first] = this.chosen;
    this.chosen = [];
    this.view = this.back ?? "gallery";
    this.draw();
    this.main.querySelector(`[data-key="pair:${first}"]`)?.focus();
  }

  freeze(work) {
    this.frozen = this.frozen === work.id ? null : work.id;
    this.changed();
  }

  show(view) {
    this.view = view;
    this.chosen = [];
    this.changed();
  }

  move(work, step) {
    this.works.move(work, step);
    this.say(t("moved", { name: work.name, place: place(this.works.myPlace(work)) }), { isQuiet: true });
  }

  moveTo(work, row) {
    this.works.moveTo(work, row);
    this.say(t("moved", { name: work.name, place: place(this.works.myPlace(work)) }), { isQuiet: true });
  }

  tie(work) {
    this.works.toggleTie(work);
    const text = this.works.isTied(work) ? "tied" : "moved";
    this.say(t(text, { name: work.name, place: place(this.works.myPlace(work)) }), { isQuiet: true });
  }

  resetMine() {
    this.works.resetMine();
    this.say(t("model_order"), { canUndo: true });
  }

  hold(isHeld) {
    this.isHeld = isHeld;
    if (!isHeld) this.changed();
  }

  save() {
    download(csvOf(this), "mirip.csv");
  }

  async print(works = this.#printed()) {
    this.isPrinting = true; // or the browser's own command would fill the sheet again
    await fillSheet(this, works, this.heading);
    window.print();
    this.isPrinting = false;
  }

  // Ask what stands above the sheet, then print it.
  askHeading(works) {
    const dialog = document.getElementById("printing");
    const input = h("input", { type: "text", name: "heading", value: this.heading, placeholder: t("heading_example"), maxlength: "120" });
    const go = (event) => {
      event.preventDefault();
      this.heading = event.target.elements.heading.value.trim();
      dialog.close();
      this.print(works);
    };
    draw(
      dialog,
      h(
        "form",
        { onsubmit: go },
        h("h2", { id: "printing-title" }, t("print")),
        h("label", { class: "field" }, t("heading"), input),
        h("div", { class: "tools" }, h("button", { type: "submit", class: "primary" }, t("print_now")), h("button", { type: "button", onclick: () => dialog.close() }, t("close"))),
      ),
    );
    dialog.showModal();
  }

  #printed() {
    return this.works.scored.length > 1 ? this.works.ordered : this.works.scored;
  }

  large(work) {
    return work.small || !work.large ? pictures.large(work) : work.large;
  }

  // ---- what is said in passing

  say(text, { canUndo = false, isQuiet = false } = {}) {
    document.getElementById("live").textContent = text;
    const toast = document.getElementById("toast");
    clearTimeout(this.toastTimer);
    toast.hidden = isQuiet;
    if (isQuiet) return;
    const undo = h("button", { type: "button", onclick: () => this.undo(), title: t("undo_hint") }, t("undo"));
    draw(toast, h("p", {}, text), canUndo && undo);
    this.toastTimer = setTimeout(() => {
      if (!toast.contains(document.activeElement)) toast.hidden = true;
    }, TOAST_MS);
  }

  // Tell the live region how far the analysis is, when that has changed.
  announce() {
    if (this.works.unfinished.length) this.isBusy = true;
    const text = this.progressText();
    if (!this.isBusy || text === this.progressSaid) return;
    this.isBusy = !this.works.isSettled;
    this.progressSaid = text;
    document.getElementById("live").textContent = text;
  }

  progressText() {
    const { list, unfinished, problems, scored, isSettled } = this.works;
    if (!list.length) return "";
    if (unfinished.length) return t("progress", { done: list.length - unfinished.length, n: list.length });
    if (!isSettled) return t("ordering");
    return problems.length ? t("done_left_out", { n: scored.length, left: problems.length }) : t("done", { n: scored.length });
  }

  // ---- drawing

  drawAll() {
    document.documentElement.lang = language();
    document.title = `Mirip · ${t("title")}`;
    for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
    for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
    for (const button of document.querySelectorAll("[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language()));
    }
    this.troubleDrawn = undefined;
    document.getElementById("toast").hidden = true;
    this.draw();
  }

  draw() {
    if (this.isHeld) return;
    this.#drawTrouble();
    document.getElementById("model").textContent = this.sending.model ? t("model", this.sending.model.model) : "";
    const { list } = this.works;
    document.body.classList.toggle("is-empty", list.length === 0);
    draw(this.main, list.length ? [this.#toolbar(), this.#body()] : emptyView(this));
    if (document.getElementById("viewer").open) this.#drawViewer();
  }

  #body() {
    const { scored, list, isSettled } = this.works;
    if (isSettled && scored.length === 1) return [oneView(this, scored[0], { canRemove: true }), leftOut(this)];
    if (isSettled && scored.length === 2) return [pairView(this, ...this.works.ordered.toSorted((a, b) => a.id - b.id), { canRemove: true }), leftOut(this)];
    if (!isSettled || !list.length || !scored.length) return galleryView(this);
    if (this.view === "mine") return mineView(this);
    if (this.view === "pair") {
      const [a, b] = this.chosen.map((id) => this.works.find(id));
      const back = h("button", { type: "button", dataset: { key: "back" }, onclick: () => this.leavePair() }, icon("back"), t("back"));
      return [h("p", {}, back), pairView(this, a, b, { canRemove: false })];
    }
    return galleryView(this);
  }

  #toolbar() {
    const { list, unfinished, scored, isSettled } = this.works;
    const isMany = isSettled && scored.length > 2;
    const button = (key, text, onclick, more = {}) => h("button", { type: "button", dataset: { key }, onclick, ...more }, text);
    const tab = (view) => button(`view:${view}`, t(view), () => this.show(view), { "aria-pressed": String(this.view === view) });
    return h(
      "div",
      { class: "toolbar" },
      h(
        "div",
        { class: "tools" },
        this.chooser("choose", "add", [icon("add"), t("add")]),
        this.camera(),
        isMany && h("div", { class: "segments", role: "group", "aria-label": t("view") }, tab("gallery"), tab("mine")),
        isSettled && scored.length > 0 && button("save", t("save"), () => this.save()),
        isSettled && scored.length > 0 && button("print", t("print"), () => this.askHeading()),
        button("clear", t("clear"), () => this.remove([...list]), { class: "quiet", dataset: { key: "clear", next: "choose-first" } }),
      ),
      h(
        "p",
        { class: "progress", "aria-hidden": "true" }, // the live region says the same
        h("progress", { max: list.length, value: list.length - unfinished.length, hidden: isSettled }),
        this.progressText(),
      ),
    );
  }

  // A file input with its label, which looks like a button. Its place in the tree is always the same, so that it stays the
  // same element: the system's dialog may be open while the page is drawn again.
  chooser(id, key, content, look = "primary", more = { multiple: true, accept: ACCEPTED }) {
    const attributes = { type: "file", id, class: "unseen", dataset: { key, next: "choose-first add" }, onchange: (event) => this.#taken(event.target) };
    return h("span", { class: `chooser ${id}` }, h("input", { ...attributes, ...more }), h("label", { for: id, class: `button ${look}` }, content));
  }

  camera() {
    return this.chooser("camera", "camera", [icon("camera"), t("camera")], "", { accept: "image/*", capture: "environment" });
  }

  #taken(input) {
    this.add([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  }

  #drawTrouble() {
    const { trouble } = this.sending;
    if (trouble === this.troubleDrawn) return;
    this.troubleDrawn = trouble;
    const part = document.getElementById("trouble");
    if (!trouble) draw(part);
    else if (trouble.kind === "key") draw(part, this.#keyForm(trouble.isWrong));
    else draw(part, h("p", {}, t(trouble.kind, trouble)), h("button", { type: "button", onclick: () => this.sending.retry() }, t("retry")));
  }

  #keyForm(isWrong) {
    const input = h("input", { type: "password", name: "key", required: true, autocomplete: "off" });
    const use = (event) => {
      event.preventDefault();
      this.sending.useKey(event.target.elements.key.value);
    };
    return h(
      "form",
      { onsubmit: use },
      h("p", {}, t(isWrong ? "key_wrong" : "key")),
      h("label", { class: "field" }, t("key_label"), input),
      h("button", { type: "submit", class: "primary" }, t("key_send")),
    );
  }

  // ---- a work seen large

  openViewer(work) {
    this.viewed = work.id;
    this.#drawViewer();
    document.getElementById("viewer").showModal();
  }

  #drawViewer() {
    const viewer = document.getElementById("viewer");
    const { isRanked } = this.works;
    const all = isRanked ? this.works.ordered : this.works.list;
    const row = all.findIndex((work) => work.id === this.viewed);
    if (row < 0) {
      viewer.close();
      return;
    }
    const entry = isRanked ? this.works.place.get(this.viewed) : null;
    const go = (step) => {
      this.viewed = all[(row + step + all.length) % all.length].id;
      this.#drawViewer();
    };
    const button = (key, name, label, onclick) =>
      h("button", { type: "button", class: "quiet", "aria-label": label, title: label, dataset: { key }, onclick }, icon(name));
    const said = entry && h("p", { class: "place" }, h("strong", {}, place(entry.place)), h("span", {}, placeInWords(entry)));
    const printed = all[row].result && h("button", { type: "button", dataset: { key: "print-one" }, onclick: () => this.askHeading([all[row]]) }, t("print"));
    draw(
      viewer,
      h(
        "div",
        { class: "viewer-bar" },
        button("previous", "back", t("previous"), () => go(-1)),
        h("p", { id: "viewer-name", class: "name" }, all[row].name, h("span", { class: "count" }, ` ${number(row + 1)}/${number(all.length)}`)),
        button("next", "next", t("next"), () => go(1)),
        button("close", "remove", t("close"), () => viewer.close()),
      ),
      oneView(this, all[row], { canRemove: false, extra: [said, printed] }),
    );
  }

  #toTop(selector) {
    scrollTo(0, 0);
    this.main.querySelector(selector)?.focus({ preventScroll: true });
  }

  #listen() {
    for (const button of document.querySelectorAll("[data-language]")) {
      button.addEventListener("click", () => {
        chooseLanguage(button.dataset.language);
        this.drawAll();
      });
    }
    addEventListener("paste", (event) => {
      const files = filesOfPaste(event.clipboardData);
      if (files.length) this.add(files);
    });
    let depth = 0;
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (by) => (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + by);
      document.body.classList.toggle("is-over", depth > 0);
    };
    addEventListener("dragenter", mark(1));
    addEventListener("dragleave", mark(-1));
    addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
    addEventListener("drop", async (event) => {
      if (!isFiles(event)) return;
      mark(-depth)(event);
      this.add(await filesOfDrop(event.dataTransfer));
    });
    addEventListener("keydown", (event) => this.#onKey(event));
    addEventListener("beforeprint", () => {
      if (!this.isPrinting && this.works.isSettled) fillSheet(this, this.#printed(), this.heading);
    });
  }

  #onKey(event) {
    const isTyping = event.target.matches?.("input[type=text], input[type=password], select, textarea");
    if (isTyping || document.querySelector("dialog[open]")) return;
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey;
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const isInside = this.main.contains(event.target);
    if (isUndo || (isPlain && isInside && event.key.toLowerCase() === "u")) {
      event.preventDefault();
      this.undo();
    }
    const card = event.target.closest?.(".card, .problem");
    if (isPlain && event.key === "Delete" && card) this.remove([this.works.find(Number(card.dataset.work))]);
  }
}

new Page().start();
