// Short messages that go by themselves, and words for screen readers alone.

import { element } from "./words.js";

const STAY = 12_000;
const MOST = 3;

const list = document.getElementById("messages");
const announcer = document.getElementById("announcer");

export function tell(text) {
  if ([...list.children].some((message) => message.firstChild.textContent === text)) return;
  const message = element("p");
  const close = element("button", "plain", "Close");
  close.type = "button";
  const leave = () => message.remove();
  close.addEventListener("click", leave);
  message.append(element("bdi", "", text), close);
  list.append(message);
  while (list.children.length > MOST) list.firstChild.remove();
  setTimeout(leave, STAY);
}

export function announce(text) {
  announcer.textContent = text;
}
