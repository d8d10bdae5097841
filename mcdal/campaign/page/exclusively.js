// Lets one tab of a person work at a time.

import { uuid } from "./uuid.js";

const LEASE = 40_000; // longer than a request may take
const SETTLE = 60; // two tabs that claim at once both see, after this time, who wrote last
const AGAIN = 500;

export function exclusively(name, shelf, work) {
  return navigator.locks ? navigator.locks.request(name, work) : underLease(name, shelf, work);
}

// Browsers leave navigator.locks out on plain http. A lease in storage is weaker, and enough: what is sent twice carries the same keys.
async function underLease(name, shelf, work) {
  const me = uuid();
  const release = () => shelf.read(name)?.me === me && shelf.remove(name);
  while (!(await claim(name, shelf, me))) await pause(AGAIN);
  window.addEventListener("pagehide", release);
  try {
    return await work();
  } finally {
    window.removeEventListener("pagehide", release);
    release();
  }
}

async function claim(name, shelf, me) {
  const holder = shelf.read(name);
  if (holder && holder.until > Date.now()) return false;
  if (!shelf.write(name, { me, until: Date.now() + LEASE })) return true; // without storage the tabs share nothing to guard
  await pause(SETTLE);
  return shelf.read(name)?.me === me;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
