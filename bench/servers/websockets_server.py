"""`websockets`' own asyncio server, with its defaults except compression. PORT CERTIFICATE KEY."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handle(connection: ServerConnection) -> None:
    path = connection.request.path if connection.request is not None else "/"
    if path == "/echo":
        async for message in connection:
            await connection.send(message)
        return
    room = rooms[path]
    room.add(connection)
    try:
        async for message in connection:
            broadcast(room - {connection}, message)
    finally:
        room.discard(connection)


async def main(port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serve(handle, "127.0.0.1", port, ssl=context, compression=None) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
