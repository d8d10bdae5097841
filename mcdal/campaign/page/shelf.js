// A part of the browser's storage for one person in one campaign. Storage may be missing, full or switched off.

export class Shelf {
  #area;
  #prefix;

  constructor(kind, campaign, person) {
    this.#area = areaOf(kind);
    this.#prefix = `mcdal ${JSON.stringify([campaign, person])} `;
  }

  read(name) {
    try {
      return JSON.parse(this.#area.getItem(this.#prefix + name));
    } catch {
      return null;
    }
  }

  write(name, value) {
    try {
      this.#area.setItem(this.#prefix + name, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  remove(name) {
    this.#area?.removeItem(this.#prefix + name);
  }

  names(start) {
    if (!this.#area) return [];
    const whole = this.#prefix + start;
    return Object.keys(this.#area)
      .filter((name) => name.startsWith(whole))
      .map((name) => name.slice(this.#prefix.length));
  }

  owns(key) {
    return key === null || key.startsWith(this.#prefix);
  }
}

function areaOf(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
