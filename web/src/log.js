/*
 * The conversation of one room as the reader sees it: who said what and when, in turns, with days and notices between.
 *
 * Every text enters by `textContent`. The view follows the newest message only while the reader is at the end, and
 * the number of lines is bounded, so that a page left open for a week stays light.
 */

const byId = (id) => document.getElementById(id);
const LINES_KEPT = 500;
/** Who came and who left. Where nobody says anything there is nothing else, and a program may come and go for ever. */
const NOTICES_KEPT = 100;
const TURN_MS = 5 * 60_000;
const NEAR_END_PX = 64;
const HUES = 8;
const STATES = { sending: "Sending", delivered: "Delivered", failed: "Not sent" };

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const dayName = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** Return a copy of a template's one element. */
export const copyOf = (template) => byId(template).content.firstElementChild.cloneNode(true);

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
  #scroll = copyOf("log-template");
  #log = this.#scroll.querySelector(".log");
  #empty = this.#scroll.querySelector(".empty");
  #button = byId("new-messages");
  #atEnd = true;
  #missed = false;
  #top = 0;
  #last = null;
  #day = "";

  constructor(room) {
    this.#scroll.setAttribute("aria-label", `Conversation in ${room}`);
    this.#log.setAttribute("aria-label", `Messages in ${room}`);
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // The keyboard of a phone, or a growing composer, must not push the newest message out of sight.
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(this.#scroll);
    byId("logs").append(this.#scroll);
  }

  get hidden() {
    return this.#scroll.hidden;
  }

  /** Show this room's conversation where the reader left it. */
  show() {
    this.#scroll.hidden = false;
    if (this.#atEnd) this.toEnd();
    else this.#scroll.scrollTop = this.#top;
    this.#button.hidden = !this.#missed;
    // What is uncovered has been said before: only what is added from now on is read out.
    requestAnimationFrame(() => this.#log.setAttribute("aria-live", "polite"));
  }

  hide() {
    this.#top = this.#scroll.scrollTop;
    this.#log.setAttribute("aria-live", "off");
    this.#scroll.hidden = true;
  }

  remove() {
    this.#scroll.remove();
  }

  /** Note that what was said before is here. */
  ready() {
    this.#log.removeAttribute("aria-busy");
    this.#empty.textContent = "Nothing has been said here yet.";
  }

  /** Add a message; `own` puts it on the reader's side, with what became of it in `state`. Returns its handle. */
  say({ from, text, at, own = false, state = null }) {
    const said = copyOf("said-template");
    said.querySelector(".line").textContent = text;
    const message = { said, from, at };
    if (own) this.mark(message, state);
    else said.querySelector(".mark").remove();
    this.#append(said, this.#turnFor(from, at, own));
    this.#added(own && state === "sending");
    return message;
  }

  /** Say what became of an own message. */
  mark({ said }, state) {
    said.dataset.state = state;
    said.querySelector(".mark").setAttribute("aria-label", STATES[state]);
    if (said.nextElementSibling?.classList.contains("note")) said.nextElementSibling.remove();
  }

  /** Mark an own message as failed, with the reason and a way to send it again. */
  fail(message, sentence, again) {
    this.mark(message, "failed");
    const note = document.createElement("p");
    note.className = "note";
    note.append(`${sentence} `);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = "Send again";
    button.addEventListener("click", again);
    note.append(button);
    message.said.after(note);
    this.#added(false);
  }

  /** Mark an own message as delivered, and move it behind what others said before it in the room's order. */
  arrived(message, at) {
    this.mark(message, "delivered");
    const all = [...this.#log.getElementsByClassName("said")];
    const later = all.slice(all.indexOf(message.said) + 1);
    if (!later.some(({ dataset }) => dataset.state === undefined || dataset.state === "delivered")) return;
    this.#remove(message.said);
    this.#append(message.said, this.#turnFor(message.from, at, true));
    this.#added(false);
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

  /** Follow the newest message again. */
  toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#atEnd = true;
    this.#missed = false;
    if (!this.hidden) this.#button.hidden = true;
  }

  #append(said, turn) {
    turn.append(said);
    turn.querySelector(".said").classList.add("first");
  }

  #turnFor(from, at, own) {
    this.#dayFor(at);
    const last = this.#last;
    if (last?.from === from && last.own === own && at - last.at < TURN_MS) return last.turn;
    const turn = copyOf("turn-template");
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

  #added(written) {
    this.#empty.hidden = true;
    this.#trim();
    if (this.#atEnd || written) this.toEnd();
    else {
      this.#missed = true;
      if (!this.hidden) this.#button.hidden = false;
    }
  }

  #remove(said) {
    const turn = said.parentElement;
    if (said.nextElementSibling?.classList.contains("note")) said.nextElementSibling.remove();
    said.remove();
    said.classList.remove("first");
    const first = turn.querySelector(".said");
    if (first === null) turn.remove();
    else first.classList.add("first");
    if (this.#last?.turn === turn && !turn.isConnected) this.#last = null;
  }

  #trim() {
    const all = this.#log.getElementsByClassName("said");
    while (all.length > LINES_KEPT) {
      const first = this.#log.firstElementChild;
      const said = first.querySelector(".said");
      if (said) this.#remove(said);
      else first.remove();
    }
    const notices = this.#log.getElementsByClassName("notice");
    while (notices.length > NOTICES_KEPT) notices[0].remove();
  }

  #scrolled() {
    // A region that is hidden scrolls to nowhere.
    if (this.hidden) return;
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#atEnd) {
      this.#missed = false;
      this.#button.hidden = true;
    }
  }
}
