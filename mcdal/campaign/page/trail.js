// The images of this session: those answered, in order, and those to come, one by one or as grids.
// Kept for this tab, so that a reload neither loses images nor the way back.

const KEPT = 60; // answered images that survive a reload
const NAME = "trail";

export class Trail {
  done = [];
  queue = [];
  grids = []; // arrays of images
  before = 0; // answered images that a reload left behind
  at = null; // the answered image looked back at, as a place in done; null: the first of the queue
  #shelf;
  #order;

  constructor(shelf) {
    this.#shelf = shelf;
    const kept = shelf.read(NAME);
    if (kept) ({ done: this.done, queue: this.queue, grids: this.grids, before: this.before } = kept);
    this.#order = Math.max(0, ...this.done.map((shot) => shot.answer.order));
  }

  get current() {
    return this.at === null ? this.queue[0] : this.done[this.at];
  }

  get number() {
    return this.before + (this.at ?? this.done.length) + 1;
  }

  get grid() {
    return this.grids[0];
  }

  get open() {
    return [...this.queue, ...this.grids.flat()];
  }

  back() {
    const to = (this.at ?? this.done.length) - 1;
    if (to < 0) return false;
    this.at = to;
    return true;
  }

  forth() {
    if (this.at === null) return false;
    this.at = this.at + 1 < this.done.length ? this.at + 1 : null;
    return true;
  }

  // Answers given with one key press share a group, and are taken back together.
  answer(shots, answers) {
    this.#order += 1;
    shots.forEach((shot, i) => {
      shot.answer = { ...answers[i], order: this.#order, grid: shot.grid };
      shot.earlier = null;
      if (!this.done.includes(shot)) this.done.push(shot);
    });
    this.at = null;
    this.keepOpen((shot) => !shots.includes(shot));
  }

  // Takes back the last answer, or all of a grid's; returns the images it belonged to.
  takeBack() {
    const standing = this.done.filter((shot) => !shot.answer.refused);
    if (!standing.length) return [];
    const last = Math.max(...standing.map((shot) => shot.answer.order));
    const shots = standing.filter((shot) => shot.answer.order === last);
    this.done = this.done.filter((shot) => !shots.includes(shot));
    for (const shot of shots) {
      shot.earlier = shot.answer;
      shot.answer = null;
      shot.until = leased(shot.item);
    }
    if (shots[0].earlier.grid) this.grids.unshift(shots);
    else this.queue.unshift(...shots);
    this.at = null;
    this.save();
    return shots;
  }

  // The server did not take an answer back: it stands.
  restore(key) {
    const shot = this.open.find((open) => open.earlier?.key === key);
    if (shot) this.answer([shot], [shot.earlier]);
  }

  refuse(key, message) {
    const shot = this.done.find((one) => one.answer.key === key);
    if (!shot) return;
    shot.answer.refused = message;
    this.save();
  }

  // From a grid to one by one.
  single(shots) {
    for (const shot of shots) shot.grid = false;
    this.keepOpen((shot) => !shots.includes(shot));
    this.queue.unshift(...shots);
    this.save();
  }

  add(items, grid) {
    const shots = items.map((item) => ({ item, grid, until: leased(item), answer: null, earlier: item.given }));
    if (!grid) this.queue.push(...shots);
    else if (shots.length) this.grids.push(shots);
    this.save();
  }

  renew(ids) {
    const renewed = new Set(ids);
    for (const shot of this.open) if (renewed.has(shot.item.id)) shot.until = leased(shot.item);
    this.save();
  }

  // Lets go of the images that are not to be answered here, say because others may hold them by now.
  keepOpen(isKept) {
    this.queue = this.queue.filter(isKept);
    this.grids = this.grids.map((grid) => grid.filter(isKept)).filter((grid) => grid.length);
    this.save();
  }

  save() {
    const left = Math.max(0, this.done.length - KEPT);
    this.#shelf.write(NAME, { done: this.done.slice(left), queue: this.queue, grids: this.grids, before: this.before + left });
  }
}

const leased = (item) => Date.now() + item.lease_seconds * 1000;
