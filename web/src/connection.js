/*
 * The connection: the SDK dials, waits and dials again; this says when it has to stop, and tells what became of it.
 *
 *   connecting ──▶ connected ──close──▶ verdict(code) ── retry ──▶ waiting ──its delay, online, "Try now"──▶ connecting
 *       │                                    ├────────── session ─▶ connecting, which asks for the session first
 *       └─ no session ──▶ ended              └────────── stop ────▶ stopped ──"Reconnect"──▶ connecting
 *
 * The cookie is the credential, so no token is ever in the page's hands. The browser hides why a handshake was
 * refused: before each dial after one that failed, the session is asked for.
 */

import { Centrifuge, State, UnauthorizedError } from "centrifuge";

import { watched } from "./socket.js";

const MIN_DELAY_MS = 500;
const MAX_DELAY_MS = 30_000;
/** How long the SDK waits for a socket to open and for each answer. */
const ANSWER_MS = 10_000;
const HURRY_MS = 10_000;

/** Close codes after which the same attempt would meet the same end, each with what to tell the reader. */
const STOP_CODES = new Map([
  [1002, "The server ended the connection because of a protocol error."],
  [1003, "The server does not accept this kind of message."],
  [1007, "The server could not read the last message."],
  [1008, "The server ended the connection because it was used too fast or against its rules."],
  [1009, "The last message was too long for the server."],
  [3003, "You are not allowed to be in this chat."],
  [3501, "The server did not understand this page. Load it again."],
  [3502, "The connection was idle for too long."],
  [3507, "You are not allowed to be in this chat."],
]);
const STOPPED = "The server ended the connection for good.";
const PAGE_FAILED = "This page made a mistake. Load it again.";

const EXPIRED = 3005;
/** From here on the protocol's codes mean: do not come back. */
const FINAL = 3500;
const FINAL_END = 4000;
/** The SDK's own reasons for connecting and for being disconnected. */
const CONNECT_CALLED = 0;
const UNAUTHORIZED = 1;
const BAD_PROTOCOL = 2;

/** Say what a close code asks for: `stop`, `final` (stop, or is the session over?), `session` or `retry`. */
export function verdict(code) {
  if (code >= FINAL && code < FINAL_END) return "final";
  if (STOP_CODES.has(code)) return "stop";
  return code === EXPIRED ? "session" : "retry";
}

/**
 * One lasting connection made of as many sockets as it takes.
 *
 * `session()` resolves to `in`, `out` or `unknown`. States: `{name: "connecting", again}`, `{name: "connected", again}`,
 * `{name: "waiting", online}`, `{name: "stopped", sentence}`, `{name: "ended"}`.
 */
export class Connection {
  /** The SDK's client while the connection is open, else null. */
  client = null;
  /** The server's name for the socket, as others see it in a room's presence. */
  id = "";
  #url;
  #session;
  #onState;
  #state = "closed";
  #again = false;
  #askFirst = false;
  #hurriedAt = -Infinity;
  #listening = null;

  constructor({ url, session, onState }) {
    this.#url = url;
    this.#session = session;
    this.#onState = onState;
  }

  /** Make a client; nothing is dialled before `connect()`. */
  open() {
    this.close();
    this.#again = this.#askFirst = false;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    addEventListener("pageshow", () => this.#hurry(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry(), { signal });
    const counted = (handler) => (event) => { if (!signal.aborted) handler(event); };
    const client = new Centrifuge(this.#url, {
      name: "page",
      timeout: ANSWER_MS,
      minReconnectDelay: MIN_DELAY_MS,
      maxReconnectDelay: MAX_DELAY_MS,
      websocket: watched({
        onDial: counted(() => this.#tell("connecting", { again: this.#again })),
        onClose: counted((event) => this.#closed(event)),
      }),
      getData: () => this.#gate(),
    });
    client.on("connected", counted((event) => this.#connected(event.client)));
    client.on("connecting", counted(({ code }) => code !== CONNECT_CALLED && this.#waits()));
    client.on("error", counted(() => this.#waits()));
    client.on("disconnected", counted(({ code }) => this.#disconnected(code)));
    this.client = client;
  }

  /** Connect, and stay connected until `pause()` or `close()`. */
  connect() {
    this.client.connect();
  }

  /** Let go of the socket and keep the subscriptions and their positions. */
  pause() {
    this.client?.disconnect();
  }

  /** Let go for good; nothing is reported after this. */
  close() {
    this.#listening?.abort();
    this.client?.disconnect();
    this.client = null;
    this.#state = "closed";
  }

  /** Try at once, whatever the wait. Subscriptions keep their positions. */
  retry() {
    if (this.#state === "connected" || this.#state === "closed") return;
    this.client.disconnect();
    this.client.connect();
  }

  #hurry() {
    if (this.#state === "waiting") this.retry();
  }

  #tell(name, more = {}) {
    if (name === this.#state) return;
    this.#state = name;
    this.#onState({ name, ...more });
  }

  #connected(id) {
    this.id = id;
    const again = this.#again;
    this.#again = true;
    this.#tell("connected", { again });
  }

  /** The SDK's `getData` is its one question before each dial; no data is sent. */
  async #gate() {
    this.#tell("connecting", { again: this.#again });
    if (!this.#askFirst) return null;
    const answer = await this.#session();
    if (answer === "out") throw new UnauthorizedError("no session");
    if (answer === "unknown") throw new Error("the session could not be asked for");
    this.#askFirst = false;
    return null;
  }

  #waits() {
    if (this.client.state === State.Connecting) this.#tell("waiting", { online: navigator.onLine });
  }

  #closed({ code, opened }) {
    // The socket of a client that has let go; the SDK hears of any other only after this.
    if (this.client.state === State.Disconnected) return;
    const what = verdict(code);
    if (what === "stop") return this.#stop(STOP_CODES.get(code));
    if (what === "final") return this.#final(code);
    if (!opened || what === "session") this.#askFirst = true;
    this.#again = true;
    this.#tell("waiting", { online: navigator.onLine });
    // A session that ended is found out at once; but not over and over, if the server should contradict itself.
    if (what === "session" && Date.now() > this.#hurriedAt + HURRY_MS) {
      this.#hurriedAt = Date.now();
      this.retry();
    }
  }

  #stop(sentence) {
    this.#tell("stopped", { sentence });
    this.client.disconnect();
  }

  async #final(code) {
    this.#stop(STOP_CODES.get(code) ?? STOPPED);
    const { client } = this;
    const answer = await this.#session();
    if (client === this.client && this.#state === "stopped" && answer === "out") this.#tell("ended");
  }

  #disconnected(code) {
    if (code === UNAUTHORIZED) this.#tell("ended");
    else if (code === BAD_PROTOCOL) this.#tell("stopped", { sentence: PAGE_FAILED });
  }
}
