/*
 * The connection: when to dial, when to wait and for how long, when to stop.
 *
 * It knows nothing of what the messages mean and shows nothing: it tells `onState` what became of it and `onFrame`
 * what came. At most one socket counts at a time; what an overtaken one still reports is ignored.
 *
 *   connecting ──open──▶ connected ──close──▶ verdict(code) ── retry ──▶ waiting ──timer, online, "Try now"──▶ connecting
 *       │                                          ├────────── session ─▶ connecting, which asks for the session first
 *       └─ no session ──▶ ended                    └────────── stop ────▶ stopped ──"Reconnect"──▶ connecting
 */

/** With it the server says why it rejected a message, and when the session ends. */
const SUBPROTOCOL = "sockade";

const BASE_SECONDS = 0.5;
const CAP_SECONDS = 30;
const STABLE_MS = 10_000;
// A handshake the server has not finished after its own 15 s will not be finished.
const DIAL_MS = 20_000;

/** Close codes after which the same attempt would meet the same end, each with what to tell the reader. */
export const STOP_CODES = new Map([
  [1002, "The server ended the connection because of a protocol error."],
  [1003, "The server does not accept this kind of message."],
  [1007, "The server could not read the last message."],
  [1008, "The server ended the connection because it was used too fast or against its rules."],
  [1009, "The last message was too long for the server."],
  [3003, "You are not allowed to be in this chat."],
]);

const SESSION_OVER = 3000;

/** Say what a close code asks for: `stop`, `session` (is there still one?) or `retry`. */
export function verdict(code) {
  if (STOP_CODES.has(code)) return "stop";
  return code === SESSION_OVER ? "session" : "retry";
}

/** Return the seconds to wait before an attempt: exponential with full jitter, so that a crowd does not return as one. */
export function backoff(attempt, random = Math.random) {
  return random() * Math.min(CAP_SECONDS, BASE_SECONDS * 2 ** attempt);
}

/**
 * One lasting connection made of as many sockets as it takes.
 *
 * `session()` resolves to `in`, `out` or `unknown`. States: `{name: "connecting", again}`, `{name: "connected", again}`,
 * `{name: "waiting", until, online, clean}` (`until` in milliseconds of `Date.now()`, `clean` whether the server said good-bye),
 * `{name: "stopped", sentence, clean}`, `{name: "ended"}`.
 */
export class Connection {
  #url;
  #session;
  #onState;
  #onFrame;
  #socket = null;
  #state = "closed";
  #turn = 0;
  #attempt = 0;
  #askFirst = false;
  #wasConnected = false;
  #timer = 0;
  #stableTimer = 0;
  #listening = null;

  constructor({ url, session, onState, onFrame }) {
    this.#url = url;
    this.#session = session;
    this.#onState = onState;
    this.#onFrame = onFrame;
  }

  /** Connect, and stay connected until `close()`. */
  open() {
    this.#attempt = 0;
    this.#askFirst = false;
    this.#wasConnected = false;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    // What the browser says of the network is a hint, never a gate: localhost works without one.
    addEventListener("online", () => this.#hurry(), { signal });
    addEventListener("offline", () => this.#doubt(), { signal });
    addEventListener("pageshow", () => this.#hurry(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry(), { signal });
    this.#dial();
  }

  /** Let go for good; nothing is reported after this. */
  close() {
    this.#listening?.abort();
    this.#drop(1000);
    this.#state = "closed";
  }

  /** Try at once, whatever the wait. */
  retry() {
    if (this.#state === "waiting" || this.#state === "stopped") this.#dial();
  }

  /** Send a text; return whether it left. */
  send(text) {
    if (this.#state !== "connected" || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  #hurry() {
    if (this.#state === "waiting") this.#dial();
  }

  #doubt() {
    // A socket of a network that is gone can stay "open" for minutes.
    if (this.#state !== "connected") return;
    this.#drop();
    this.#wait();
  }

  #tell(name, more = {}) {
    this.#state = name;
    this.#onState({ name, ...more });
  }

  #drop(code) {
    this.#turn += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#stableTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  async #dial() {
    this.#drop();
    const turn = this.#turn;
    this.#tell("connecting", { again: this.#wasConnected || this.#attempt > 0 });
    if (this.#askFirst) {
      const answer = await this.#session();
      if (turn !== this.#turn) return;
      if (answer === "out") return this.#tell("ended");
      if (answer === "unknown") return this.#wait();
      this.#askFirst = false;
    }
    this.#connect();
  }

  #connect() {
    const socket = new WebSocket(this.#url, SUBPROTOCOL);
    const counts = () => socket === this.#socket;
    this.#socket = socket;
    this.#timer = setTimeout(() => counts() && this.#lost({ code: 1006, wasClean: false }, false), DIAL_MS);
    let opened = false;
    socket.onopen = () => {
      if (!counts()) return;
      opened = true;
      this.#opened();
    };
    socket.onmessage = (event) => counts() && this.#onFrame(event.data);
    socket.onclose = (event) => counts() && this.#lost(event, opened);
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#stableTimer = setTimeout(() => (this.#attempt = 0), STABLE_MS);
    this.#tell("connected", { again: this.#wasConnected });
    this.#wasConnected = true;
  }

  #lost({ code, wasClean: clean }, opened) {
    this.#drop();
    const what = verdict(code);
    if (what === "stop") return this.#tell("stopped", { sentence: STOP_CODES.get(code), clean });
    // The browser hides why a handshake was refused: only asking tells a lost session from a lost network.
    if (!opened || what === "session") this.#askFirst = true;
    if (what === "session" && this.#attempt === 0) {
      this.#attempt = 1;
      return this.#dial();
    }
    return this.#wait(clean);
  }

  #wait(clean = false) {
    const delayMs = backoff(this.#attempt) * 1_000;
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#dial(), delayMs);
    this.#tell("waiting", { until: Date.now() + delayMs, online: navigator.onLine, clean });
  }
}
