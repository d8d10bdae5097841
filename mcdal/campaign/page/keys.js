// Which key a key press means, and which key each class gets.

// The letters that are commands, S, U, X, G, Z, M and Y, are no class's key.
export const CLASS_KEYS = [..."1234567890abcdefhijklnopqrtvw"];
const DIGITS = 10;

// Classes only ever join at the end, so that each keeps its key. Where there are more classes than keys,
// letters are left to the search.
export function assignKeys(classes, withLetters) {
  const keys = withLetters ? CLASS_KEYS : CLASS_KEYS.slice(0, DIGITS);
  return new Map(classes.slice(0, keys.length).map(({ number }, place) => [number, keys[place]]));
}

// What was pressed: a character in lower case, or a name such as "Enter"; null where the page must keep out of it.
export function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented) return null;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return null;
  if (["Enter", " "].includes(event.key) && event.target.closest("button, a, summary, input")) return null;
  if (event.key.length > 1) return event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key;
  return character(event);
}

// On keyboards whose digits need Shift, or whose letters are not Latin, the place of the key counts.
function character(event) {
  const key = event.key.toLowerCase();
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (digit && !event.shiftKey && !/[/?+]/.test(key)) return digit[1];
  const letter = /^Key([A-Z])$/.exec(event.code);
  return letter && key > "\u024f" ? letter[1].toLowerCase() : key;
}
