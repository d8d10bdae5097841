// Talks to the server: the one place that knows its paths, its CSRF token, and what each kind of failure means.

const PATIENCE = 30_000;
const KEEPALIVE_MOST = 16_000; // characters; browsers reject larger requests that are to outlive the page

export class Unreachable extends Error {} // worth another try
export class SignedOut extends Error {}
export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.message || `The server answered with status ${status}.`);
    this.status = status;
    this.code = answer?.error;
  }
}

export class Api {
  #csrf = "";
  #who = null;
  #onState;
  #onReach;
  #onSignedOut;

  constructor({ onState, onReach, onSignedOut }) {
    this.#onState = onState;
    this.#onReach = onReach;
    this.#onSignedOut = onSignedOut;
  }

  async state() {
    this.#heard(await this.#request("GET", "/api/state"));
  }

  next(count, held, grid = false) {
    return this.#post("/api/next", { count, held, grid });
  }

  answers(answers) {
    return this.#post("/api/answers", { answers });
  }

  undo(key, of) {
    return this.#post("/api/undo", { key, of });
  }

  signOut() {
    return this.#post("/sign-out", {});
  }

  async #post(path, body) {
    try {
      return await this.#request("POST", path, body);
    } catch (error) {
      if (error.code !== "csrf") throw error;
      await this.state();
      return this.#request("POST", path, body);
    }
  }

  async #request(method, path, body) {
    try {
      const answer = await request(method, path, body, this.#csrf);
      this.#onReach(true);
      if (answer?.state) this.#heard(answer.state);
      return answer;
    } catch (error) {
      this.#onReach(!(error instanceof Unreachable));
      if (error instanceof SignedOut) this.#onSignedOut();
      throw error;
    }
  }

  #heard(state) {
    const who = JSON.stringify([state.identity, state.person.name]);
    if (this.#who !== null && this.#who !== who) {
      location.reload(); // somebody else signed in: nothing of this page may go out under that name
      throw new SignedOut();
    }
    this.#who = who;
    this.#csrf = state.csrf;
    this.#onState(state);
  }
}

async function request(method, path, body, csrf) {
  const text = body && JSON.stringify(body);
  const headers = body ? { "Content-Type": "application/json", "X-CSRF": csrf } : {};
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: text,
      cache: "no-store",
      keepalive: Boolean(text) && text.length < KEEPALIVE_MOST,
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new Unreachable();
  }
  if (response.status === 401) throw new SignedOut();
  if (response.status === 429 || response.status >= 500) throw new Unreachable();
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer);
  if (answer === null) throw new Unreachable(); // a page of some proxy in between
  return answer;
}
