// Many images of one guessed class at once: those that are not of it are marked, one key confirms the rest.

import { element, plural, quoted } from "./words.js";

const GLANCE = 600; // milliseconds that new images are on view before they can be confirmed

export class Grid {
  #on;
  #heading = document.getElementById("grid-heading");
  #hint = document.getElementById("grid-hint");
  #list = document.getElementById("grid-images");
  #confirm = document.getElementById("grid-confirm");
  #name = "";
  #cells = [];
  #since = 0;

  constructor(on) {
    this.#on = on; // onConfirm(right, wrong)
    this.#confirm.addEventListener("click", () => this.confirm());
  }

  show(shots, name) {
    const isSame = shots.length === this.#cells.length && shots.every((shot, i) => shot === this.#cells[i].shot);
    if (isSame) return;
    this.#since = performance.now();
    this.#cells = shots.map((shot) => this.#cell(shot));
    this.#list.replaceChildren(...this.#cells.map((cell) => cell.place));
    this.#heading.textContent = `Is each of these ${quoted(name)}?`;
    this.#hint.hidden = this.#confirm.hidden = !shots.length;
    this.#name = name;
    this.#count();
    if (this.#cells.length) this.#cells[0].button.focus();
  }

  showNone() {
    this.show([], "");
    this.#heading.textContent = "Looking for images with a guess in common";
  }

  #cell(shot) {
    const button = element("button", "cell");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const image = new Image();
    image.alt = shot.item.id;
    const cell = { shot, button, place: element("li"), state: "loading" };
    image.addEventListener("load", () => this.#settle(cell, "ready"));
    image.addEventListener("error", () => this.#settle(cell, "failed"));
    image.src = shot.item.thumb;
    button.append(image, element("span", "mark", "not this"));
    button.addEventListener("click", () => this.#toggle(cell));
    cell.place.append(button);
    return cell;
  }

  // A picture that nobody saw is not confirmed with the others.
  #settle(cell, state) {
    cell.state = state;
    if (state === "failed") {
      cell.button.setAttribute("aria-pressed", "true");
      cell.button.querySelector(".mark").textContent = "does not load";
    }
    this.#count();
  }

  #isWrong(cell) {
    return cell.button.getAttribute("aria-pressed") === "true";
  }

  #toggle(cell) {
    if (cell.state === "failed") return;
    cell.button.setAttribute("aria-pressed", String(!this.#isWrong(cell)));
    this.#count();
  }

  #count() {
    const wrong = this.#cells.filter((cell) => this.#isWrong(cell)).length;
    const right = this.#cells.length - wrong;
    const text = right ? `Confirm ${right} as ${quoted(this.#name)}` : `Take ${wrong === 1 ? "it" : `all ${wrong}`} one by one`;
    this.#confirm.querySelector(".what").textContent = text;
    this.#hint.textContent = wrong ? `${plural(wrong, "image")} marked: to be looked at one by one.` : "Mark those that are something else.";
  }

  get #isSeen() {
    return performance.now() - this.#since > GLANCE && this.#cells.every((cell) => cell.state !== "loading");
  }

  confirm() {
    if (!this.#cells.length || !this.#isSeen) return;
    const wrong = this.#cells.filter((cell) => this.#isWrong(cell)).map((cell) => cell.shot);
    const right = this.#cells.filter((cell) => !this.#isWrong(cell)).map((cell) => cell.shot);
    this.#on.onConfirm(right, wrong);
  }

  move(key) {
    const at = this.#cells.findIndex((cell) => cell.button === document.activeElement);
    const top = this.#cells[0]?.place.offsetTop;
    const columns = this.#cells.filter((cell) => cell.place.offsetTop === top).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const to = at < 0 ? 0 : at + step;
    this.#cells[to]?.button.focus();
  }
}
