// The classes as buttons, each with its key, and the search among them.

import { CLASS_KEYS, assignKeys } from "./keys.js";
import { element, quoted } from "./words.js";

const FEW = 10; // so many are found at a glance: the search opens only when asked for

export class Classes {
  #shelf;
  #on;
  #list = document.getElementById("classes");
  #search = document.getElementById("search");
  #none = document.getElementById("no-class");
  #names = new Map();
  #buttons = new Map();
  #keys = new Map();
  #letters = null;
  #shown = []; // numbers, as listed
  #active = -1; // place in shown

  constructor({ shelf, ...on }) {
    this.#shelf = shelf;
    this.#on = on; // onPick(number), onAnnounce(text)
    this.#search.addEventListener("input", () => this.#filter());
    this.#search.addEventListener("keydown", (event) => this.#steer(event));
    this.#search.addEventListener("blur", () => this.#search.value || this.#toggleSearch());
  }

  update(classes) {
    const isSame = classes.length === this.#names.size && classes.every(({ number, name }) => this.#names.get(number) === name);
    if (isSame) return;
    this.#names = new Map(classes.map(({ number, name }) => [number, name]));
    this.#keys = assignKeys(classes, this.#withLetters(classes.length));
    for (const { number } of classes) this.#dress(this.#button(number), number);
    this.#filter();
    this.#toggleSearch();
  }

  // Once a class has a letter it keeps it, however many classes join.
  #withLetters(count) {
    this.#letters ??= this.#shelf.read("letters") ?? count <= CLASS_KEYS.length;
    this.#shelf.write("letters", this.#letters);
    return this.#letters;
  }

  name(number) {
    return this.#names.get(number)?.trim() || `class ${number}`;
  }

  withKey(key) {
    return [...this.#keys].find(([, assigned]) => assigned === key)?.[0];
  }

  mark(number) {
    for (const [other, button] of this.#buttons) {
      if (other === number) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  openSearch(text) {
    this.#search.parentElement.hidden = false;
    this.#search.focus();
    this.#search.value = text;
    this.#filter();
  }

  #toggleSearch() {
    this.#search.parentElement.hidden = this.#names.size <= FEW && document.activeElement !== this.#search;
  }

  #button(number) {
    if (!this.#buttons.has(number)) {
      const button = element("button", "class");
      button.type = "button";
      button.addEventListener("click", () => this.#pick(number));
      this.#buttons.set(number, button);
    }
    return this.#buttons.get(number);
  }

  #dress(button, number) {
    const name = element("bdi", "name", this.name(number));
    const key = element("kbd", "", this.#keys.get(number)?.toUpperCase() ?? "");
    key.hidden = !this.#keys.has(number);
    if (this.#keys.has(number)) button.setAttribute("aria-keyshortcuts", this.#keys.get(number));
    button.title = this.name(number);
    button.replaceChildren(key, name);
  }

  #filter() {
    const wanted = plain(this.#search.value);
    const places = [...this.#names].map(([number, name]) => [number, plain(name).indexOf(wanted)]);
    const found = places.filter(([, place]) => place >= 0);
    if (wanted) found.sort(([, a], [, b]) => Math.sign(a) - Math.sign(b)); // those that begin with it first
    this.#shown = found.map(([number]) => number);
    this.#list.replaceChildren(...this.#shown.map((number) => item(this.#button(number))));
    this.#none.hidden = this.#shown.length > 0;
    this.#activate(wanted && this.#shown.length ? 0 : -1);
  }

  #activate(place) {
    for (const button of this.#list.querySelectorAll(".active")) button.classList.remove("active");
    this.#active = place;
    const button = this.#buttons.get(this.#shown[place]);
    if (!button) return;
    button.classList.add("active");
    button.scrollIntoView({ block: "nearest" });
    this.#on.onAnnounce(`${quoted(this.name(this.#shown[place]))}, ${place + 1} of ${this.#shown.length}`);
  }

  #steer(event) {
    if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    const most = this.#shown.length - 1;
    const actions = {
      ArrowDown: () => this.#activate(Math.min(most, this.#active + 1)),
      ArrowUp: () => this.#activate(Math.max(0, this.#active - 1)),
      Enter: () => event.repeat || this.#pick(this.#shown[this.#active]),
      Escape: () => this.#close(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  #close() {
    this.#clear();
    this.#search.blur();
  }

  #clear() {
    if (!this.#search.value) return;
    this.#search.value = "";
    this.#filter();
    this.#list.scrollTop = 0;
  }

  #pick(number) {
    if (number === undefined) return;
    this.#clear();
    if (this.#names.size <= FEW) this.#search.blur();
    this.#on.onPick(number);
  }
}

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim();

function item(button) {
  const made = document.createElement("li");
  made.append(button);
  return made;
}
