/*
 * What the reader is told of the connection: a word beside the name of the page, and a bar above the composer while
 * there is something to wait for or to do.
 */

const byId = (id) => document.getElementById(id);

const LABELS = {
  connecting: ({ again }) => (again ? "Reconnecting…" : "Connecting…"),
  connected: () => "Connected",
  waiting: ({ online }) => (online ? "Reconnecting" : "Offline"),
  stopped: () => "Disconnected",
};

const BARS = {
  connecting: ({ again }) => (again ? "Reconnecting… What you type is kept." : ""),
  connected: () => "",
  waiting: ({ online }) => (online ? "Connection lost. What you type is kept." : "You are offline. What you type is kept."),
  stopped: ({ sentence }) => sentence,
};

export class Status {
  constructor({ onRetry }) {
    byId("bar-button").addEventListener("click", onRetry);
  }

  /** Show a state of the connection. */
  show(state) {
    byId("connection").dataset.state = state.name;
    byId("connection-text").textContent = LABELS[state.name](state);
    const text = BARS[state.name](state);
    this.#bar(text);
    byId("bar-button").textContent = state.name === "stopped" ? "Reconnect" : "Try now";
    byId("bar-button").hidden = state.name === "connecting";
    this.announce(text || (state.again ? "Connected again." : ""));
  }

  /** Have a screen reader say something. */
  announce(text) {
    const announcer = byId("announcer");
    if (announcer.textContent !== text) announcer.textContent = text;
  }

  clear() {
    this.#bar("");
    byId("announcer").textContent = "";
  }

  #bar(text) {
    const bar = byId("bar");
    // A focused button that vanishes would drop a keyboard user at the top of the page.
    if (text === "" && bar.contains(document.activeElement)) byId("message").focus();
    bar.hidden = text === "";
    byId("bar-text").textContent = text;
  }
}
