// The page on which people label: binds the keys and buttons to the images at hand and to the outbox.

import { Api, SignedOut } from "./api.js";
import { Classes } from "./classes.js";
import { Grid } from "./grid.js";
import { pressed } from "./keys.js";
import { Ledger } from "./ledger.js";
import { announce, tell } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Pictures } from "./pictures.js";
import { showProgress } from "./progress.js";
import { Shelf } from "./shelf.js";
import { Single } from "./single.js";
import { Stopwatch } from "./stopwatch.js";
import { Supply } from "./supply.js";
import { Trail } from "./trail.js";
import { uuid } from "./uuid.js";
import { plural, quoted } from "./words.js";
import { Zoom } from "./zoom.js";

const AHEAD = 8; // pictures decoded before they are looked at
const STARTLE = 600; // milliseconds without answers after the image changed by itself
const QUIET = 300; // milliseconds before the indicator speaks of answers on their way
const PAN = 60;

const byId = (id) => document.getElementById(id);
const api = new Api({ onState: follow, onReach: reach, onSignedOut: signedOut });
let page = null; // what there is once the server has said who is here
let state = null;
let mode = "single";
let isOffline = false;
let isSignedOut = false;
let startledUntil = 0;
let timed; // the image, or the first of a grid, that the stopwatch runs for
let indicating;

function open(campaign, person) {
  const shelf = new Shelf("localStorage", campaign, person);
  const ledger = new Ledger(shelf);
  const trail = new Trail(new Shelf("sessionStorage", campaign, person));
  const pictures = new Pictures((item) => item === trail.current?.item && render());
  const zoom = new Zoom(byId("stage"));
  const classes = new Classes({ shelf, onPick: (number) => say("label", number), onAnnounce: announce });
  const single = new Single({ pictures, zoom, classes });
  const grid = new Grid({ onConfirm: confirmGrid });
  const outbox = new Outbox({ api, ledger, shelf, onChange: indicate, onResult: settle, onTrouble: tell });
  const supply = new Supply({ api, trail, outbox, shelf, onItems: receive, onTrouble: tell });
  const stopwatch = new Stopwatch();
  return { shelf, ledger, trail, pictures, zoom, classes, single, grid, outbox, supply, stopwatch };
}

// What the server says

function follow(heard) {
  const before = state?.phase;
  state = heard;
  isSignedOut = false;
  if (!page) {
    page = open(state.identity, state.person.name);
    byId("guess-on").checked = page.shelf.read("guess") ?? state.guesses;
  }
  const isOver = state.phase === "finished" || state.phase === "stopped";
  if (isOver && before !== state.phase) page.trail.keepOpen(() => false);
  showProgress(state);
  page.classes.update(state.classes);
  document.body.classList.toggle("without-guesses", !state.guesses);
  page.supply.follow(state.phase);
  indicate();
  render();
}

function reach(isReached) {
  const isBack = isOffline && isReached;
  isOffline = !isReached;
  indicate();
  if (!isBack || !page) return;
  page.outbox.send();
  page.pictures.retryFailed();
  render();
}

function signedOut() {
  isSignedOut = true;
  indicate();
}

function receive(kind, items) {
  const { trail, single } = page;
  if (kind === "grid") for (const item of items) new Image().src = item.thumb;
  if (kind === "single" && mode === "single" && !trail.queue.length && trail.grid) trail.single(trail.grid);
  if (single.shot && trail.at === null && single.shot.item.id !== trail.current?.item.id) {
    startledUntil = performance.now() + STARTLE;
    tell("The image was held for too long and went to others.");
  }
  render();
}

function settle(entry, { status, message }) {
  const { trail } = page;
  if (status === "refused") {
    if (entry.of) trail.restore(entry.of);
    else trail.refuse(entry.key, message);
    tell(entry.of ? `Not taken back: ${message}` : `${quoted(entry.id)}: ${message}`);
    render();
  } else if (entry.of) trail.renew(trail.open.filter((shot) => shot.earlier?.key === entry.of).map((shot) => shot.item.id));
}

// What the person says

