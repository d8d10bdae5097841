// Sends the ledger's entries in order, in batches, until the server has them all.

import { Refused, SignedOut, Unreachable } from "./api.js";
import { exclusively } from "./exclusively.js";
import { settled } from "./ledger.js";

const BATCH = 100;
const LONGEST_WAIT = 30_000;
const UNACCEPTABLE = [400, 409, 413, 422]; // the server read the request and will never take it

export class Outbox {
  #api;
  #ledger;
  #shelf;
  #on;
  #sending = false;
  #timer;
  #failures = 0;
  #most = BATCH;

  constructor({ api, ledger, shelf, ...on }) {
    this.#api = api;
    this.#ledger = ledger;
    this.#shelf = shelf;
    this.#on = on; // onChange(), onResult(entry, result), onTrouble(message)
  }

  add(entries) {
    for (const entry of entries) this.#ledger.add(entry);
    this.#on.onChange();
    this.send();
  }

  get waiting() {
    return settled(this.#ledger.entries());
  }

  async send() {
    if (this.#sending) return;
    clearTimeout(this.#timer);
    this.#sending = true;
    try {
      while (this.#ledger.entries().length) await exclusively("mcdal sends", this.#shelf, () => this.#sendOne());
      this.#most = BATCH;
    } catch (error) {
      this.#failed(error);
    }
    this.#sending = false;
    this.#on.onChange();
  }

  async #sendOne() {
    const batch = this.#batch();
    if (!batch.length) return;
    this.#ledger.markTried(batch);
    try {
      await (batch[0].of ? this.#sendUndo(batch[0]) : this.#sendAnswers(batch));
      this.#failures = 0;
    } catch (error) {
      if (!UNACCEPTABLE.includes(error.status)) throw error;
      this.#divide(batch, error);
    }
    this.#on.onChange();
  }

  #batch() {
    const all = this.#ledger.entries();
    const waiting = settled(all);
    const names = new Set(waiting.map((entry) => entry.name));
    this.#ledger.remove(all.filter((entry) => !names.has(entry.name)));
    if (waiting[0]?.of) return waiting.slice(0, 1);
    const undo = waiting.findIndex((entry) => entry.of);
    const most = this.#ledger.failing ? 1 : this.#most;
    return waiting.slice(0, Math.min(most, undo < 0 ? most : undo));
  }

  async #sendUndo(entry) {
    const result = await this.#api.undo(entry.key, entry.of);
    this.#done(entry, result);
  }

  async #sendAnswers(batch) {
    const answers = batch.map(({ key, id, verdict, value, seconds }) => ({ key, id, verdict, value, seconds }));
    const { results } = await this.#api.answers(answers);
    const byKey = new Map(results.map((result) => [result.key, result]));
    const told = batch.filter((entry) => byKey.has(entry.key));
    if (!told.length) throw new Unreachable(); // nothing to go by: not at once again
    for (const entry of told) this.#done(entry, byKey.get(entry.key));
  }

  // One answer that the server cannot take must not hold up the others.
  #divide(batch, error) {
    if (batch.length > 1) this.#most = 1;
    else this.#done(batch[0], { status: "refused", message: error.message });
  }

  #done(entry, result) {
    this.#ledger.remove([entry]);
    this.#on.onResult(entry, result);
  }

  #failed(error) {
    if (error instanceof SignedOut) return; // the next beat of the page finds out whether somebody signed in again
    if (!(error instanceof Unreachable)) this.#on.onTrouble(error instanceof Refused ? error.message : String(error));
    const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.send(), wait * (0.75 + Math.random() / 4));
  }
}
