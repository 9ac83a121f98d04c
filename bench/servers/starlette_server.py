"""Starlette on uvicorn (uvicorn[standard]: uvloop, httptools), defaults except compression: PORT CERTIFICATE KEY."""

from __future__ import annotations

import sys
from collections import defaultdict

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

rooms: defaultdict[str, set[WebSocket]] = defaultdict(set)


async def fan_out(socket: WebSocket) -> None:
    await socket.accept()
    room = rooms[socket.url.path]
    room.add(socket)
    try:
        while True:
            message = await socket.receive_text()
            for other in list(room):
                if other is not socket:
                    await other.send_text(message)
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        room.discard(socket)


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


uvicorn.run(
    Starlette(
        routes=[
            WebSocketRoute("/", fan_out),
            WebSocketRoute("/room/{number}", fan_out),
            WebSocketRoute("/echo", echo),
        ]
    ),
    port=int(sys.argv[1]),
    ssl_certfile=sys.argv[2],
    ssl_keyfile=sys.argv[3],
    ws_per_message_deflate=False,
)
