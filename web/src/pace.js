/*
 * Keeps the page's own questions (presence, history) far below the rate at which the server objects: one at a time and
 * so many a second, so that whoever writes has the rest. All tabs of a user share one allowance.
 */

const SPACING_MS = 250;

export class Pace {
  #waiting = [];
  #running = false;
  #readyAt = 0;

  /** Do something when it is its turn; what is `urgent` goes before all that is not. */
  do(question, { urgent = false } = {}) {
    if (urgent) this.#waiting.unshift(question);
    else this.#waiting.push(question);
    if (!this.#running) this.#run();
  }

  /** Forget what waits. */
  clear() {
    this.#waiting = [];
  }

  async #run() {
    this.#running = true;
    while (this.#waiting.length > 0) {
      const waitMs = this.#readyAt - Date.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      const question = this.#waiting.shift();
      if (question === undefined) break;
      this.#readyAt = Date.now() + SPACING_MS;
      await question().catch(() => {});
    }
    this.#running = false;
  }
}
