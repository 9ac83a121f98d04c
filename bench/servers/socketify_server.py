"""uWebSockets (C++) by way of socketify, with its defaults except compression. PORT CERTIFICATE KEY."""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppOptions, CompressOptions, OpCode

app = App(AppOptions(cert_file_name=sys.argv[2], key_file_name=sys.argv[3]))


def upgrade(response: Any, request: Any, context: Any) -> None:
    key, protocol, extensions = (
        request.get_header(f"sec-websocket-{name}") for name in ("key", "protocol", "extensions")
    )
    response.upgrade(key, protocol, extensions, context, request.get_url())


def enter(socket: Any) -> None:
    socket.subscribe(socket.get_user_data())


def fan_out(socket: Any, message: str, opcode: OpCode) -> None:
    socket.publish(socket.get_user_data(), message, opcode)


def echo(socket: Any, message: str, opcode: OpCode) -> None:
    socket.send(message, opcode)


room = {"compression": CompressOptions.DISABLED, "upgrade": upgrade, "open": enter, "message": fan_out}
app.ws("/", room)
app.ws("/room/:number", room)
app.ws("/echo", {"compression": CompressOptions.DISABLED, "message": echo})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
app.run()
