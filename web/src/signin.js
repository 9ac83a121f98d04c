/*
 * The views before the chat: opening, sign-in, choosing a name, and what to do with a link when one is signed in already.
 *
 * Exactly one of them shows at a time. Whoever gets through is handed to `onSignedIn({user, role})`; the secret of a
 * link lives in a variable here until it is used and nowhere else.
 */

import * as session from "./session.js";

const byId = (id) => document.getElementById(id);
const CARDS = ["opening", "sign-in", "choose-name", "link-question"];

/** Take a sign-in link's secret out of the address, so that neither history nor a copied address holds it. */
export function takeLink() {
  const secret = new URLSearchParams(location.hash.slice(1)).get("link");
  if (secret !== null) history.replaceState(null, "", location.pathname);
  return secret;
}

/** Show what went wrong, with the id to find it in the server's log by; without a problem, show nothing. */
export function showProblem(place, problem) {
  place.replaceChildren();
  if (!problem) return;
  const sentence = document.createElement("p");
  sentence.textContent = problem.sentence;
  place.append(sentence);
  if (problem.id) {
    const reference = document.createElement("small");
    reference.textContent = `Reference ${problem.id}`;
    place.append(reference);
  }
}

export class SignIn {
  #onSignedIn;
  #link = null;
  #retry = () => {};

  constructor({ onSignedIn }) {
    this.#onSignedIn = onSignedIn;
    byId("sign-in").addEventListener("submit", (event) => this.#byPassword(event));
    byId("choose-name").addEventListener("submit", (event) => this.#byName(event));
    byId("opening-retry").addEventListener("click", () => this.#retry());
    byId("show-password").addEventListener("click", () => this.#revealPassword(byId("password").type === "password"));
  }

  /** Show that the server is being asked or, with a problem, that it cannot be, and offer to ask again. */
  opening(problem = null, retry = () => {}) {
    this.#retry = retry;
    byId("opening").setAttribute("aria-busy", String(problem === null));
    byId("opening-text").textContent = problem === null ? "Connecting…" : problem.sentence;
    byId("opening-retry").hidden = problem === null;
    this.#show("opening", problem && "opening-retry");
  }

  /** Show the sign-in form, with a sentence on why. */
  form(note = "") {
    this.clear();
    byId("sign-in-note").textContent = note;
    byId("sign-in-note").hidden = note === "";
    this.#show("sign-in", "username");
  }

  /** Sign in by a link's secret; asks for a name where the link leaves that open. */
  async byLink(secret) {
    this.opening();
    this.#link = secret;
    try {
      this.#done(await session.signIn({ link: secret }));
    } catch (problem) {
      if (problem.code === "username_required") this.#show("choose-name", "chosen-name");
      else if (problem.status === 401) this.form("This link was used already or has expired. Sign in, or ask for a new one.");
      else this.opening(problem, () => this.byLink(secret));
    }
  }

  /** Ask someone who is signed in whether to use the link: resolves to whether they want to. */
  askAboutLink(user) {
    byId("link-question-user").textContent = user;
    this.#show("link-question", "link-keep");
    return new Promise((resolve) => {
      byId("link-keep").onclick = () => resolve(false);
      byId("link-use").onclick = () => resolve(true);
    });
  }

  /** Forget whatever was typed. */
  clear() {
    this.#link = null;
    this.#revealPassword(false);
    for (const id of ["username", "password", "chosen-name"]) byId(id).value = "";
    for (const id of ["sign-in-error", "choose-name-error"]) showProblem(byId(id), null);
  }

  async #byPassword(event) {
    event.preventDefault();
    const credentials = { username: byId("username").value.trim(), password: byId("password").value };
    await this.#submit("sign-in", credentials, () => byId("password").select());
  }

  async #byName(event) {
    event.preventDefault();
    const credentials = { link: this.#link, username: byId("chosen-name").value.trim() };
    await this.#submit("choose-name", credentials, (problem) => {
      if (problem.status === 401) this.form("This link was used already or has expired. Sign in, or ask for a new one.");
      else byId("chosen-name").select();
    });
  }

  async #submit(form, credentials, onProblem) {
    const button = byId(`${form}-button`);
    if (button.getAttribute("aria-disabled") === "true") return;
    // Not `disabled`: that would take the focus away from whoever pressed it.
    button.setAttribute("aria-disabled", "true");
    showProblem(byId(`${form}-error`), null);
    try {
      this.#done(await session.signIn(credentials));
    } catch (problem) {
      showProblem(byId(`${form}-error`), problem);
      onProblem(problem);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  }

  #done(who) {
    this.clear();
    this.#onSignedIn(who);
  }

  #revealPassword(seen) {
    byId("password").type = seen ? "text" : "password";
    byId("show-password").setAttribute("aria-pressed", String(seen));
    byId("show-password").lastElementChild.textContent = seen ? "Hide" : "Show";
  }

  #show(card, focused) {
    for (const id of CARDS) byId(id).hidden = id !== card;
    byId("start").hidden = false;
    if (focused) byId(focused).focus();
  }
}
