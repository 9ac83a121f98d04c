/*
 * Where a message is written: Enter sends, Shift+Enter breaks the line, and what is too long stays.
 *
 * What is typed survives every break of the connection: it leaves the box only when `onSay(text)` has taken it.
 */

const byId = (id) => document.getElementById(id);
const TEXT_MAX = 2_000;
const COUNTER_FROM = 1_800;

/** Count characters as the server does: code points, not UTF-16 units. */
const lengthOf = (text) => [...text].length;

export class Composer {
  #box = byId("message");
  #enabled = false;

  constructor({ onSay }) {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (byId("send").disabled) return;
      onSay(this.#box.value.trim());
      this.draft = "";
      this.focus();
    });
    this.#box.addEventListener("input", () => this.#typed());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
  }

  get draft() {
    return this.#box.value;
  }

  set draft(text) {
    this.#box.value = text;
    this.#typed();
  }

  /** Say whether what is sent now would arrive. */
  enable(enabled) {
    this.#enabled = enabled;
    this.#typed();
  }

  /** Say where messages go: to a room, or nowhere yet. */
  address(room) {
    this.#box.placeholder = room ? `Message #${room}` : "";
  }

  focus() {
    this.#box.focus();
  }

  #key(event) {
    // During composition Enter chooses a candidate (229 is how Safari says so).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  }

  #typed() {
    const length = lengthOf(this.#box.value.trim());
    const left = TEXT_MAX - length;
    const counter = byId("counter");
    counter.hidden = length < COUNTER_FROM;
    counter.textContent = left >= 0 ? `${left} left` : `${-left} too many`;
    counter.classList.toggle("over", left < 0);
    this.#box.setAttribute("aria-invalid", String(left < 0));
    // For browsers without `field-sizing`; the others grow by themselves.
    this.#box.rows = Math.min(6, this.#box.value.split("\n").length);
    byId("send").disabled = !this.#enabled || length === 0 || left < 0;
  }
}
