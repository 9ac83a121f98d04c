/*
 * The chat view: which rooms there are, which of them is open, and what each part of the page shows of it.
 *
 * When to connect is `connection.js`'s decision, what happens in a room `room.js`'s, how it looks `log.js`'s. The
 * names of the rooms are kept for as long as the tab lives; nothing survives `clear()`.
 */

import { Composer } from "./composer.js";
import { Invite } from "./invite.js";
import { RoomList, showPeople } from "./lists.js";
import { Log } from "./log.js";
import { Pace } from "./pace.js";
import { NAME, Room } from "./room.js";
import { Status } from "./status.js";

const byId = (id) => document.getElementById(id);
/** The room everyone is in. */
const LOBBY = "lobby";
/** They are all subscribed at once with `connect`, which the server counts as so many messages: half of a burst. */
const ROOMS_MAX = 8;
const FULL = `You can be in ${ROOMS_MAX} rooms at once. Leave one first.`;
const REFUSED = "You are not allowed in this room.";
const STORE = "sockade.rooms";

export class Chat {
  #connection;
  #onStranger;
  #pace = new Pace();
  #composer = new Composer({ onSay: (text) => this.#open.say(text) });
  #invite = new Invite();
  #status;
  #list;
  #rooms = [];
  #open = null;
  #user = "";
  #connected = false;
  #unread = 0;

  /** `onStranger` hears that the server knows the reader by another name. */
  constructor({ connection, onSignOut, onStranger }) {
    this.#connection = connection;
    this.#onStranger = onStranger;
    this.#status = new Status({ onRetry: () => connection.retry() });
    this.#list = new RoomList({
      onJoin: (name) => this.#join(name),
      onOpen: (room) => this.#show(room),
      onLeave: (room) => this.#leave(room),
    });
    byId("sign-out").addEventListener("click", onSignOut);
    byId("new-messages").addEventListener("click", () => this.#open.log.toEnd());
    document.addEventListener("visibilitychange", () => document.hidden || this.#read());
  }

  /** Show the chat to `user`, on a connection that is open and not yet connected. */
  enter({ user, role }) {
    this.#user = user;
    this.#invite.offer(role === "admin");
    byId("chat").hidden = false;
    const { names, open } = remembered();
    this.#rooms = names.map((name) => this.#room(name));
    this.#show(this.#rooms.find(({ name }) => name === open) ?? this.#rooms[0]);
  }

  /** Hide the chat and leave nothing of it in the page. */
  clear() {
    byId("chat").hidden = true;
    this.#invite.close();
    for (const id of ["people", "rooms"]) byId(id).hidePopover();
    this.#pace.clear();
    for (const room of this.#rooms) room.leave();
    this.#rooms = [];
    this.#open = null;
    this.#connected = false;
    this.#composer.enable(false);
    this.#composer.draft = "";
    this.#composer.address("");
    this.#list.clear();
    byId("people-list").replaceChildren();
    this.#status.clear();
    this.#user = "";
    sessionStorage.removeItem(STORE);
    this.#read();
  }

  /** Show what became of the connection. */
  state(state) {
    this.#connected = state.name === "connected";
    this.#status.show(state);
    if (this.#open) this.#changed(this.#open);
  }

  /** Say why signing out failed. */
  stillSignedIn(problem) {
    this.#open.log.notice(`You are still signed in. ${problem.sentence}`);
  }

  #room(name) {
    const log = new Log(name);
    const told = {
      said: (room, own) => this.#said(room, own),
      changed: (room) => this.#changed(room),
      refused: (room) => this.#refused(room),
      stranger: () => this.#onStranger(),
    };
    return new Room({ name, user: this.#user, log, connection: this.#connection, pace: this.#pace, told });
  }

  #join(name) {
    let room = this.#rooms.find((known) => known.name === name);
    if (!room) {
      if (this.#rooms.length >= ROOMS_MAX) return FULL;
      room = this.#room(name);
      this.#rooms.push(room);
    }
    this.#show(room);
    return null;
  }

  #leave(room) {
    const index = this.#rooms.indexOf(room);
    this.#rooms.splice(index, 1);
    room.leave();
    if (room === this.#open) this.#show(this.#rooms[index - 1] ?? this.#rooms[0]);
    else this.#showRooms();
  }

  #refused(room) {
    if (room.name === LOBBY) {
      // There is always a room to show.
      room.log.notice(REFUSED);
      this.#changed(room);
      return;
    }
    this.#leave(room);
    this.#list.complain(REFUSED);
  }

  #show(room) {
    const before = this.#open;
    if (before && before !== room) {
      before.draft = this.#composer.draft;
      before.log.hide();
    }
    if (before !== room) this.#composer.draft = room.draft;
    this.#open = room;
    room.log.show();
    this.#composer.address(room.name);
    this.#read();
    this.#changed(room);
    byId("rooms").hidePopover();
    // On a touch screen this would open the keyboard over a page nobody has seen yet.
    if (matchMedia("(hover: hover)").matches) this.#composer.focus();
  }

  #showRooms() {
    this.#list.show(this.#rooms, this.#open, LOBBY);
    sessionStorage.setItem(STORE, JSON.stringify({ names: this.#rooms.map(({ name }) => name), open: this.#open.name }));
  }

  #changed(room) {
    if (room !== this.#open) return;
    showPeople(room.present.names, this.#user);
    this.#composer.enable(this.#connected && room.live);
  }

  #said(room, own) {
    if (own) return;
    if (room !== this.#open) {
      room.unread += 1;
      this.#showRooms();
    }
    if (!document.hidden) return;
    this.#unread += 1;
    document.title = `(${this.#unread}) Sockade`;
  }

  #read() {
    this.#unread = 0;
    document.title = "Sockade";
    if (this.#open === null) return;
    this.#open.unread = 0;
    this.#showRooms();
  }
}

/** Return the rooms of this tab: the lobby, and those that were joined. What is stored may be anything. */
function remembered() {
  let stored = null;
  try {
    stored = JSON.parse(sessionStorage.getItem(STORE));
  } catch {
    // Then there is nothing to remember.
  }
  const names = Array.isArray(stored?.names) ? stored.names.filter((name) => typeof name === "string" && NAME.test(name)) : [];
  return { names: [...new Set([LOBBY, ...names])].slice(0, ROOMS_MAX), open: stored?.open };
}
