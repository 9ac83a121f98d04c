// Node `ws`, with its defaults (compression is off in them). PORT CERTIFICATE KEY.
const { readFileSync } = require("node:fs");
const { createServer } = require("node:https");
const { WebSocket, WebSocketServer } = require("ws");

const [port, certificate, key] = process.argv.slice(2);
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
const sockets = new WebSocketServer({ server });
const rooms = new Map();

sockets.on("connection", (socket, request) => {
  if (request.url === "/echo") {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  if (!rooms.has(request.url)) rooms.set(request.url, new Set());
  const room = rooms.get(request.url);
  room.add(socket);
  socket.on("close", () => room.delete(socket));
  socket.on("message", (data, isBinary) => {
    for (const other of room) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary: isBinary });
    }
  });
});
server.listen(Number(port), "127.0.0.1");
