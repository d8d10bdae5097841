// Keeps images at hand: asks for more before they run out, renews what is held, and waits where there are none.

import { Refused } from "./api.js";
import { uuid } from "./uuid.js";

const LOW = 10;
const FULL = 20;
const GRID = 24;
const GRIDS = 2; // one to look at, one that loads meanwhile
const WAITING = 5_000;
const HAVING = 20_000;
const HIDDEN = 60_000;

export class Supply {
  kind = "single"; // or "grid": what the person works on
  #api;
  #trail;
  #outbox;
  #shelf;
  #on;
  #tab = `held ${uuid()}`;
  #phase = null;
  #asking = { single: false, grid: false };
  #restUntil = 0; // the server had fewer images than asked for
  #timer;

  constructor({ api, trail, outbox, shelf, ...on }) {
    this.#api = api;
    this.#trail = trail;
    this.#outbox = outbox;
    this.#shelf = shelf;
    this.#on = on; // onItems(kind, items), onTrouble(message)
    const elsewhere = new Set(this.#ofOtherTabs(Date.now())); // a tab made by copying another starts with the same images
    trail.keepOpen((shot) => !elsewhere.has(shot.item.id));
    this.#publish();
    document.addEventListener("visibilitychange", () => document.hidden || this.beat());
    window.addEventListener("pagehide", () => shelf.remove(this.#tab));
    window.addEventListener("pageshow", () => this.#publish());
  }

  async beat() {
    clearTimeout(this.#timer);
    this.#outbox.send();
    if (this.kind === "grid") this.refillGrids();
    await this.#attempt(() => (this.#isDue() ? this.#ask("single") : this.#api.state()));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.beat(), this.#pause());
  }

  follow(phase) {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#restUntil = 0;
    this.refill();
  }

  refill() {
    if (this.#isLow() && Date.now() > this.#restUntil) this.#attempt(() => this.#ask("single"));
  }

  refillGrids() {
    if (this.#phase === "labeling" && this.#trail.grids.length < GRIDS) this.#attempt(() => this.#ask("grid"));
  }

  async #attempt(work) {
    try {
      await work();
    } catch (error) {
      if (error instanceof Refused) this.#on.onTrouble(error.message);
    }
  }

  #isLow() {
    return this.#phase === "labeling" && this.#trail.queue.length < LOW;
  }

  #isDue() {
    const halfGone = (shot) => shot.until < Date.now() + shot.item.lease_seconds * 500;
    return !document.hidden && (this.#isLow() || this.#trail.open.some(halfGone));
  }

  #pause() {
    if (document.hidden) return HIDDEN;
    const atHand = this.kind === "grid" ? this.#trail.grids : this.#trail.queue;
    if (!atHand.length) return WAITING;
    return Math.min(HAVING, ...this.#trail.open.map((shot) => shot.item.lease_seconds * 250));
  }

  async #ask(kind) {
    if (this.#asking[kind]) return;
    this.#asking[kind] = true;
    try {
      const asked = Date.now();
      const mine = this.#trail.open.filter((shot) => shot.until > asked).map((shot) => shot.item.id);
      const held = [...new Set([...mine, ...this.#unsent(), ...this.#ofOtherTabs(asked)])];
      const count = kind === "grid" ? GRID : Math.max(0, FULL - this.#trail.queue.length);
      const { items } = await this.#api.next(count, held, kind === "grid");
      this.#trail.keepOpen((shot) => shot.until > asked);
      this.#trail.renew(mine);
      this.#take(items, kind);
      if (kind === "single" && items.length < count) this.#restUntil = Date.now() + WAITING;
    } finally {
      this.#asking[kind] = false;
    }
  }

  // What was asked for a moment ago may have been answered, or have come another way, since.
  #take(items, kind) {
    const here = new Set([...this.#trail.open.map((shot) => shot.item.id), ...this.#unsent()]);
    this.#trail.add(items.filter((item) => !here.has(item.id)), kind === "grid");
    this.#publish();
    this.#on.onItems(kind, items);
  }

  #unsent() {
    return this.#outbox.waiting.filter((entry) => entry.id).map((entry) => entry.id);
  }

  // Says to the other tabs of this browser which images this one holds.
  #publish() {
    const open = this.#trail.open;
    this.#shelf.write(this.#tab, { ids: open.map((shot) => shot.item.id), until: Math.max(0, ...open.map((shot) => shot.until)) });
  }

  #ofOtherTabs(now) {
    const others = this.#shelf.names("held ").filter((name) => name !== this.#tab);
    return others.flatMap((name) => {
      const { ids, until } = this.#shelf.read(name) ?? { until: 0 };
      if (until > now) return ids;
      this.#shelf.remove(name);
      return [];
    });
  }
}
