// Sends works to the server, a few at a time, and asks for their order when all have an answer. Where the server is
// away, busy or wants a key, nothing is lost: the works wait, and it is tried again.

import * as api from "./api.js";
import { rankingKey } from "./works.js";

const AT_ONCE = 4;
const LONGEST_WAIT_S = 15;
const USUAL_LIMITS = { image_bytes: 20 * 2 ** 20, rank_images: 100 }; // until the server has said its own
// Errors that say something of one image alone, so that the others go on.
const PROBLEM_OF_AN_IMAGE = { 408: "too_slow", 413: "too_large", 415: "other", 422: "other", 504: "too_slow" };

export class Sending extends EventTarget {
  constructor(works) {
    super();
    this.works = works;
    this.model = null; // what the server says of it
    this.context = "";
    this.trouble = null; // {kind: away | starting | busy | key | failed, detail}
    this.running = 0;
    this.asking = false;
    this.tries = 0;
    this.refused = null; // the scores that could not be put in order
    this.timer = null;
  }

  get limits() {
    return this.model?.limits ?? USUAL_LIMITS;
  }

  // Go on with what waits; called whenever something may have to be done.
  go() {
    if (this.timer !== null || this.trouble?.kind === "key") return;
    if (!this.model) {
      this.#askModel();
      return;
    }
    for (const work of this.works.list) {
      if (this.running >= AT_ONCE) break;
      if (work.state === "waiting") this.#send(work);
    }
    const { unfinished, scored, isRanked, ranking } = this.works;
    const isKnown = isRanked && ranking.context === this.context;
    if (!unfinished.length && scored.length && !isKnown && this.refused !== rankingKey(scored)) this.#askOrder();
  }

  // Try again at once, as when somebody presses the button.
  retry() {
    this.refused = null;
    clearTimeout(this.timer);
    this.timer = null;
    this.#setTrouble(null);
    this.go();
  }

  useKey(key) {
    api.useKey(key);
    this.triedKey = true;
    this.retry();
  }

  // Give percentiles within another context; scores and order stay.
  useContext(context) {
    this.context = context;
    this.dispatchEvent(new Event("change"));
    this.go();
  }

  async #askModel() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.model = await api.describeModel();
      this.#setTrouble(null);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      this.#onError(error);
    }
    this.asking = false;
    if (this.model) this.go();
  }

  async #send(work) {
    if (work.file.size > this.limits.image_bytes) {
      this.works.settle(work, { result: null, problem: { kind: "too_large" } });
      return;
    }
    const controller = new AbortController();
    const abort = () => controller.abort();
    const isLatest = () => work.abort === abort; // and not sent once more meanwhile
    Object.assign(work, { abort, state: "sending" });
    this.running += 1;
    this.works.changed();
    try {
      const { result, problem } = await api.score(work.file, controller.signal);
      if (isLatest() && !controller.signal.aborted) this.works.settle(work, { result, problem });
      this.#setTrouble(null);
    } catch (error) {
      if (error.name === "AbortError" || !isLatest()) {
        if (isLatest()) work.state = "waiting";
      } else if (error.status in PROBLEM_OF_AN_IMAGE) {
        const problem = { kind: PROBLEM_OF_AN_IMAGE[error.status], problem: error.message };
        this.works.settle(work, { result: null, problem });
      } else {
        work.state = "waiting";
        this.#onError(error);
      }
    }
    if (isLatest()) work.abort = null;
    this.running -= 1;
    this.works.changed();
    this.go();
  }

  async #askOrder() {
    if (this.asking) return;
    this.asking = true;
    const { scored } = this.works;
    const { context } = this;
    try {
      const answer = await api.order(scored.map((work) => work.result.score), context);
      if (rankingKey(scored) === rankingKey(this.works.scored)) this.works.rank(scored, context, answer);
      this.#setTrouble(null);
    } catch (error) {
      this.#onError(error);
      if (this.timer === null) this.refused = rankingKey(scored); // it would be refused again
    }
    this.asking = false;
    this.go();
  }

  #onError(error) {
    if (!(error instanceof api.ServerError)) throw error;
    if (error.status === 401) {
      this.#setTrouble({ kind: "key", isWrong: Boolean(this.triedKey) });
      return;
    }
    const kind = { 0: "away", 429: "busy", 502: "away", 503: "starting" }[error.status] ?? "failed";
    this.#setTrouble({ kind, detail: error.message });
    if (this.timer !== null) return;
    if (kind === "failed" && error.status < 500) return;
    const wait = error.retryAfterS ?? Math.min(LONGEST_WAIT_S, 2 ** this.tries);
    this.tries += 1;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.go();
    }, wait * 1000);
  }

  #setTrouble(trouble) {
    if (trouble === null) this.tries = 0;
    if (trouble === null && this.timer !== null) return; // others wait still
    if (trouble?.kind === this.trouble?.kind && trouble?.isWrong === this.trouble?.isWrong) return;
    this.trouble = trouble;
    this.dispatchEvent(new Event("change"));
  }
}
