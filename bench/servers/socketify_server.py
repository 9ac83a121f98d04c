"""uWebSockets (C++) by way of socketify, with its defaults except compression. PORT CERTIFICATE KEY."""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppOptions, CompressOptions, OpCode

app = App(AppOptions(cert_file_name=sys.argv[2], key_file_name=sys.argv[3]))


def fan_out(socket: Any, message: str, opcode: OpCode) -> None:
    socket.publish("room", message, opcode)


def echo(socket: Any, message: str, opcode: OpCode) -> None:
    socket.send(message, opcode)


app.ws(
    "/",
    {"compression": CompressOptions.DISABLED, "open": lambda socket: socket.subscribe("room"), "message": fan_out},
)
app.ws("/echo", {"compression": CompressOptions.DISABLED, "message": echo})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
app.run()