function give(shots, verdict, values, seconds) {
  const { outbox, trail, supply, single } = page;
  const standing = shots.filter((shot) => shot.answer && !shot.answer.refused);
  const undos = standing.map((shot) => ({ key: uuid(), of: shot.answer.key }));
  const answers = shots.map((shot, i) => ({ key: uuid(), id: shot.item.id, verdict, value: values[i], seconds }));
  const number = trail.number;
  outbox.add([...undos, ...answers]);
  trail.answer(shots, answers);
  announce(shots.length > 1 ? `${plural(shots.length, "image")} ${single.words(answers[0])}` : `Image ${number}, ${single.words(answers[0])}`);
  supply.refill();
}

function say(verdict, value = null) {
  const { trail, single, stopwatch } = page;
  const shot = trail.current;
  if (mode !== "single" || !shot || performance.now() < startledUntil) return;
  if (verdict === "label" && !single.isVisible) return announce("The image is still loading.");
  shot.grid = false;
  give([shot], verdict, [value], stopwatch.seconds);
  render();
}

function accept() {
  const guess = page.trail.current?.item.guess;
  if (guess && showsGuess()) say("label", guess.class);
}

function undo() {
  const { trail, outbox, single } = page;
  const shots = trail.takeBack();
  if (!shots.length) return announce("There is nothing to take back.");
  outbox.add(shots.map((shot) => ({ key: uuid(), of: shot.earlier.key })));
  announce(`Taken back: ${single.words(shots[0].earlier)}`);
  setMode(shots[0].earlier.grid ? "grid" : "single");
}

function confirmGrid(right, wrong) {
  const { trail, stopwatch, supply } = page;
  const seconds = Math.round((100 * stopwatch.seconds) / (right.length + wrong.length)) / 100;
  if (wrong.length) trail.single(wrong);
  if (right.length) give(right, "label", right.map((shot) => shot.item.guess.class), seconds);
  if (wrong.length) tell(`${plural(wrong.length, "image")} left for one by one (G).`);
  supply.refillGrids();
  render();
}

// What is seen

const showsGuess = () => state.guesses && byId("guess-on").checked;

function render() {
  const { trail, single, stopwatch } = page;
  if (mode === "grid" && !trail.grid && state.phase !== "labeling") return setMode("single");
  const shot = mode === "grid" ? trail.grid?.[0] : trail.current;
  if (shot !== timed) stopwatch.restart();
  timed = shot;
  document.body.dataset.mode = mode;
  byId("grid").hidden = mode !== "grid";
  byId("single").hidden = byId("choice").hidden = mode !== "single" || !shot;
  byId("notice").hidden = mode !== "single" || Boolean(shot);
  byId("message").hidden = !byId("notice").hidden;
  showNotice();
  single.shot = null;
  if (mode === "grid") showGrid();
  else if (shot) showSingle(shot);
}

function showGrid() {
  const { grid, trail, classes } = page;
  if (trail.grid) grid.show(trail.grid, classes.name(trail.grid[0].item.guess.class));
  else grid.showNone();
}

function showSingle(shot) {
  const { pictures, single, trail } = page;
  pictures.keep([shot, ...trail.queue.slice(0, AHEAD), ...trail.done.slice(-2)].map((near) => near.item));
  single.show(shot, trail.number, showsGuess());
  byId("single").classList.toggle("looking-back", trail.at !== null);
}

const NOTICES = {
  labeling: ["Waiting for images", "All images of this round are with somebody. The page goes on by itself when there are more."],
  training: ["The model is learning", "The page goes on by itself when new images are there."],
  finished: ["The campaign is finished", "Nothing is left to label. Thank you."],
  stopped: ["The campaign is stopped", "If it is taken up again, the page goes on by itself."],
};

function showNotice() {
  const [heading, text] = NOTICES[state.phase];
  byId("notice-heading").textContent = heading;
  byId("notice-text").textContent = text;
  byId("notice-message").textContent = byId("message").textContent = state.message;
}

function indicate() {
  clearTimeout(indicating);
  indicating = setTimeout(showSaved, QUIET);
}

function showSaved() {
  const count = page?.outbox.waiting.length ?? 0;
  const isUnsafe = Boolean(page?.ledger.failing || page?.ledger.onlyInMemory);
  const kept = count ? `${count} kept ${isUnsafe ? "in this page only" : "on this device"}` : "";
  const saved = byId("saved");
  if (isSignedOut) saved.textContent = kept ? `signed out: ${kept}` : "signed out";
  else if (isOffline) saved.textContent = kept ? `offline: ${kept}` : "offline";
  else saved.textContent = count ? `${count} to send` : "all saved";
  saved.dataset.look = isOffline || isSignedOut ? "kept" : count ? "sending" : "saved";
  byId("signed-out").hidden = !isSignedOut;
  byId("unsafe").hidden = !isUnsafe;
}

