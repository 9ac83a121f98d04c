"""Many connections: who hears what, counts, and endings."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from sockade.errors import UsageError
from sockade.guard.admit import Counts
from sockade.messaging.application import Sockade
from sockade.messaging.frames import frame
from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    from sockade.messaging.connection import Connection

    from .conftest import Room


class Chat:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.broadcast(message)


async def test_a_message_goes_to_everyone_else_on_the_endpoint(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    app.endpoint("/other")(Chat)
    sender, first, second = [await room.join() for _ in range(3)]
    elsewhere = await room.join(path="/other")
    sender.connection.receive("hello")
    await room.turn()
    assert first.written == second.written == [frame("hello")]
    assert first.written[0] is second.written[0]  # framed once
    assert sender.written == elsewhere.written == []


async def test_a_closing_connection_hears_nothing_more(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    sender, leaving, staying = [await room.join() for _ in range(3)]
    leaving.connection.closing()
    sender.connection.receive("hello")
    await room.turn()
    assert leaving.written == []
    assert staying.written == [frame("hello")]


async def test_the_application_can_broadcast_by_itself(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    transport = await room.join()
    app.broadcast("/", "news")
    app.broadcast("/nowhere", "news")
    await room.turn()
    assert transport.written == [frame("news")]


def test_broadcast_before_the_server_runs_reaches_no_one() -> None:
    Sockade().broadcast("/", "nobody")


async def test_counts_follow_connections(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    ada, bob = await room.join("ada"), await room.join("bob")
    assert room.hub.counts("ada") == Counts(user=1, total=2)
    ada.finish()
    assert room.hub.counts("ada") == Counts(user=0, total=1)
    assert room.ended == [ada.connection]
    ada.finish()
    bob.finish()
    assert len(room.ended) == 2
    assert not room.hub.connections


async def test_a_connection_that_is_gone_is_kept_by_nobody(app: Sockade, room: Room) -> None:
    """Neither its next deadline nor one that was overtaken keeps it until it would have been due."""
    app.endpoint("/")(Chat)
    transport = await room.join("ada")
    # A deadline that comes before the next ping overtakes it.
    transport.connection.partial(True)
    transport.connection.close()
    gone = weakref.ref(transport)
    transport.finish()
    await room.turn()
    room.ended.clear()
    del transport
    gc.collect()
    assert gone() is None


async def test_ending_a_session_closes_its_connections_alone(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    one, two, other = [await room.join(session=name) for name in ("s1", "s1", "s2")]
    room.hub.end_sessions(["s1", "unknown"], CloseCode.CREDENTIAL_EXPIRED, "session ended")
    assert one.closed == two.closed == (CloseCode.CREDENTIAL_EXPIRED, "session ended")
    assert other.closed is None
    one.finish()
    two.finish()
    room.hub.end_sessions(["s1"], CloseCode.CREDENTIAL_EXPIRED, "session ended")


async def test_drain_closes_everyone_and_waits_for_their_callbacks(app: Sockade, room: Room) -> None:
    closed = []

    @app.endpoint("/")
    class Slow:
        async def on_close(self, connection: Connection) -> None:
            await asyncio.sleep(0)
            closed.append(connection)

    transports = [await room.join() for _ in range(5)]
    drain = asyncio.create_task(room.hub.drain(CloseCode.SERVICE_RESTART, "restart", 5))
    await room.turn()
    for transport in transports:
        assert transport.closed == (CloseCode.SERVICE_RESTART, "restart")
        transport.finish()
    await drain
    assert len(closed) == 5


async def test_drain_ends_callbacks_that_do_not(app: Sockade, room: Room) -> None:
    @app.endpoint("/")
    class Stuck:
        async def on_open(self, connection: Connection) -> None:
            await asyncio.sleep(3600)

    transport = await room.join()
    task = transport.connection.task
    room.clock.step(1)
    drain = asyncio.create_task(room.hub.drain(CloseCode.SERVICE_RESTART, "restart", 1))
    await room.turn()
    room.clock.step(10)
    await drain
    assert transport.aborted
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await task


def test_endpoints_are_checked_when_they_are_declared() -> None:
    app = Sockade()
    for path in ("chat", "/a?b", "/a#b", "/é"):
        with pytest.raises(UsageError):
            app.endpoint(path)
    with pytest.raises(UsageError, match="defines none"):
        app.endpoint("/empty")(object)
    app.endpoint("/")(Chat)
    with pytest.raises(UsageError, match="already"):
        app.endpoint("/")


async def test_a_session_whose_connection_is_used_is_noted(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Chat)
    used, idle = await room.join("ada", session="s1"), await room.join("bob", session="s2")
    room.step(5)
    used.connection.receive("hello")
    for transport in (used, idle):
        room.step(21)
        transport.connection.receive_pong()
    assert room.seen == ["s1"]
