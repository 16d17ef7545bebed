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
const TOAST_MS = 12_000;

class Page {
  constructor() {
    this.works = new Works();
    this.sending = new Sending(this.works);
    this.view = "gallery"; // of three works or more: gallery, mine or pair
    this.chosen = []; // ids of works to compare
    this.frozen = null; // id of the work that is kept in view
    this.heading = "";
    this.toPrint = null; // what is being printed, from the button to the printer
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
    if (this.toast?.depth !== undefined && this.toast.depth !== this.works.undoable.length) this.#hideToast(); // it would undo another change
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
    if (!this.works.list.length) Object.assign(this, { view: "gallery", heading: "" }); // another class
    const most = this.sending.limits.rank_images;
    const { fresh, already, surplus } = this.works.add(files, most);
    this.#makePictures(fresh);
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
    if (this.works.undo()) this.#afterUndo();
  }

  redo() {
    if (this.works.redo()) this.#afterUndo();
  }

  #afterUndo() {
    const here = (id) => this.works.find(id) !== undefined;
    this.chosen = this.chosen.filter(here);
    if (this.view === "pair" && this.chosen.length < 2) this.view = "gallery";
    if (!here(this.frozen)) this.frozen = null;
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
    if (this.chosen.length === 2) {
      this.compare(...this.chosen.map((id) => this.works.find(id)));
      return;
    }
    this.say(t(isOn ? "unchosen" : "chosen", work));
    this.changed();
  }

  compare(a, b) {
    this.back = { view: this.view, key: document.activeElement?.dataset?.key, scroll: scrollY };
    this.chosen = [a.id, b.id];
    this.view = "pair";
    history.pushState({ view: "pair" }, "");
    this.draw();
    scrollTo(0, 0);
    this.main.querySelector("[data-key=heading]")?.focus({ preventScroll: true });
  }

  leavePair() {
    history.back();
  }

  #left() {
    const { view, key, scroll } = this.back;
    this.chosen = [];
    this.view = view;
    this.draw();
    scrollTo(0, scroll);
    this.main.querySelector(`[data-key="${key}"]`)?.focus({ preventScroll: true });
  }

  freeze(work) {
    this.frozen = this.frozen === work.id ? null : work.id;
    this.say(t(this.frozen ? "frozen_now" : "unfrozen_now", work), { isQuiet: true });
    this.changed();
  }

  show(view) {
    this.view = view;
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
    this.say(t("reset_done"), { canUndo: true });
  }

  hold(isHeld) {
    this.isHeld = isHeld;
    if (!isHeld) this.changed();
  }

  save() {
    download(csvOf(this), "mirip.csv");
  }

  async print(works) {
    this.toPrint = works;
    await fillSheet(this, works);
    window.print();
  }

  // Ask what stands above the sheet, then print it.
  askHeading(works = null) {
    const dialog = document.getElementById("printing");
    const input = { type: "text", name: "heading", value: this.heading, placeholder: t("heading_example"), maxlength: "120" };
    const go = (event) => {
      event.preventDefault();
      this.heading = event.target.elements.heading.value.trim();
      dialog.close();
      this.print(works ?? this.#all());
    };
    draw(
      dialog,
      h(
        "form",
        { onsubmit: go },
        h("h2", { id: "printing-title" }, t("print")),
        h("label", { class: "field" }, t("heading"), h("input", input)),
        works === null && this.works.scored.length > 1 && h("p", { class: "hint" }, t("print_all")),
        h("div", { class: "tools" }, h("button", { type: "submit", class: "primary" }, t("print_now")), h("button", { type: "button", onclick: () => dialog.close() }, t("close"))),
      ),
    );
    dialog.showModal();
  }

  // All works with a score, in the teacher's order if there is one.
  #all() {
    const { isSettled, isMine, mineFlat, ordered, scored } = this.works;
    if (!isSettled) return [];
    return scored.length > 1 && isMine ? mineFlat : ordered;
  }

  large(work) {
    return pictures.large(work);
  }

  // ---- what is said in passing

  say(text, { canUndo = false, isQuiet = false } = {}) {
    document.getElementById("live").textContent = text;
    this.#hideToast();
    if (isQuiet) return;
    const part = document.getElementById("toast");
    const undo = h("button", { type: "button", onclick: () => this.undo(), title: t("undo_hint") }, t("undo"));
    draw(part, h("p", {}, text), canUndo && undo);
    part.hidden = false;
    this.toast = {
      depth: canUndo ? this.works.undoable.length : undefined,
      timer: setTimeout(() => part.contains(document.activeElement) || this.#hideToast(), TOAST_MS),
    };
  }

  #hideToast() {
    clearTimeout(this.toast?.timer);
    this.toast = null;
    document.getElementById("toast").hidden = true;
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
    this.#hideToast();
    this.draw();
  }

  draw() {
    if (this.isHeld) return;
    this.#drawTrouble();
    document.getElementById("model").textContent = this.sending.model ? t("model", this.sending.model.model) : "";
    const { list } = this.works;
    document.body.classList.toggle("is-empty", list.length === 0);
    const title = h("h1", { class: "unseen" }, t("works_title"));
    draw(this.main, list.length ? [title, this.#toolbar(), this.#body(), leftOut(this)] : emptyView(this));
    if (document.getElementById("viewer").open) this.#drawViewer();
  }

  #body() {
    const { scored, isSettled, ordered } = this.works;
    if (isSettled && scored.length === 1) return oneView(this, scored[0], { canRemove: true });
    if (isSettled && scored.length === 2) return pairView(this, ...ordered.toSorted((a, b) => a.id - b.id), { canRemove: true });
    if (ordered.length < 3) return galleryView(this);
    if (this.view === "mine") return mineView(this);
    const pair = this.chosen.map((id) => this.works.find(id));
    if (this.view === "pair" && pair.every((work) => ordered.includes(work))) {
      const back = h("button", { type: "button", dataset: { key: "back" }, onclick: () => this.leavePair() }, icon("back"), t("back"));
      return [h("p", {}, back), pairView(this, ...pair, { canRemove: false })];
    }
    return galleryView(this);
  }

  #toolbar() {
    const { list, unfinished, scored, isSettled, ordered } = this.works;
    const isMany = ordered.length > 2;
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
        ordered.length > 0 && button("save", t("save"), () => this.save(), { disabled: !isSettled }),
        ordered.length > 0 && button("print", t("print"), () => this.askHeading(), { disabled: !isSettled }),
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
    history.pushState({ view: "viewer" }, "");
    this.#drawViewer();
    document.getElementById("viewer").showModal();
  }

  #drawViewer() {
    const viewer = document.getElementById("viewer");
    const known = new Set(this.works.ordered);
    const all = [...known, ...this.works.list.filter((work) => !known.has(work))];
    const row = all.findIndex((work) => work.id === this.viewed);
    if (row < 0) {
      viewer.close();
      return;
    }
    const entry = this.works.place.get(this.viewed);
    this.turn = (step) => {
      this.viewed = all[(row + step + all.length) % all.length].id;
      this.#drawViewer();
    };
    const button = (key, name, label, onclick) =>
      h("button", { type: "button", class: "quiet", "aria-label": label, title: label, dataset: { key }, onclick }, icon(name));
    const said = entry && h("p", { class: "place" }, h("strong", {}, place(entry.place)), h("span", {}, placeInWords(entry)));
    const printed = entry && h("button", { type: "button", dataset: { key: "print-one" }, onclick: () => this.askHeading([all[row]]) }, t("print"));
    draw(
      viewer,
      h(
        "div",
        { class: "viewer-bar" },
        button("previous", "back", t("previous"), () => this.turn(-1)),
        h("p", { id: "viewer-name", class: "name" }, all[row].name, h("span", { class: "count" }, ` ${number(row + 1)}/${number(all.length)}`)),
        button("next", "next", t("next"), () => this.turn(1)),
        button("close", "remove", t("close"), () => viewer.close()),
      ),
      oneView(this, all[row], { canRemove: false, extra: [said, printed] }),
    );
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
      const viewed = document.getElementById("viewer").open ? [this.works.find(this.viewed)] : null;
      fillSheet(this, (this.toPrint ?? viewed ?? this.#all()).filter((work) => work.result));
    });
    addEventListener("afterprint", () => (this.toPrint = null));
    addEventListener("beforeunload", (event) => this.works.list.length > 0 && event.preventDefault());
    addEventListener("popstate", () => {
      if (document.getElementById("viewer").open) document.getElementById("viewer").close();
      else if (this.view === "pair") this.#left();
    });
    document.getElementById("viewer").addEventListener("close", () => {
      if (history.state?.view === "viewer") history.back();
    });
  }

  #onKey(event) {
    const isTyping = event.target.matches?.("input[type=text], input[type=password], textarea");
    if (isTyping || document.getElementById("printing").open) return;
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const isIn = (part) => event.target.closest?.(part);
    if (document.getElementById("viewer").open) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && isPlain && !isIn(".pane, select")) this.turn(step);
      return;
    }
    // By the key's position too: with Korean input it gives another letter.
    const isKey = (letter) => event.key.toLowerCase() === letter || event.code === `Key${letter.toUpperCase()}`;
    const isCommand = (event.ctrlKey || event.metaKey) && !event.altKey;
    if (isCommand && (isKey("y") || (isKey("z") && event.shiftKey))) this.redo();
    else if (isCommand && isKey("z")) this.undo();
    else if (isPlain && isKey("u") && isIn("main") && !isIn("select")) this.undo();
    else if (isPlain && event.key === "Delete" && isIn(".card, .problem")) this.remove([this.works.find(Number(isIn(".card, .problem").dataset.work))]);
    else if (isPlain && event.key === "Escape" && this.view === "pair") this.leavePair();
    else return;
    event.preventDefault();
  }
}

new Page().start();
