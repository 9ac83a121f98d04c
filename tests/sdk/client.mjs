// The official JavaScript SDK, unmodified, told what to do by lines of JSON on standard input. Each line gets one line
// of answer, and every event of the SDK is a line of its own. Only what the SDK leaves to its user stands here.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [url, ca, headers] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const { readFileSync } = await import("node:fs");
const trusted = readFileSync(ca);
const sockets = new Set();

class Socket extends WebSocket {
  constructor(address, protocols) {
    super(address, protocols, { ca: trusted, headers });
    sockets.add(this);
    this.addEventListener("close", () => sockets.delete(this));
  }
}

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const queue = [];
const waiting = [];

function token(kind) {
  return async (context) => {
    say({ event: "token", kind, channel: context.channel });
    if (queue.length) return queue.shift();
    return new Promise((resolve) => waiting.push(resolve));
  };
}

const plain = (context) =>
  JSON.parse(JSON.stringify(context, (_, value) => (value instanceof Error ? String(value) : value)));

function listen(target, kinds, more = {}) {
  for (const kind of kinds) target.on(kind, (context) => say({ event: kind, ...more, ...plain(context) }));
}

let client;
const subscriptions = new Map();
const SUBSCRIPTION = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];
const CLIENT = [
  "connecting", "connected", "disconnected", "message", "error",
  "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave",
];

const does = {
  ready() {},
  open({ options }) {
    const { tokens, subprotocols, ...rest } = options;
    // A page puts its ticket beside the subprotocol in the same way: by the WebSocket it hands to the SDK.
    const socket = subprotocols ? class extends Socket { constructor(address) { super(address, subprotocols); } } : Socket;
    client = new Centrifuge(url, { websocket: socket, minReconnectDelay: 20, maxReconnectDelay: 200, ...rest,
      ...(tokens ? { getToken: token("connection") } : {}) });
    listen(client, CLIENT);
    client.connect();
  },
  give({ token }) {
    if (waiting.length) waiting.shift()(token);
    else queue.push(token);
  },
  subscribe({ channel, options }) {
    const { tokens, ...rest } = options;
    const made = client.newSubscription(channel, { minResubscribeDelay: 20, ...rest,
      ...(tokens ? { getToken: token("subscription") } : {}) });
    subscriptions.set(channel, made);
    listen(made, SUBSCRIPTION, { channel });
    made.subscribe();
  },
  unsubscribe: ({ channel }) => subscriptions.get(channel).unsubscribe(),
  again: ({ channel }) => subscriptions.get(channel).subscribe(),
  publish: ({ channel, data }) => client.publish(channel, data),
  history: ({ channel, options }) => client.history(channel, options),
  presence: ({ channel }) => client.presence(channel),
  presence_stats: ({ channel }) => client.presenceStats(channel),
  rpc: ({ method, data }) => client.rpc(method, data),
  send: ({ data }) => client.send(data),
  cut() {
    for (const socket of sockets) socket.terminate();
  },
  close: () => client.disconnect(),
  reopen: () => client.connect(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: what, ...rest } = JSON.parse(line);
  Promise.resolve()
    .then(() => does[what](rest))
    .then((result) => say({ id, result: result === undefined ? null : plain(result) }))
    .catch((error) => say({ id, error: { code: error.code ?? 0, message: String(error.message ?? error) } }));
}
process.exit(0);
