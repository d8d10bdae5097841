// The header: how far the round and the budget are, what this person gave, and how good the labels make the model.

import { grouped, percent, plural } from "./words.js";

export function showProgress(state) {
  document.title = `${state.campaign}: label images`;
  write("campaign", state.campaign);
  write("round", `Round ${state.round.number}: ${grouped(state.round.done)} of ${grouped(state.round.total)}`);
  fill("round-bar", state.round.done, state.round.total);
  write("budget", `Budget: ${grouped(state.budget.labels)} of ${plural(state.budget.total, "label")}`);
  fill("budget-bar", state.budget.labels, state.budget.total);
  write("person-name", state.person.name);
  write("person-labels", plural(state.person.labels, "label"));
  write("accuracy", state.accuracy ? accuracy(state.accuracy) : "");
  write("suggestions", state.suggestions.length ? `You may stop: ${state.suggestions.join(" ")}` : "");
}

function accuracy({ value, low, high }) {
  return `Accuracy: about ${percent(value)} (${percent(low)} to ${percent(high)})`;
}

// Only what changed, so that a screen reader does not read the rest again.
function write(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
}

function fill(id, value, most) {
  const bar = document.getElementById(id);
  bar.max = Math.max(1, most);
  bar.value = value;
}