function setMode(wanted) {
  mode = wanted;
  page.supply.kind = mode;
  if (mode === "grid") page.supply.refillGrids();
  else page.supply.refill();
  render();
}

function toggleGrid() {
  if (!state.guesses) return tell("This campaign shows no guesses, so there are no grids.");
  setMode(mode === "grid" ? "single" : "grid");
  announce(mode === "grid" ? "Many at once" : "One by one");
}

function look(step) {
  const { trail, single } = page;
  if (!trail[step]()) return;
  render();
  const shot = trail.current;
  if (shot) announce(`Image ${trail.number}${shot.answer ? `, ${single.words(shot.answer)}` : ""}`);
}

function toggleGuess() {
  byId("guess-on").click();
}

async function signOut() {
  // A link works once: whoever signed out could not come back to send them.
  if (page?.outbox.waiting.length) return tell("Some answers are not sent yet. Sign out when all are saved.");
  try {
    await api.signOut();
  } catch (error) {
    if (!(error instanceof SignedOut)) return tell("Signing out needs a connection.");
  }
  location.assign("/");
}

// Keys and buttons

const commands = {
  back: () => look("back"),
  forth: () => look("forth"),
  undo,
  skip: () => say("skip"),
  unsure: () => say("cannot_tell"),
  accept,
  guess: toggleGuess,
  zoom: () => page.zoom.toggle(),
  closer: () => page.zoom.by(1.5),
  farther: () => page.zoom.by(1 / 1.5),
  grid: toggleGrid,
  search: () => page.classes.openSearch(""),
  confirm: () => page.grid.confirm(),
  retry: () => {
    page.pictures.retry(page.trail.current.item);
    render();
  },
  help: () => byId("help").showModal(),
  "close-help": () => byId("help").close(),
  "sign-out": signOut,
};

const everywhere = { u: "undo", Backspace: "undo", g: "grid", "?": "help" };
const one = {
  ArrowLeft: "back", ArrowRight: "forth", s: "skip", x: "unsure", m: "guess", Enter: "accept", "/": "search",
  z: "zoom", "+": "closer", "-": "farther",
};
const many = { y: "confirm", Escape: "grid" };
const pans = { "Shift+ArrowLeft": [PAN, 0], "Shift+ArrowRight": [-PAN, 0], "Shift+ArrowUp": [0, PAN], "Shift+ArrowDown": [0, -PAN] };

// What a key does now; undefined where it does nothing.
function actionOf(key, typed) {
  const command = { ...everywhere, ...(mode === "grid" ? many : one) }[key];
  if (command) return commands[command];
  if (mode === "grid") return key.startsWith("Arrow") ? () => page.grid.move(key) : undefined;
  if (pans[key]) return () => page.zoom.pan(...pans[key]);
  const number = page.classes.withKey(key);
  if (number !== undefined) return () => say("label", number);
  if (/^\p{L}$/u.test(key)) return () => page.classes.openSearch(typed);
}

document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") return event.preventDefault(); // a focused button would click again and again
  const key = pressed(event);
  if (!page || key === null || byId("help").open) return;
  const action = actionOf(key, event.key);
  if (!action) return;
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) action();
});

// A button that was clicked must not take the next Enter for itself.
document.addEventListener("click", (event) => {
  const control = event.target.closest("button, summary, input[type=checkbox]");
  if (event.detail > 0 && control && !control.matches(".cell")) control.blur();
});

for (const button of document.querySelectorAll("[data-command]")) {
  button.addEventListener("click", () => page && commands[button.dataset.command]());
}

byId("guess-on").addEventListener("change", (event) => {
  page.shelf.write("guess", event.target.checked);
  render();
});

window.addEventListener("online", () => page?.supply.beat());
window.addEventListener("storage", (event) => page?.shelf.owns(event.key) && indicate());
window.addEventListener("beforeunload", (event) => page?.ledger.onlyInMemory && event.preventDefault());

async function start() {
  try {
    await api.state();
  } catch (error) {
    byId("notice-heading").textContent = error instanceof SignedOut ? "You are signed out" : "No connection";
    byId("notice-text").textContent = "The page tries again by itself.";
    return void setTimeout(start, 3000);
  }
  page.supply.beat();
}

start();
