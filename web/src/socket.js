/*
 * The sockets that the SDK dials, with what the SDK does not tell of them: when one is dialled, whether it opened,
 * the code it closed with, and the time of each publication.
 */

/**
 * Return the class for the SDK's option `websocket`.
 *
 * `onDial()` is called for each attempt, `onClose({code, opened})` at its end, before the SDK hears of it, and only
 * for the newest socket: what an overtaken one still reports is ignored.
 */
export function watched({ onDial, onClose }) {
  let newest = null;
  return class Watched extends WebSocket {
    constructor(url) {
      super(url);
      newest = this;
      let opened = false;
      this.addEventListener("open", () => (opened = true));
      this.addEventListener("close", ({ code }) => this === newest && onClose({ code, opened }));
      onDial();
    }

    set onmessage(handler) {
      super.onmessage = ({ data }) => handler({ data: withTimes(data) });
    }
  };
}

/** Copy the time of publications into their tags: the SDK hands on tags, and drops the time. */
export function withTimes(text) {
  return text.includes('"time"') ? text.split("\n").map(timed).join("\n") : text;
}

function timed(line) {
  let reply;
  try {
    reply = JSON.parse(line);
  } catch {
    return line;
  }
  const found = reply?.push?.pub ? [reply.push.pub] : (reply?.subscribe ?? reply?.history)?.publications;
  if (!Array.isArray(found)) return line;
  for (const pub of found) {
    if (typeof pub.time === "number") pub.tags = { ...pub.tags, time: String(pub.time) };
  }
  return JSON.stringify(reply);
}
