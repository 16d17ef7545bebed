// Photos in frames that can be zoomed and moved, one alone or several together. While they are locked, each movement is
// made in all frames; what one was shifted against the others before stays as it is.

const MOST = 16;
const STEP = 1.25;
const MOVE_PX = 40;

export class Zoom {
  // For so many frames; `refs` are what Preact gives their elements to.
  constructor(n) {
    this.locked = true;
    this.last = 0; // the frame that was used last
    this.panes = Array(n).fill(null);
    this.views = this.panes.map(() => ({ scale: 1, x: 0, y: 0 }));
    this.refs = this.panes.map((_, index) => (pane) => {
      this.panes[index] = pane;
      if (!pane) return;
      this.#listen(pane, index);
      this.#show(index);
    });
  }

  // Zoom by a factor about a point of a frame, in pixels from its middle.
  zoom(index, factor, x = 0, y = 0) {
    const moved = this.#moved(index);
    const scales = moved.map((each) => this.views[each].scale);
    const real = Math.max(1 / Math.min(...scales), Math.min(MOST / Math.max(...scales), factor));
    for (const each of moved) {
      const view = this.views[each];
      view.x = x + real * (view.x - x);
      view.y = y + real * (view.y - y);
      view.scale *= real;
      this.#show(each);
    }
  }

  // Move by pixels, no further than that the middle of each photo's edge stays in its frame.
  move(index, dx, dy) {
    const moved = this.#moved(index);
    const within = (by, axis, size) =>
      moved.reduce((least, each) => {
        const most = (this.views[each].scale * (this.panes[each]?.[size] || Infinity)) / 2;
        const at = this.views[each][axis];
        return by > 0 ? Math.min(least, Math.max(0, most - at)) : Math.max(least, Math.min(0, -most - at));
      }, by);
    const [x, y] = [within(dx, "x", "clientWidth"), within(dy, "y", "clientHeight")];
    for (const each of moved) {
      this.views[each].x += x;
      this.views[each].y += y;
      this.#show(each);
    }
  }

  fit() {
    this.views.forEach((view, index) => {
      Object.assign(view, { scale: 1, x: 0, y: 0 });
      this.#show(index);
    });
  }

  step(index, direction) {
    this.zoom(index, STEP ** direction);
  }

  #moved(index) {
    return this.locked ? [...this.views.keys()] : [index];
  }

  #show(index) {
    const { scale, x, y } = this.views[index];
    const pane = this.panes[index];
    if (!pane) return;
    pane.classList.toggle("zoomed", scale > 1);
    pane.querySelector("img").style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    pane.dataset.view = [scale, x, y].map((value) => value.toFixed(2)).join(" ");
  }

  #listen(pane, index) {
    const pointers = new Map();
    const fromMiddle = (x, y) => {
      const box = pane.getBoundingClientRect();
      return [x - box.left - box.width / 2, y - box.top - box.height / 2];
    };
    pane.addEventListener("focus", () => (this.last = index));
    pane.addEventListener("pointerdown", (event) => {
      this.last = index;
      if (event.button !== 0) return;
      pointers.set(event.pointerId, event);
      if (event.pointerType === "mouse") {
        pane.setPointerCapture(event.pointerId);
        pane.focus({ preventScroll: true });
        event.preventDefault();
      }
    });
    pane.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const others = [...pointers.values()].filter((other) => other.pointerId !== event.pointerId);
      if (others.length === 0) {
        if (event.pointerType === "mouse" || this.views[index].scale > 1) {
          this.move(index, event.clientX - before.clientX, event.clientY - before.clientY);
        }
      } else {
        const [other] = others;
        const apart = (point) => Math.hypot(point.clientX - other.clientX, point.clientY - other.clientY) || 1;
        const middle = fromMiddle((event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
        this.zoom(index, apart(event) / apart(before), ...middle);
        this.move(index, (event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
      }
      pointers.set(event.pointerId, event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pane.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    pane.addEventListener(
      "wheel",
      (event) => {
        const isMeant = event.ctrlKey || event.metaKey || document.activeElement === pane;
        if (!isMeant) return; // the page scrolls
        event.preventDefault();
        this.zoom(index, Math.exp(-event.deltaY / 400), ...fromMiddle(event.clientX, event.clientY));
      },
      { passive: false },
    );
    pane.addEventListener("keydown", (event) => {
      const does = {
        ArrowLeft: () => this.move(index, MOVE_PX, 0),
        ArrowRight: () => this.move(index, -MOVE_PX, 0),
        ArrowUp: () => this.move(index, 0, MOVE_PX),
        ArrowDown: () => this.move(index, 0, -MOVE_PX),
        "+": () => this.step(index, 1),
        "=": () => this.step(index, 1),
        "-": () => this.step(index, -1),
        0: () => this.fit(),
      }[event.key];
      if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      does();
    });
  }
}
