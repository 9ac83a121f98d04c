/*
 * The chat view: the composer, who is here, the state of the connection, invitations, signing out.
 *
 * It turns frames into what is shown and what is typed into frames. When to connect is `socket.js`'s decision, how the
 * conversation looks `log.js`'s. What is typed survives every break of the connection, and nothing survives `clear()`.
 */

import { Log, dressAvatar } from "./log.js";
import * as session from "./session.js";
import { showProblem } from "./signin.js";

const byId = (id) => document.getElementById(id);
const TEXT_MAX = 2_000;
const COUNTER_FROM = 1_800;
// A close frame shows that the way was good until just now. Without one, the way may have been dead for as long as the
// server takes to notice: a ping and its deadline.
const DOUBT_MS = { clean: 2_000, unclean: 33_000 };
// After a restart everyone comes back; that is no news about those who were here before it.
const RETURN_MS = 60_000;

const REFUSALS = {
  rate_limited: "Not sent: too many messages at once.",
  text_too_long: "Not sent: too long.",
};

/** Count characters as the server does: code points, not UTF-16 units. */
const lengthOf = (text) => [...text].length;

export class Chat {
  #connection;
  #onSignOut;
  #onStranger;
  #log = new Log();
  #user = "";
  #here = new Set();
  #expected = { names: new Set(), until: 0 };
  #connected = false;
  #countdown = 0;
  #unread = 0;

