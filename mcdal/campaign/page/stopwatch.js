// Seconds spent with the page in view.

export class Stopwatch {
  #spent = 0;
  #since = null;

  constructor() {
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.#resume()));
  }

  restart() {
    this.#spent = 0;
    this.#since = document.hidden ? null : performance.now();
  }

  get seconds() {
    const running = this.#since === null ? 0 : performance.now() - this.#since;
    return Math.round((this.#spent + running) / 10) / 100;
  }

  #pause() {
    this.#spent = this.seconds * 1000;
    this.#since = null;
  }

  #resume() {
    this.#since = performance.now();
  }
}
