/*
 * One room: its channel, what was said in it, who is here, and what became of one's own messages.
 *
 * Everything is shown once and in the order of the stream: each publication has an offset, and what is not above the
 * last one shown has been shown. Live publications are held back while the history is read. One's own messages are
 * shown at once; each carries a reference by which its publication is known again, so that a message whose
 * acknowledgement was lost can be told from one that was lost, and one that was sent twice is shown once.
 *
 *   sending ── acknowledged, or its publication came ──▶ delivered
 *      ├────── refused, or not confirmed in time ──────▶ failed ── "Send again" ──▶ sending
 *      └────── connection lost ──▶ lost ── not among what was missed ──▶ failed
 */

import { errorCodes } from "centrifuge";

import { Presence } from "./presence.js";

const CHANNEL = "room:";
/** What the server takes for a room's name. */
export const NAME = /^[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?$/;
/** As many as the server keeps. */
const HISTORY = 100;
const HISTORY_AGAIN_MS = 2_000;
const REFERENCES_KEPT = 1_000;
// After a restart everyone comes back; that is no news about those who were here before it.
const RETURN_MS = 60_000;

const EVENTS = ["subscribed", "subscribing", "unsubscribed", "publication", "join", "leave"];

const REFUSALS = new Map([
  [100, "Not sent: the server could not keep it."],
  [103, "Not sent: you may not write here."],
  [107, "Not sent: the server does not accept it."],
  [111, "Not sent: too many messages at once."],
]);
const REFUSED = "Not sent: the server refused it.";
const UNCONFIRMED = "The server has not confirmed this.";
const NOT_ARRIVED = "This was not sent: the connection broke.";
const UNSURE = "This may not have arrived.";
const GAP = "Some messages from while you were away are no longer kept.";
const ANEW = "The record of this room began anew.";

export class Room {
  draft = "";
  unread = 0;
  /** Whether what is said in the room arrives at once. */
  live = false;
  present = new Presence();
  #user;
  #connection;
  #pace;
  #told;
  #subscription;
  #epoch = null;
  #last = 0;
  #held = [];
  #sending = new Map();
  #references = new Set();
  #expected = { names: new Set(), until: 0 };

  /**
   * Join the room `name` as `user`; `log` shows what is said.
   *
   * `told` has `said(room, own)`, `changed(room)`, `refused(room)` and `stranger()`: the server knows the reader by
   * another name.
   */
  constructor({ name, user, log, connection, pace, told }) {
    this.name = name;
    this.log = log;
    this.#user = user;
    this.#connection = connection;
    this.#pace = pace;
    this.#told = told;
    const options = { joinLeave: true, positioned: true, recoverable: true };
    this.#subscription = connection.client.newSubscription(CHANNEL + name, options);
    this.#subscription.on("subscribed", ({ recovered }) => this.#subscribed(recovered));
    this.#subscription.on("subscribing", () => this.#away());
    this.#subscription.on("unsubscribed", ({ code }) => code && this.#shutOut());
    this.#subscription.on("publication", (publication) => this.#published(publication));
    this.#subscription.on("join", ({ info }) => this.#joined(info));
    this.#subscription.on("leave", ({ info }) => this.#left(info));
    this.#subscription.subscribe();
  }

  /** Leave the room; nothing is told after this. */
  leave() {
    this.live = false;
    // Its own listener for errors stays, without which the SDK would take one for ours.
    for (const event of EVENTS) this.#subscription.removeAllListeners(event);
    this.#connection.client?.removeSubscription(this.#subscription);
    this.log.remove();
  }

  /** Say something. */
  say(text) {
    const message = { text, reference: crypto.randomUUID(), state: "sending", said: null };
    message.said = this.log.say({ from: this.#user, text, at: Date.now(), own: true, state: "sending" });
    this.#sending.set(message.reference, message);
    this.#send(message);
  }

  // What was said.

  #subscribed(recovered) {
    this.live = true;
    const urgent = !this.log.hidden;
    this.#pace.do(() => this.#askWhoIsHere(), { urgent });
    // What was missed is handed over right after this event, in the same turn.
    if (recovered && this.#held === null) queueMicrotask(() => this.#settle(NOT_ARRIVED));
    else this.#read(urgent);
    this.#told.changed(this);
  }

  #away() {
    if (this.live) this.#expected = { names: new Set(this.present.names), until: Date.now() + RETURN_MS };
    this.live = false;
    this.#told.changed(this);
  }

  #shutOut() {
    this.live = false;
    this.#told.refused(this);
  }

  #read(urgent) {
    this.#held ??= [];
    this.#pace.do(() => this.#readHistory(), { urgent });
  }

  async #readHistory() {
    if (!this.live || this.#held === null) return;
    let history;
    try {
      history = await this.#subscription.history({ limit: HISTORY, reverse: true });
    } catch {
      // Whoever lost the connection asks again when it is back.
      setTimeout(() => this.live && this.#read(false), HISTORY_AGAIN_MS);
      return;
    }
    const held = this.#held;
    this.#held = null;
    this.#begin(history);
    // What came meanwhile is news, whether the history holds it as well or not.
    const news = new Set(held.map(({ offset }) => offset));
    for (const publication of [...history.publications.reverse(), ...held]) {
      this.#take(publication, { old: !news.has(publication.offset) });
    }
    this.log.ready();
    this.#settle(UNSURE);
  }

  #begin({ publications, offset, epoch }) {
    const known = this.#epoch !== null;
    const oldest = publications.at(-1)?.offset ?? offset + 1;
    if (known && epoch !== this.#epoch) {
      this.#last = 0;
      this.log.notice(ANEW);
    } else if (known && oldest > this.#last + 1) {
      this.log.notice(GAP);
    }
    this.#epoch = epoch;
  }

  #published(publication) {
    if (this.#held === null) this.#take(publication);
    else this.#held.push(publication);
  }

  #take({ offset, data, info, tags }, { old = false } = {}) {
    // What the server keeps in no history has no offset, comes once, and moves nobody's place in the stream.
    if (offset !== undefined) {
      if (offset <= this.#last) return;
      this.#last = offset;
    }
    // Only what the application itself publishes has no connection behind it, and says for whom it speaks.
    const from = info?.user ?? data?.from;
    if (typeof data?.text !== "string" || typeof from !== "string") return;
    const own = from === this.#user;
    const sent = own ? this.#sending.get(data.ref) : undefined;
    if (data.ref && this.#isRepeated(`${from} ${data.ref}`)) return;
    const at = Number(tags?.time) || Date.now();
    if (sent) {
      this.#sending.delete(data.ref);
      this.log.arrived(sent.said, at);
      return;
    }
    this.log.say({ from, text: data.text, at, own, state: own ? "delivered" : null });
    if (!old) this.#told.said(this, own);
  }

  #isRepeated(reference) {
    if (this.#references.has(reference)) return true;
    this.#references.add(reference);
    if (this.#references.size > REFERENCES_KEPT) this.#references.delete(this.#references.values().next().value);
    return false;
  }

  // What became of one's own messages.

  async #send(message) {
    message.state = "sending";
    try {
      await this.#connection.client.publish(CHANNEL + this.name, { text: message.text, ref: message.reference });
      message.state = "delivered";
      if (this.#sending.has(message.reference)) this.log.mark(message.said, "delivered");
    } catch ({ code }) {
      this.#unsent(message, code);
    }
  }

  #unsent(message, code) {
    // Its publication may have come though its acknowledgement did not.
    if (!this.#sending.has(message.reference)) return;
    if (code >= 100) this.#fail(message, REFUSALS.get(code) ?? REFUSED);
    else if (code === errorCodes.timeout && this.live) this.#fail(message, UNCONFIRMED);
    else message.state = "lost";
  }

  #settle(sentence) {
    for (const message of this.#sending.values()) if (message.state === "lost") this.#fail(message, sentence);
  }

  #fail(message, sentence) {
    message.state = "failed";
    this.log.fail(message.said, sentence, () => {
      if (!this.live) return;
      this.log.mark(message.said, "sending");
      this.#send(message);
    });
  }

  // Who is here.

  async #askWhoIsHere() {
    if (!this.live) return;
    const { clients } = await this.#subscription.presence();
    const known = clients[this.#connection.id];
    if (known && known.user !== this.#user) {
      this.#told.stranger();
      return;
    }
    this.present.replace(clients);
    this.#told.changed(this);
  }

  #joined(info) {
    const { user } = info;
    const wasHere = this.present.has(user);
    this.present.joined(info);
    const returns = this.#expected.names.delete(user) && Date.now() < this.#expected.until;
    if (!wasHere && !returns) this.log.notice(`${user} joined`, { cancels: `${user} left` });
    this.#told.changed(this);
  }

  #left(info) {
    const { user } = info;
    const wasHere = this.present.has(user);
    if (this.present.left(info)) this.#pace.do(() => this.#askWhoIsHere());
    else if (wasHere) this.log.notice(`${user} left`, { cancels: `${user} joined` });
    this.#told.changed(this);
  }
}
