"""A hub on a stepped clock, and connections whose transport only notes what it is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sockade.clock import SteppedClock
from sockade.guard.identity import ConnectionId, Identity, SessionId
from sockade.guard.limiter import Limiter
from sockade.messaging.application import Sockade
from sockade.messaging.connection import Connection
from sockade.messaging.hub import Hub
from sockade.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDLE = 1_800.0


class NotedTransport:
    """Implements `messaging.transport.Transport` by noting every call."""

    def __init__(self) -> None:
        self.connection: Connection
        self.written: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.pings = 0
        self.reading = True
        self.unsent = 0

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.written.append(data)

    def unsent_bytes(self) -> int:
        return self.unsent

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def finish(self) -> None:
        """Let the TCP connection end, as the door does."""
        code, reason = self.closed or (None, "")
        self.connection.lost(code, reason)


class Room:
    """The hub under test and what it reported."""

    def __init__(self, app: Sockade, limits: LimitSettings) -> None:
        self.clock = SteppedClock()
        self.errors: list[BaseException] = []
        self.ended: list[Connection] = []
        self.seen: list[SessionId] = []
        self.app = app
        self.hub = Hub(
            asyncio.get_running_loop(),
            self.clock,
            limits,
            IDLE,
            Limiter(limits),
            lambda connection, error: self.errors.append(error),
            self.ended.append,
            self.seen.append,
        )
        app.bind(self.hub)

    async def join(
        self,
        user: str = "ada",
        path: str = "/",
        *,
        session: str | None = None,
        lives: float = float("inf"),
        controls: bool = False,
        **rights: Any,
    ) -> NotedTransport:
        """Register one more connection and let its `on_open` begin."""
        transport = NotedTransport()
        identity = Identity(user, session=SessionId(session) if session else None, **rights)
        connection = Connection(
            ConnectionId(self.clock.short_id()),
            identity,
            self.app.endpoints[path],
            "127.0.0.1",
            transport,
            self.hub,
            self.clock.monotonic() + lives,
            controls=controls,
        )
        transport.connection = connection
        self.hub.register(connection)
        await asyncio.sleep(0)
        return transport

    async def turn(self) -> None:
        """Let everything that is due on the loop happen."""
        for _ in range(6):
            await asyncio.sleep(0)

    def step(self, seconds: float) -> None:
        """Move the clock on and sweep each second of it."""
        for _ in range(round(seconds)):
            self.clock.step(1)
            self.hub.sweep()


@pytest.fixture
def app() -> Sockade:
    return Sockade()


@pytest.fixture
def limits() -> LimitSettings:
    return LimitSettings()


@pytest.fixture
async def room(app: Sockade, limits: LimitSettings) -> AsyncIterator[Room]:
    room = Room(app, limits)
    yield room
    for connection in list(room.hub.connections):
        connection.lost(None, "")
    await room.turn()
