// One image: the picture, what it is and why it is here, what was said of it, and the model's guess.

import { element, percent, quoted } from "./words.js";

const TINY = 96; // pixels; enlarged to the whole stage, nobody could make these out

export class Single {
  shot = null;
  #pictures;
  #zoom;
  #classes;
  #stage = document.getElementById("stage");
  #loading = document.getElementById("loading");
  #failed = document.getElementById("failed");
  #why = document.getElementById("why");
  #picture = null;
  #sentences = null;

  constructor({ pictures, zoom, classes }) {
    this.#pictures = pictures;
    this.#zoom = zoom;
    this.#classes = classes;
  }

  show(shot, number, withGuess) {
    this.shot = shot;
    this.#showPicture(this.#pictures.of(shot.item));
    write("number", `Image ${number}`);
    write("image-id", shot.item.id);
    write("said", this.#said(shot));
    this.#showWhy(shot.item.why);
    this.#showGuess(withGuess ? shot.item.guess : null);
    this.#classes.mark(shot.answer?.verdict === "label" ? shot.answer.value : null);
  }

  get isVisible() {
    return this.#picture?.state === "ready";
  }

  words({ verdict, value }) {
    if (verdict === "label") return `labeled ${quoted(this.#classes.name(value))}`;
    return verdict === "skip" ? "skipped" : "cannot tell";
  }

  #said({ answer, earlier }) {
    if (answer?.refused) return `${this.words(answer)}, but not taken: ${answer.refused}`;
    if (answer) return this.words(answer);
    return earlier ? `taken back: ${this.words(earlier)}` : "";
  }

  #showPicture(picture) {
    const { element, state } = picture;
    this.#loading.hidden = state !== "loading";
    this.#failed.hidden = state !== "failed";
    if (picture === this.#picture && element.isConnected === (state === "ready")) return;
    this.#picture = picture;
    for (const image of this.#stage.querySelectorAll("img")) image.remove();
    this.#zoom.attach(state === "ready" ? element : null);
    if (state !== "ready") return;
    element.classList.toggle("tiny", Math.max(element.naturalWidth, element.naturalHeight) <= TINY);
    this.#stage.prepend(element);
  }

  #showWhy(sentences) {
    if (sentences === this.#sentences) return;
    this.#sentences = sentences;
    this.#why.classList.toggle("without", !sentences.length);
    this.#why.querySelector("ul").replaceChildren(...sentences.map((sentence) => element("li", "", sentence)));
  }

  #showGuess(guess) {
    document.getElementById("accept").hidden = !guess;
    document.getElementById("no-guess").hidden = Boolean(guess);
    if (!guess) return;
    const name = this.#classes.name(guess.class);
    document.getElementById("accept").title = name;
    write("guess-name", name);
    write("guess-confidence", percent(guess.confidence));
  }
}

function write(id, text) {
  document.getElementById(id).textContent = text;
}
