/* The two lists beside the conversation: the rooms one is in, with the form that joins another, and who is here. */

import { copyOf, dressAvatar } from "./log.js";
import { NAME } from "./room.js";

const byId = (id) => document.getElementById(id);
const NAME_HELP = "Use letters from a to z, digits, dashes and underscores; 32 at most.";

/** Return the room's name that somebody means who types `# Design Team`. */
export const roomName = (typed) => typed.trim().replace(/^#\s*/, "").toLowerCase().replace(/\s+/g, "-");

export class RoomList {
  #onOpen;
  #onLeave;
  #rows = new Map();

  /** `onJoin(name)` returns why the room cannot be joined, or nothing. */
  constructor({ onJoin, onOpen, onLeave }) {
    this.#onOpen = onOpen;
    this.#onLeave = onLeave;
    const field = byId("room-name");
    byId("join").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = roomName(field.value);
      const problem = NAME.test(name) ? onJoin(name) : NAME_HELP;
      this.complain(problem ?? "");
      if (problem) field.focus();
      else field.value = "";
    });
    field.addEventListener("input", () => this.complain(""));
  }

  /** Say what is wrong with the name of a room. */
  complain(problem) {
    byId("join-error").textContent = problem;
    byId("room-name").setAttribute("aria-invalid", String(problem !== ""));
  }

  /** Show the rooms; `current` is open, and `kept` cannot be left. */
  show(rooms, current, kept) {
    this.#rows = new Map(rooms.map((room) => [room, this.#rows.get(room) ?? this.#row(room, kept)]));
    this.#place([...this.#rows.values()]);
    for (const [room, row] of this.#rows) this.#fill(row, room, current);
    const elsewhere = rooms.reduce((sum, room) => sum + room.unread, 0);
    byId("rooms-button-name").textContent = current.name;
    byId("rooms-button-unread").hidden = elsewhere === 0;
    byId("room-title").textContent = current.name;
  }

  clear() {
    this.#rows.clear();
    byId("room-list").replaceChildren();
    byId("room-name").value = "";
    byId("rooms-button-name").textContent = "";
    byId("room-title").textContent = "";
    this.complain("");
  }

  /** Put the rows in, unless they are: one that is put in again loses the focus, and the click that is under way. */
  #place(rows) {
    const list = byId("room-list");
    if (list.childElementCount === rows.length && rows.every((row, at) => row === list.children[at])) return;
    const focused = document.activeElement;
    list.replaceChildren(...rows);
    if (list.contains(focused)) focused.focus();
  }

  #row(room, kept) {
    const row = copyOf("room-template");
    row.dataset.room = room.name;
    row.querySelector(".name").textContent = room.name;
    row.querySelector(".room").addEventListener("click", () => this.#onOpen(room));
    const leave = row.querySelector(".leave");
    leave.hidden = room.name === kept;
    leave.setAttribute("aria-label", `Leave ${room.name}`);
    leave.addEventListener("click", () => this.#onLeave(room));
    return row;
  }

  #fill(row, room, current) {
    const button = row.querySelector(".room");
    if (room === current) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
    const unread = row.querySelector(".unread");
    unread.hidden = room.unread === 0;
    unread.querySelector(".number").textContent = room.unread > 99 ? "99+" : String(room.unread);
  }
}

/** Show who is here, the reader first. */
export function showPeople(names, user) {
  const others = names.filter((name) => name !== user);
  const rows = [user, ...others].map((name) => {
    const row = copyOf("person-template");
    row.querySelector(".speaker").textContent = name;
    row.querySelector(".you").hidden = name !== user;
    dressAvatar(row.querySelector(".avatar"), name);
    return row;
  });
  byId("people-list").replaceChildren(...rows);
  byId("people-count").textContent = String(rows.length);
  byId("people-button-count").textContent = String(rows.length);
}
