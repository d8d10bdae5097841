// Numbers and names as the page writes them.

const LONGEST = 60;
const NARROW = "\u202f";

export const percent = (share) => `${Math.round(100 * share)}${NARROW}%`;
export const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, NARROW);
export const plural = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

// A name inside a sentence: shortened, and set apart so that its writing direction does not turn the sentence around.
export function quoted(name) {
  const characters = [...name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "").replace(/\s+/g, " ").trim()];
  const short = characters.length > LONGEST ? `${characters.slice(0, LONGEST).join("")}…` : characters.join("");
  return `\u2068${short}\u2069`;
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
