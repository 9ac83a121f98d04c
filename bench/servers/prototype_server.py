"""What Sockade is built on, without Sockade: sans-I/O `websockets` on uvloop and aiofastnet. PORT CERTIFICATE KEY.

No checks, no identities, no deadlines, no bounds. `/` and every other path write a message to each client there at
once, `/joined` joins what one turn of the loop brings into one write, `/echo` sends it back.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import defaultdict

import aiofastnet
import uvloop
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

rooms: defaultdict[str, set[Prototype]] = defaultdict(set)
due: list[Prototype] = []


class Prototype(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.protocol = ServerProtocol(max_size=65_536)
        self.path = ""
        self.outbox: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.path = event.path
                self.protocol.send_response(self.protocol.accept(event))
                if self.path != "/echo" and self.protocol.state is State.OPEN:
                    rooms[self.path].add(self)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.message(Frame(Opcode.TEXT, str(event.data, "utf-8").encode()).serialize(mask=False))
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()

    def message(self, data: bytes) -> None:
        if self.path == "/echo":
            self.transport.write(data)
        elif self.path == "/joined":
            for other in rooms[self.path]:
                if other is not self:
                    if not other.outbox:
                        due.append(other)
                    other.outbox.append(data)
            asyncio.get_running_loop().call_soon(flush)
        else:
            for other in rooms[self.path]:
                if other is not self:
                    other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        rooms[self.path].discard(self)


def flush() -> None:
    for one in due:
        one.transport.write(b"".join(one.outbox))
        one.outbox.clear()
    due.clear()


async def main(port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await aiofastnet.create_server(loop, Prototype, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
