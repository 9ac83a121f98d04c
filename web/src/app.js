/*
 * The page: decides which view shows, and hands each part its collaborators.
 *
 *   opening ──no session──▶ sign-in ──signed in──▶ chat ──signed out, session over──▶ sign-in
 *      └──────session──────────────────────────────▲
 */

import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import * as session from "./session.js";
import { SignIn, takeLink } from "./signin.js";

const signIn = new SignIn({ onSignedIn: enter });
const connection = new Connection({
  url: `wss://${location.host}/connection/websocket`,
  session: stillSignedIn,
  onState: changed,
});
const chat = new Chat({ connection, onSignOut: signOut, onStranger: () => startOver() });
let user = null;

async function begin(link = null, note = "") {
  signIn.opening();
  let who;
  try {
    who = await session.current();
  } catch (problem) {
    signIn.opening(problem, () => begin(link, note));
    return;
  }
  // Without the question, a link sent by somebody else could put a reader into somebody else's account unnoticed.
  if (who && (link === null || !(await signIn.askAboutLink(who.user)))) enter(who);
  else if (link !== null) await signIn.byLink(link);
  else signIn.form(note);
}

function enter(who) {
  user = who.user;
  document.getElementById("start").hidden = true;
  connection.open();
  chat.enter(who);
  connection.connect();
}

function leave() {
  connection.close();
  chat.clear();
  user = null;
}

// The browser may hold another session by now: another tab can have signed somebody else in.
function startOver(link = null, note = "") {
  leave();
  begin(link, note);
}

async function signOut() {
  // Our own socket goes first: its end with 3005 can overtake the answer and would read as a session that ran out.
  connection.pause();
  try {
    await session.signOut();
  } catch (problem) {
    // Only a server that says there is no session, or ends it, has signed anybody out.
    if (problem.status !== 401) {
      chat.stillSignedIn(problem);
      connection.connect();
      return;
    }
  }
  leave();
  signIn.form("You are signed out.");
}

function changed(state) {
  if (state.name === "ended") startOver(null, "Your session has ended. Sign in again.");
  else chat.state(state);
}

async function stillSignedIn() {
  try {
    const who = await session.current();
    return who !== null && who.user === user ? "in" : "out";
  } catch {
    return "unknown";
  }
}

// Where the keyboard covers the page instead of shrinking it (Safari), the page gives way itself.
function giveWay() {
  const hidden = innerHeight - visualViewport.height - visualViewport.offsetTop;
  document.documentElement.style.setProperty("--keyboard", `${Math.max(0, Math.round(hidden))}px`);
}
visualViewport?.addEventListener("resize", giveWay);
visualViewport?.addEventListener("scroll", giveWay);

addEventListener("hashchange", () => {
  const link = takeLink();
  if (link !== null) startOver(link);
});

begin(takeLink());
