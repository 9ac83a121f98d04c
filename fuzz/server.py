"""The whole server in this process, without a port: a door is given bytes and tells what it wrote."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from fuzz.inputs import Found
from sockade.doors.http import Phase
from sockade.doors.listener import Peer
from sockade.doors.ports import bind
from sockade.guard.identity import ConnectionId
from sockade.server import Server
from sockade.settings import AddressSettings, LimitSettings, ServerSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping
    from pathlib import Path

PROXY = "127.0.0.1"
CLIENT = "127.0.0.2"
ROOMY = LimitSettings(handshakes_per_minute=100_000_000, connections_per_address=100_000_000)
PATIENCE = 50
"""Turns after which a request that is incomplete has nothing more to wait for than its client."""
TURNS = 2_000
"""Turns of the loop within which an answer is complete; files are read by threads, so some take longer."""


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and calls back as a real one would."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.2", 1), "sockname": ("127.0.0.1", 8443)})
        self.loop = loop
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.closing = False
        self.lost = False
        self.reading = True

    def write(self, data: Any) -> None:
        if not self.closing:
            self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self.lost = True
        self.protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Rig:
    """A server and everything that went wrong in it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.make_door: Any = server.door()
        self.errors: list[str] = []

    def connect(self, *, proxy: bool = False) -> Wire:
        """Return the transport of a new connection."""
        listener, loop = self.server.listener, self.server.loop
        address = PROXY if proxy else CLIENT
        peer = Peer(listener, ConnectionId("fuzz"), address, loop.time(), is_proxy=proxy)
        listener._peers.add(peer)
        wire = Wire(loop)
        wire.protocol = self.make_door(peer)
        wire.protocol.connection_made(wire)
        return wire

    async def exchange(self, chunks: list[bytes], *, proxy: bool = False) -> bytes:
        """Give a new connection some bytes, and return all it wrote by the time it rests or is gone."""
        wire = self.connect(proxy=proxy)
        door = wire.protocol
        for chunk in chunks:
            if not wire.closing and wire.reading:
                wire.protocol.data_received(chunk)
        for turn in range(TURNS):
            waits = door._phase in (Phase.HEAD, Phase.BODY) and turn > PATIENCE
            if wire.lost or waits or (door._deciding is None and not door._is_answering):
                break
            await asyncio.sleep(0 if turn < TURNS // 2 else 0.001)
        else:
            raise Found("no answer and no end")
        wire.close()
        await asyncio.sleep(0)
        if self.errors:
            raise Found("; ".join(self.errors))
        return b"".join(wire.written)


class _Errors(logging.Handler):
    def __init__(self, rig: Rig) -> None:
        super().__init__(logging.ERROR)
        self.rig = rig

    def emit(self, record: logging.LogRecord) -> None:
        self.rig.errors.append(self.format(record))


def _drop(_logger: Any, _method: str, _event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent


@asynccontextmanager
async def rig(data_dir: Path) -> AsyncIterator[Rig]:
    """Provision a server; whatever is logged as an error is an error here."""
    settings = Settings(
        server=ServerSettings(data_dir=data_dir, port=0),
        addresses=AddressSettings(trusted_proxies=("127.0.0.1/32",)),  # type: ignore[arg-type]
        limits=ROOMY,
    )
    sockets = bind("127.0.0.1", 0)
    before = structlog.get_config()
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    try:
        async with AsyncExitStack() as stack:
            server = Server(settings, None, sockets)
            await server.provision(stack)
            made = Rig(server)
            handler = _Errors(made)
            logging.getLogger().addHandler(handler)
            stack.callback(logging.getLogger().removeHandler, handler)
            asyncio.get_running_loop().set_exception_handler(lambda _, context: made.errors.append(str(context)))
            yield made
    finally:
        structlog.configure(**before)
        for sock in sockets:
            sock.close()
