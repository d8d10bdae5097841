// Loads and decodes pictures before they are looked at.

export class Pictures {
  #kept = new Map();
  #onSettled;

  constructor(onSettled) {
    this.#onSettled = onSettled;
  }

  // Loads these, the first before the others, and lets go of all else.
  keep(items) {
    const wanted = new Set(items.map((item) => item.image));
    for (const address of this.#kept.keys()) if (!wanted.has(address)) this.#kept.delete(address);
    items.forEach((item, place) => this.of(item, place));
  }

  of(item, place = 0) {
    if (!this.#kept.has(item.image)) this.#kept.set(item.image, this.#load(item, place));
    return this.#kept.get(item.image);
  }

  retry(item) {
    this.#kept.delete(item.image);
    return this.of(item);
  }

  retryFailed() {
    for (const [address, picture] of this.#kept) if (picture.state === "failed") this.#kept.delete(address);
  }

  #load(item, place) {
    const element = new Image();
    element.alt = item.id;
    element.draggable = false;
    element.fetchPriority = place === 0 ? "high" : "low";
    const picture = { element, state: "loading" };
    const settle = (state) => {
      picture.state = state;
      this.#onSettled(item);
    };
    element.src = item.image;
    element.decode().then(() => settle("ready"), () => settle("failed"));
    return picture;
  }
}
