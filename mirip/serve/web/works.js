// The works on the page, the model's order of them, and the teacher's own. All of it is gone when the page is closed.

const MOST_UNDONE = 100;

export class Works extends EventTarget {
  constructor() {
    super();
    this.list = []; // as they were added
    this.ranking = null; // of those that have a score
    this.mine = []; // groups of ids, the best first; those of a group share a place
    this.isMine = false; // whether the teacher has changed the order
    this.undoable = [];
    this.redoable = [];
    this.place = new Map(); // of the ranking, by ids
    this.nextId = 1;
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  get scored() {
    return this.list.filter((work) => work.state === "scored");
  }

  get problems() {
    return this.list.filter((work) => work.state === "problem");
  }

  get unfinished() {
    return this.list.filter((work) => work.state === "waiting" || work.state === "sending");
  }

  find(id) {
    return this.list.find((work) => work.id === id);
  }

  // Add files; return those works, and how many are here already and how many are too many.
  add(files, most) {
    const known = new Set(this.list.map((work) => identity(work.file)));
    const fresh = [];
    let already = 0;
    let surplus = 0;
    for (const file of files) {
      if (known.has(identity(file))) already += 1;
      else if (this.list.length + fresh.length >= most) surplus += 1;
      else {
        known.add(identity(file));
        const name = distinctName(file.path || file.webkitRelativePath || file.name, [...this.list, ...fresh]);
        fresh.push({ id: this.nextId++, file, name, state: "waiting", result: null, problem: null, tier: "" });
      }
    }
    if (fresh.length) {
      this.#remember();
      this.list = [...this.list, ...fresh];
    }
    this.changed();
    return { fresh, already, surplus };
  }

  settle(work, { result, problem }) {
    Object.assign(work, { result, problem, state: result ? "scored" : "problem" });
    this.changed();
  }

  // Score a work once more.
  again(work) {
    Object.assign(work, { state: "waiting", problem: null });
    this.changed();
  }

  // The model's order, of works that have a score: what the server said of their scores, by their ids. It stays until there
  // is a new one, though works may have come and gone meanwhile.
  rank(works, context, answer) {
    const ids = works.map((work) => work.id);
    this.ranking = {
      key: rankingKey(works),
      context,
      leastConfidence: answer.min_confidence,
      bands: answer.bands,
      order: answer.order.map((entry) => ({ ...entry, id: ids[entry.index] })),
      percentiles: new Map(answer.percentiles.map((percentile, index) => [ids[index], percentile])),
      chances: new Map(answer.pairs.map((pair) => [`${ids[pair.a]} ${ids[pair.b]}`, pair.p_a_is_better])),
    };
    this.place = new Map(this.ranking.order.map((entry) => [entry.id, entry]));
    this.#arrangeMine();
    this.changed();
  }

  get isRanked() {
    return this.ranking !== null && this.ranking.key === rankingKey(this.scored);
  }

  // Whether all that can be said of the works has been said.
  get isSettled() {
    return !this.unfinished.length && (this.isRanked || !this.scored.length);
  }

  // The works that the model has put in order, in this order.
  get ordered() {
    return (this.ranking?.order ?? []).map((entry) => this.find(entry.id)).filter((work) => work?.state === "scored");
  }

  // The percentile of a work and its range, within the context of the ranking.
  percentile(work) {
    return this.ranking.percentiles.get(work.id);
  }

  // P(a is better than b), of the model.
  chance(a, b) {
    const known = this.ranking.chances.get(`${a.id} ${b.id}`);
    return known ?? 1 - this.ranking.chances.get(`${b.id} ${a.id}`);
  }

  isTooClose(a, b) {
    const chance = this.chance(a, b);
    return Math.max(chance, 1 - chance) < this.ranking.leastConfidence;
  }

  // Places, from 1, whose works cannot be told from this one.
  tooCloseTo(work) {
    return this.ordered.flatMap((other) => (other !== work && this.isTooClose(work, other) ? [this.place.get(other.id).place] : []));
  }

  // ---- changes that can be undone

  #now() {
    const list = this.list.map((work) => ({ work, tier: work.tier }));
    return { list, mine: this.mine.map((group) => [...group]), isMine: this.isMine };
  }

  #remember() {
    this.undoable.push(this.#now());
    if (this.undoable.length > MOST_UNDONE) this.undoable.shift();
    this.redoable = [];
  }

  undo() {
    return this.#exchange(this.undoable, this.redoable);
  }

  redo() {
    return this.#exchange(this.redoable, this.undoable);
  }

  // Go to the last state of one list, and keep the present one in the other.
  #exchange(from, to) {
    const state = from.pop();
    if (!state) return false;
    to.push(this.#now());
    const kept = new Set(state.list.map(({ work }) => work));
    for (const work of this.list) if (!kept.has(work)) this.#take(work);
    this.list = state.list.map(({ work, tier }) => Object.assign(work, { tier, removed: false }));
    this.mine = state.mine;
    this.isMine = state.isMine;
    this.#arrangeMine();
    this.changed();
    return true;
  }

