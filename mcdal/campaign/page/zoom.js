// Enlarges the picture on the stage: wheel, pinch, click or key; drag to move it; double click to reset.

const STEP = 2.5;
const MOST = 16;
const SLACK = 6; // pixels a click may wander

export class Zoom {
  #stage;
  #picture = null;
  #scale = 1;
  #x = 0; // of the picture's middle from the stage's
  #y = 0;
  #pointers = new Map();
  #moved = 0;

  constructor(stage) {
    this.#stage = stage;
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.#up(event));
    stage.addEventListener("dblclick", () => this.reset());
  }

  attach(picture) {
    this.#picture = picture;
    this.reset();
  }

  get isOn() {
    return this.#scale > 1;
  }

  toggle() {
    if (this.isOn) this.reset();
    else this.by(STEP);
  }

  reset() {
    this.#place(1, 0, 0);
  }

  // Keeps the point (x, y), measured from the stage's middle, where it is.
  by(factor, x = 0, y = 0) {
    const scale = Math.min(MOST, Math.max(1, this.#scale * factor));
    const grown = scale / this.#scale;
    this.#place(scale, x - (x - this.#x) * grown, y - (y - this.#y) * grown);
  }

  pan(x, y) {
    this.#place(this.#scale, this.#x + x, this.#y + y);
  }

  #place(scale, x, y) {
    const { clientWidth, clientHeight } = this.#stage;
    const most = (length) => (length * (scale - 1)) / 2;
    this.#scale = scale;
    this.#x = clamp(x, most(clientWidth));
    this.#y = clamp(y, most(clientHeight));
    this.#stage.classList.toggle("zoomed", this.isOn);
    if (this.#picture) this.#picture.style.transform = this.isOn ? `translate(${this.#x}px, ${this.#y}px) scale(${scale})` : "";
  }

  #fromMiddle(x, y) {
    const box = this.#stage.getBoundingClientRect();
    return [x - box.left - box.width / 2, y - box.top - box.height / 2];
  }

  #wheel(event) {
    if (!this.#picture) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.by(Math.exp(-event.deltaY * lines * 0.002), ...this.#fromMiddle(event.clientX, event.clientY));
  }

  #down(event) {
    if (!this.#picture || event.button !== 0 || event.target.closest("button")) return;
    this.#stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    if (this.#pointers.size === 1) this.#moved = 0;
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    this.#pointers.set(event.pointerId, event);
    this.#moved += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
    if (this.#pointers.size === 1) this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    else this.#pinch(before, event);
  }

  #pinch(before, now) {
    const other = [...this.#pointers.values()].find((pointer) => pointer.pointerId !== now.pointerId);
    const apart = (pointer) => Math.max(1, Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY));
    const middle = this.#fromMiddle((now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2);
    this.#moved = Infinity;
    this.pan((now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
    this.by(apart(now) / apart(before), ...middle);
  }

  #up(event) {
    const isLast = this.#pointers.delete(event.pointerId) && !this.#pointers.size;
    const isClick = isLast && event.type === "pointerup" && this.#moved < SLACK;
    if (isClick && !this.isOn) this.by(STEP, ...this.#fromMiddle(event.clientX, event.clientY));
  }
}

const clamp = (value, most) => Math.min(most, Math.max(-most, value));
