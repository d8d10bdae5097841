// The answers, and the answers taken back, that the server is not yet known to have on its disk.
// Each lies under a name of its own, so that tabs add and remove without overwriting each other.

const START = "outbox ";

export class Ledger {
  #shelf;
  #memory = new Map(); // what storage did not take
  #last;

  constructor(shelf) {
    this.#shelf = shelf;
    this.#last = Math.max(0, ...shelf.names(START).map((name) => Number(name.split(" ")[1])));
    this.failing = !shelf.write("probe", 1);
    shelf.remove("probe");
  }

  add(entry) {
    this.#last = Math.max(Date.now(), this.#last + 1);
    const name = `${START}${String(this.#last).padStart(15, "0")} ${entry.key}`;
    this.failing = !this.#shelf.write(name, { ...entry, tried: 0 });
    if (this.failing) this.#memory.set(name, { ...entry, tried: 0 });
  }

  entries() {
    const stored = this.#shelf.names(START).map((name) => ({ ...this.#shelf.read(name), name }));
    const kept = [...this.#memory].map(([name, entry]) => ({ ...entry, name }));
    return [...stored.filter((entry) => entry.key), ...kept].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  // To be called before an entry is sent: from then on the server may have it, whatever the answer.
  markTried(entries) {
    for (const { name, ...entry } of entries) {
      if (this.#memory.has(name)) this.#memory.set(name, { ...entry, tried: 1 });
      else this.#shelf.write(name, { ...entry, tried: 1 }); // of the same length as before: there is room
    }
  }

  remove(entries) {
    for (const { name } of entries) {
      this.#memory.delete(name);
      this.#shelf.remove(name);
    }
  }

  get onlyInMemory() {
    return this.#memory.size > 0;
  }
}

// Without the answers that were taken back before anybody tried to send them: the server need not know of these.
export function settled(entries) {
  const untried = new Set(entries.filter((entry) => !entry.of && !entry.tried).map((entry) => entry.key));
  const canceling = entries.filter((entry) => untried.has(entry.of));
  const gone = new Set(canceling.flatMap((entry) => [entry.key, entry.of]));
  return entries.filter((entry) => !gone.has(entry.key));
}