  #take(work) {
    work.removed = true;
    work.abort?.();
  }

  remove(works) {
    this.#remember();
    for (const work of works) this.#take(work);
    this.list = this.list.filter((work) => !work.removed);
    if (!this.list.length) {
      this.mine = [];
      this.isMine = false; // the next works are another class
    }
    this.#arrangeMine();
    this.changed();
  }

  setTier(work, tier) {
    this.#remember();
    work.tier = tier;
    this.changed();
  }

  // ---- the teacher's order

  // Return the place of a work in it, from 1; works that share a place take as many places as they are.
  myPlace(work) {
    let place = 1;
    for (const group of this.mine) {
      if (group.includes(work.id)) return place;
      place += group.length;
    }
    return null;
  }

  get mineFlat() {
    return this.mine.flat().filter((id) => this.place.has(id)).map((id) => this.find(id));
  }

  move(work, step) {
    const at = this.#groupOf(work);
    const shares = this.mine[at].length > 1;
    const to = at + step;
    if (!shares && (to < 0 || to >= this.mine.length)) return;
    this.#edit(() => {
      if (shares) {
        this.mine[at] = this.mine[at].filter((id) => id !== work.id);
        this.mine.splice(step < 0 ? at : at + 1, 0, [work.id]);
      } else {
        this.mine.splice(at, 1);
        this.mine.splice(to, 0, [work.id]);
      }
    });
  }

  // Put a work at a row of the whole list; in the middle of works that share a place it shares it too.
  moveTo(work, row) {
    this.#edit(() => {
      this.mine = this.mine.map((group) => group.filter((id) => id !== work.id)).filter((group) => group.length);
      let start = 0;
      for (const [index, group] of this.mine.entries()) {
        if (row <= start) {
          this.mine.splice(index, 0, [work.id]);
          return;
        }
        if (row < start + group.length) {
          group.splice(row - start, 0, work.id);
          return;
        }
        start += group.length;
      }
      this.mine.push([work.id]);
    });
  }

  isTied(work) {
    return this.mine[this.#groupOf(work)].indexOf(work.id) > 0;
  }

  // Let a work share the place of the one above it, or no longer.
  toggleTie(work) {
    const at = this.#groupOf(work);
    const within = this.mine[at].indexOf(work.id);
    if (within === 0 && at === 0) return;
    this.#edit(() => {
      if (within > 0) {
        const rest = this.mine[at].splice(within);
        this.mine.splice(at + 1, 0, rest);
      } else {
        this.mine[at - 1].push(...this.mine[at]);
        this.mine.splice(at, 1);
      }
    });
  }

  resetMine() {
    this.#remember();
    this.mine = [];
    this.isMine = false;
    this.#arrangeMine();
    this.changed();
  }

  // Pairs that the teacher puts one way and of which the model is sure the other way, the surest first.
  get disagreements() {
    const rows = this.mineFlat;
    const places = rows.map((work) => this.myPlace(work));
    const found = [];
    for (let a = 0; a < rows.length; a += 1) {
      for (let b = a + 1; b < rows.length; b += 1) {
        if (places[a] === places[b]) continue;
        const against = 1 - this.chance(rows[a], rows[b]);
        if (against >= this.ranking.leastConfidence) found.push({ better: rows[a], worse: rows[b], against });
      }
    }
    return found.sort((one, other) => other.against - one.against);
  }

  #groupOf(work) {
    return this.mine.findIndex((group) => group.includes(work.id));
  }

  #edit(change) {
    this.#remember();
    change();
    this.isMine = true;
    this.changed();
  }

  // Keep to the works that are there: a new one goes before the first that the model puts behind it.
  #arrangeMine() {
    if (!this.isRanked) {
      const here = new Set(this.list.map((work) => work.id));
      this.mine = this.mine.map((group) => group.filter((id) => here.has(id))).filter((group) => group.length);
      return;
    }
    const order = this.ranking.order.map((entry) => entry.id);
    if (!this.isMine) {
      this.mine = order.map((id) => [id]);
      return;
    }
    const here = new Set(order);
    this.mine = this.mine.map((group) => group.filter((id) => here.has(id))).filter((group) => group.length);
    const placed = new Set(this.mine.flat());
    for (const [row, id] of order.entries()) {
      if (placed.has(id)) continue;
      const behind = new Set(order.slice(row + 1));
      const at = this.mine.findIndex((group) => group.some((other) => behind.has(other)));
      this.mine.splice(at < 0 ? this.mine.length : at, 0, [id]);
      placed.add(id);
    }
  }
}

// Two files of one name, from two folders, must be told apart.
function distinctName(name, works) {
  const taken = new Set(works.map((work) => work.name));
  let found = name;
  for (let n = 2; taken.has(found); n += 1) found = `${name} (${n})`;
  return found;
}

function identity(file) {
  return [file.path || file.webkitRelativePath || file.name, file.size, file.lastModified].join("\n");
}

export function rankingKey(works) {
  return works.map((work) => `${work.id}:${work.result.score}`).join(" ");
}
