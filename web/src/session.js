/*
 * Who is signed in: the HTTP side of the page.
 *
 * Every call either returns what the server said or throws a `Problem`, whose `sentence` can be shown as it is.
 * What to show, and when, is left to the views. Nothing is kept: the session is a cookie no script can read.
 */

const DEADLINE_MS = 15_000;

const SENTENCES = {
  bad_request: "The server did not understand the request. Load the page again and retry.",
  body_too_large: "That is more than the server accepts.",
  busy: "The server is busy. Wait a moment and try again.",
  draining: "The server is restarting. Try again in a moment.",
  forbidden: "You are not allowed to do this.",
  host_unknown: "The server does not answer to this address. Open the page by the address it was started with.",
  internal: "Something went wrong on the server.",
  network: "The server cannot be reached. Check your connection and try again.",
  origin_forbidden: "The server does not accept requests from this page's address.",
  origin_missing: "The browser did not say where the request came from, so the server refused it.",
  rate_limited: "Too many attempts.",
  server_full: "The server is full. Try again later.",
  session_invalid: "You are signed out.",
  sign_in_failed: "Name and password do not match.",
  username_invalid: "This name cannot be used. Use letters, digits, dots, dashes and underscores, 64 at most, and start with a letter or digit.",
  username_taken: "This name is taken. Choose another.",
};

/** What went wrong with a request: the server's `code` and `id`, or code `network` where no answer came. */
export class Problem extends Error {
  constructor(code, { status = 0, id = "", retryAfter = null } = {}) {
    super(code);
    this.code = code;
    this.status = status;
    this.id = id;
    this.retryAfter = retryAfter;
  }

  get sentence() {
    const known = Object.hasOwn(SENTENCES, this.code);
    const sentence = known ? SENTENCES[this.code] : "The server refused this.";
    if (this.retryAfter === null) return sentence;
    return `${sentence} Try again in ${span(this.retryAfter)}.`;
  }
}

/** Say a number of seconds in words. */
export function span(seconds) {
  const hours = seconds >= 7_200 || seconds === 3_600;
  const [count, unit] = hours ? [seconds / 3_600, "hour"] : seconds < 90 ? [seconds, "second"] : [seconds / 60, "minute"];
  const rounded = Math.max(1, Math.round(count));
  return `${rounded} ${unit}${rounded === 1 ? "" : "s"}`;
}

/** Return `{user, role}` of the session the browser holds, or null where it holds none. */
export async function current() {
  try {
    return await request("GET", "/auth/sessions");
  } catch (problem) {
    if (problem.status === 401) return null;
    throw problem;
  }
}

/** Sign in with `{username, password}`, `{link}` or `{link, username}`; return `{user, role}`. */
export const signIn = (credentials) => request("POST", "/auth/login", credentials);

/** End the session, and with it every connection that rests on it. */
export const signOut = () => request("POST", "/auth/logout", {});

/** Return `{link, expires_in}`: an address that signs one new person in, once. */
export async function invite() {
  const made = await request("POST", "/auth/links", { role: "user" });
  // The secret stands behind the #: no browser sends that part to any server, no log holds it.
  const link = made.link.includes("#") ? made.link : `${location.origin}/#link=${encodeURIComponent(made.link)}`;
  return { link, expires_in: made.expires_in };
}

async function request(method, path, body) {
  const options = { method, credentials: "same-origin", cache: "no-store", redirect: "error", headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response, text;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(DEADLINE_MS) });
    text = await response.text();
  } catch {
    throw new Problem("network");
  }
  const answer = parsed(text);
  if (!response.ok) throw problemOf(response, answer);
  // An answer that was cut off says nothing, least of all that nobody is signed in.
  if (answer === null && text !== "") throw new Problem("network");
  return answer;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function problemOf(response, answer) {
  const code = typeof answer?.code === "string" ? answer.code : response.status >= 500 ? "internal" : "bad_request";
  const id = typeof answer?.id === "string" ? answer.id : "";
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Problem(code, { status: response.status, id, retryAfter: Number.isFinite(seconds) ? seconds : null });
}
