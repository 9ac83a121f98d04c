/* Invitations: a dialog that makes a link for one new person and helps to copy it. */

import * as session from "./session.js";
import { showProblem } from "./signin.js";

const byId = (id) => document.getElementById(id);

export class Invite {
  constructor() {
    byId("invite-button").addEventListener("click", () => this.#make());
    byId("invite-copy").addEventListener("click", () => this.#copy());
    byId("invite-close").addEventListener("click", () => this.close());
    byId("invite").addEventListener("close", () => this.#clear());
  }

  /** Say whether this reader may invite. */
  offer(offered) {
    byId("invite-button").hidden = !offered;
  }

  close() {
    byId("invite").close();
  }

  async #make() {
    this.#clear();
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

  #clear() {
    byId("invite-text").textContent = "Making a link…";
    byId("invite-link").value = "";
    byId("invite-result").hidden = true;
    byId("invite-copied").textContent = "";
    showProblem(byId("invite-error"), null);
  }
}
