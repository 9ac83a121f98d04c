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
    const focused = document.activeElement?.closest("#room-list [data-room]")?.dataset.room;
    byId("room-list").replaceChildren(...rooms.map((room) => this.#row(room, current, kept)));
    if (focused) byId("room-list").querySelector(`[data-room="${focused}"] .room`)?.focus();
    const elsewhere = rooms.reduce((sum, room) => sum + room.unread, 0);
    byId("rooms-button-name").textContent = current.name;
    byId("rooms-button-unread").hidden = elsewhere === 0;
    byId("room-title").textContent = current.name;
  }

  clear() {
    byId("room-list").replaceChildren();
    byId("room-name").value = "";
    byId("rooms-button-name").textContent = "";
    byId("room-title").textContent = "";
    this.complain("");
  }

  #row(room, current, kept) {
    const row = copyOf("room-template");
    row.dataset.room = room.name;
    const button = row.querySelector(".room");
    button.querySelector(".name").textContent = room.name;
    if (room === current) button.setAttribute("aria-current", "page");
    button.addEventListener("click", () => this.#onOpen(room));
    const unread = row.querySelector(".unread");
    unread.hidden = room.unread === 0;
    unread.querySelector(".number").textContent = room.unread > 99 ? "99+" : String(room.unread);
    const leave = row.querySelector(".leave");
    leave.hidden = room.name === kept;
    leave.setAttribute("aria-label", `Leave ${room.name}`);
    leave.addEventListener("click", () => this.#onLeave(room));
    return row;
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