  /** `connection` has `send(text)` and `retry()`; `onStranger` hears that the server knows the reader by another name. */
  constructor({ connection, onSignOut, onStranger }) {
    this.#connection = connection;
    this.#onSignOut = onSignOut;
    this.#onStranger = onStranger;
    byId("composer").addEventListener("submit", (event) => this.#submit(event));
    byId("message").addEventListener("input", () => this.#typed());
    byId("message").addEventListener("keydown", (event) => this.#key(event));
    byId("bar-button").addEventListener("click", () => connection.retry());
    byId("sign-out").addEventListener("click", () => this.#onSignOut());
    byId("invite-button").addEventListener("click", () => this.#invite());
    byId("invite-copy").addEventListener("click", () => this.#copy());
    byId("invite-close").addEventListener("click", () => byId("invite").close());
    byId("invite").addEventListener("close", () => this.#clearInvite());
    document.addEventListener("visibilitychange", () => document.hidden || this.#read());
  }

  /** Show the chat to `user`. */
  show({ user, role }) {
    this.#user = user;
    byId("invite-button").hidden = role !== "admin";
    byId("chat").hidden = false;
    this.#hereIs([user]);
    // On a touch screen this would open the keyboard over a page nobody has seen yet.
    if (matchMedia("(hover: hover)").matches) byId("message").focus();
  }

  /** Hide the chat and leave nothing of it in the page. */
  clear() {
    byId("chat").hidden = true;
    byId("invite").close();
    byId("people").hidePopover();
    byId("message").value = "";
    this.#typed();
    this.#log.clear();
    this.#here.clear();
    byId("people-list").replaceChildren();
    byId("announcer").textContent = "";
    this.#bar("");
    this.#user = "";
    this.#read();
  }

  /** Show what became of the connection. */
  state(state) {
    if (this.#connected && state.name !== "connected") this.#broken(state.clean);
    this.#connected = state.name === "connected";
    const label = LABELS[state.name](state);
    byId("connection").dataset.state = state.name;
    byId("connection-text").textContent = label;
    const bar = BARS[state.name](state);
    this.#bar(bar, state.until, state.name === "stopped" ? "Reconnect" : "Try now");
    byId("bar-button").hidden = state.name === "connecting";
    this.#announce(bar || (state.again ? "Connected again." : ""));
    if (state.name === "connected" && state.again) this.#log.notice("Connected again. What others wrote meanwhile is not shown.");
    this.#typed();
  }

  /** Show a frame. One of a type unknown to this page, which may be older than the server, is left out. */
  frame(data) {
    const frame = JSON.parse(data);
    if (frame.type === "welcome") this.#welcome(frame);
    else if (frame.type === "message") this.#message(frame);
    else if (frame.type === "joined") this.#joined(frame);
    else if (frame.type === "left") this.#left(frame);
    else if (frame.sockade?.rejected) this.#error({ code: frame.sockade.rejected });
  }

  /** Say why signing out failed. */
  stillSignedIn(problem) {
    this.#log.notice(`You are still signed in. ${problem.sentence}`);
  }

  #welcome({ you, here }) {
    if (you === this.#user) this.#hereIs(here);
    else this.#onStranger();
  }

  #message({ from, text, at }) {
    this.#log.say({ from, text, at: at * 1_000, own: from === this.#user });
    if (!document.hidden) return;
    this.#unread += 1;
    document.title = `(${this.#unread}) Sockade`;
  }

  #joined({ user }) {
    if (this.#here.has(user)) return;
    this.#hereIs([...this.#here, user]);
    if (this.#expected.names.delete(user) && Date.now() < this.#expected.until) return;
    this.#log.notice(`${user} joined`, { cancels: `${user} left` });
  }

  #left({ user }) {
    if (!this.#here.delete(user)) return;
    this.#hereIs([...this.#here]);
    this.#log.notice(`${user} left`, { cancels: `${user} joined` });
  }

  #error({ code }) {
    const sentence = Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : "Not sent: the server refused it.";
    this.#log.refuse(sentence, (text) => this.#say(text));
  }

  #broken(clean) {
    this.#log.doubt(clean ? DOUBT_MS.clean : DOUBT_MS.unclean, (text) => this.#say(text));
    this.#expected = { names: new Set(this.#here), until: Date.now() + RETURN_MS };
  }

  #say(text) {
    if (!this.#connection.send(JSON.stringify({ text }))) return false;
    this.#log.say({ from: this.#user, text, at: Date.now(), own: true, sent: true });
    return true;
  }

  #submit(event) {
    event.preventDefault();
    const box = byId("message");
    const text = box.value.trim();
    if (byId("send").disabled || !this.#say(text)) return;
    box.value = "";
    this.#typed();
    box.focus();
  }

  #key(event) {
    // During composition Enter chooses a candidate (229 is how Safari says so).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  }

  #typed() {
    const box = byId("message");
    const length = lengthOf(box.value.trim());
    const left = TEXT_MAX - length;
    const counter = byId("counter");
    counter.hidden = length < COUNTER_FROM;
    counter.textContent = left >= 0 ? `${left} left` : `${-left} too many`;
    counter.classList.toggle("over", left < 0);
    box.setAttribute("aria-invalid", String(left < 0));
    // For browsers without `field-sizing`; the others grow by themselves.
    box.rows = Math.min(6, box.value.split("\n").length);
    byId("send").disabled = !this.#connected || length === 0 || left < 0;
  }

  #hereIs(names) {
    this.#here = new Set(names);
    const others = names.filter((name) => name !== this.#user).sort((a, b) => a.localeCompare(b));
    const rows = [this.#user, ...new Set(others)].map((name) => this.#person(name));
    byId("people-list").replaceChildren(...rows);
    byId("people-count").textContent = String(rows.length);
    byId("people-button-count").textContent = String(rows.length);
  }

  #person(name) {
    const row = byId("person-template").content.firstElementChild.cloneNode(true);
    row.querySelector(".speaker").textContent = name;
    row.querySelector(".you").hidden = name !== this.#user;
    dressAvatar(row.querySelector(".avatar"), name);
    return row;
  }

  #bar(text, until = null, button = "Try now") {
    const bar = byId("bar");
    clearInterval(this.#countdown);
    // A focused button that vanishes would drop a keyboard user at the top of the page.
    if (text === "" && bar.contains(document.activeElement)) byId("message").focus();
    bar.hidden = text === "";
    byId("bar-text").textContent = text;
    byId("bar-button").textContent = button;
    const tick = () => {
      const seconds = Math.ceil((until - Date.now()) / 1_000);
      byId("bar-countdown").textContent = seconds > 0 ? `Reconnecting in ${seconds} s.` : "Reconnecting…";
    };
    byId("bar-countdown").textContent = "";
    if (until === null) return;
    tick();
    this.#countdown = setInterval(tick, 250);
  }

  #announce(text) {
    const announcer = byId("announcer");
    if (announcer.textContent !== text) announcer.textContent = text;
  }

  #read() {
    this.#unread = 0;
    document.title = "Sockade";
  }

  async #invite() {
    this.#clearInvite();
    byId("invite").showModal();
    try {
      const { link, expires_in: seconds } = await session.invite();
      if (!byId("invite").open) return;
      byId("invite-text").textContent = `Send this link to one person. It works once, within ${session.span(seconds)}.`;
      byId("invite-link").value = link;
      byId("invite-result").hidden = false;
      byId("invite-copy").focus();
    } catch (problem) {
      byId("invite-text").textContent = "";
      showProblem(byId("invite-error"), problem);
    }
  }

  async #copy() {
    const field = byId("invite-link");
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      byId("invite-copied").textContent = "Copied.";
    } catch {
      byId("invite-copied").textContent = "The browser did not allow copying. The link is selected: copy it with the keyboard.";
    }
  }

  #clearInvite() {
    byId("invite-text").textContent = "Making a link…";
    byId("invite-link").value = "";
    byId("invite-result").hidden = true;
    byId("invite-copied").textContent = "";
    showProblem(byId("invite-error"), null);
  }
}

const LABELS = {
  connecting: ({ again }) => (again ? "Reconnecting…" : "Connecting…"),
  connected: () => "Connected",
  waiting: ({ online }) => (online ? "Reconnecting" : "Offline"),
  stopped: () => "Disconnected",
  ended: () => "Signed out",
};

const BARS = {
  connecting: ({ again }) => (again ? "Reconnecting… What you type is kept." : ""),
  connected: () => "",
  waiting: ({ online }) => (online ? "Connection lost. What you type is kept." : "You are offline. What you type is kept."),
  stopped: ({ sentence }) => sentence,
  ended: () => "",
};
