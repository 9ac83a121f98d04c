/*
 * The conversation as the reader sees it: who said what and when, in turns, with days and notices between them.
 *
 * Every text enters by `textContent`. The view follows the newest message only while the reader is at the end, and
 * the number of lines is bounded, so that a page left open for a week stays light.
 */

const byId = (id) => document.getElementById(id);
const LINES_KEPT = 500;
const TURN_MS = 5 * 60_000;
const NEAR_END_PX = 64;
const HUES = 8;
const OWN_KEPT = 64;

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** Dress an avatar: the same initials and colour for a name wherever and whenever it appears. */
export function dressAvatar(avatar, name) {
  const words = name.split(/[\s._-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]].map((word) => [...word][0]) : [...name].slice(0, 2);
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 65_521;
  avatar.textContent = letters.join("").toUpperCase();
  avatar.classList.add(`hue-${hash % HUES}`);
}

export class Log {
  #log = byId("log");
  #scroll = byId("scroll");
  #button = byId("new-messages");
  #atEnd = true;
  #last = null;
  #day = "";
  #own = [];

  constructor() {
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#button.addEventListener("click", () => this.#toEnd());
    // The keyboard of a phone, or a growing composer, must not push the newest message out of sight.
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#scroll);
  }

  /** Add a message; `own` puts it on the reader's side. */
  say({ from, text, at, own = false, sent = false }) {
    const line = document.createElement("p");
    line.className = "line";
    line.dir = "auto";
    line.textContent = text;
    this.#turnFor(from, at, own).append(line);
    if (sent) this.#own = [...this.#own.slice(1 - OWN_KEPT), { line, text, at }];
    this.#added(own);
  }

  /** Add a quiet line on what happened; somebody who comes back at once cancels their own "left". */
  notice(text, { cancels = null } = {}) {
    const before = this.#log.lastElementChild;
    if (cancels !== null && before?.classList.contains("notice") && before.textContent === cancels) {
      before.remove();
      return;
    }
    this.#divide("notice", text);
    this.#added(false);
  }

  /** Mark the newest own message not yet marked: the server names no message, but refuses in the order of sending. */
  refuse(sentence, again) {
    const message = this.#own.pop();
    if (message) this.#mark(message, sentence, again);
  }

  /** Mark own messages younger than `ms`: the connection broke before anything showed that they arrived. */
  doubt(ms, again) {
    const since = Date.now() - ms;
    for (const message of this.#own.splice(0)) {
      if (message.at >= since) this.#mark(message, "This may not have arrived.", again);
    }
  }

  /** Take everything away. */
  clear() {
    this.#log.replaceChildren();
    this.#last = null;
    this.#day = "";
    this.#own = [];
    this.#toEnd();
    byId("empty").hidden = false;
  }

  #turnFor(from, at, own) {
    this.#dayFor(at);
    const last = this.#last;
    if (last?.from === from && last.own === own && at - last.at < TURN_MS) return last.turn;
    const turn = byId("turn-template").content.firstElementChild.cloneNode(true);
    turn.classList.toggle("own", own);
    turn.querySelector(".speaker").textContent = own ? "You" : from;
    const time = turn.querySelector("time");
    time.dateTime = new Date(at).toISOString();
    time.textContent = clockTime.format(at);
    dressAvatar(turn.querySelector(".avatar"), from);
    this.#log.append(turn);
    this.#last = { from, own, at, turn };
    return turn;
  }

  #dayFor(at) {
    const day = dayName.format(at);
    // The first day needs no heading when it is today.
    if (this.#day !== day && (this.#day !== "" || day !== dayName.format(Date.now()))) this.#divide("day", day);
    this.#day = day;
  }

  #divide(kind, text) {
    const line = document.createElement("p");
    line.className = kind;
    line.textContent = text;
    this.#log.append(line);
    this.#last = null;
  }

  #mark({ line, text }, sentence, again) {
    const note = document.createElement("p");
    note.className = "note";
    note.append(`${sentence} `);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = "Send again";
    button.addEventListener("click", () => again(text) && this.#remove(line));
    note.append(button);
    line.classList.add("unsure");
    line.after(note);
    this.#added(false);
  }

  #added(own) {
    byId("empty").hidden = true;
    this.#trim();
    if (this.#atEnd || own) this.#toEnd();
    else this.#button.hidden = false;
  }

  #remove(line) {
    const turn = line.parentElement;
    const note = line.nextElementSibling;
    if (note?.classList.contains("note")) note.remove();
    line.remove();
    if (turn.querySelector(".line") === null) turn.remove();
    if (this.#last?.turn === turn && !turn.isConnected) this.#last = null;
  }

  #trim() {
    while (this.#log.getElementsByClassName("line").length > LINES_KEPT) {
      const first = this.#log.firstElementChild;
      const line = first.querySelector(".line");
      if (line) this.#remove(line);
      else first.remove();
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#atEnd) this.#button.hidden = true;
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#atEnd = true;
    this.#button.hidden = true;
  }
}
