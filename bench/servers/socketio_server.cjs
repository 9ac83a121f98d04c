// Socket.IO on Node, with its defaults; its clients connect by WebSocket at once. PORT CERTIFICATE KEY.
const { readFileSync } = require("node:fs");
const { createServer } = require("node:https");
const { Server } = require("socket.io");

const [port, certificate, key] = process.argv.slice(2);
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
const io = new Server(server, { perMessageDeflate: false });

io.on("connection", (socket) => {
  const { room = "all", echo } = socket.handshake.query;
  if (echo) {
    socket.on("m", (text) => socket.emit("m", text));
    return;
  }
  socket.join(room);
  socket.on("m", (text) => socket.to(room).emit("m", text));
});
server.listen(Number(port), "127.0.0.1");
