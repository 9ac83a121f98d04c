"""A room: what is broadcast in one tick leaves in one write, and each connection hears everything in its order."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode

from sockade.messaging.frames import REMEMBERED_SIZES, frame

if TYPE_CHECKING:
    from sockade.messaging.application import Sockade
    from sockade.messaging.connection import Connection

    from .conftest import Room


class Silent:
    async def on_message(self, connection: Connection, message: str) -> None:
        pass


async def test_broadcasts_of_one_tick_leave_in_one_write(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    one, two, other = [await room.join() for _ in range(3)]
    one.connection.broadcast("a")
    two.connection.broadcast("b")
    app.broadcast("/", "c")
    await room.turn()
    assert other.written == [frame("a") + frame("b") + frame("c")]
    assert one.written == [frame("b") + frame("c")]
    assert two.written == [frame("a") + frame("c")]


async def test_what_is_sent_and_what_is_broadcast_keep_their_order(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    one, other = await room.join(), await room.join()
    one.connection.send("1")
    other.connection.broadcast("2")
    one.connection.send("3")
    one.connection.broadcast("not to itself")
    one.connection.flush()
    other.connection.broadcast("4")
    one.connection.send("5")
    other.connection.broadcast("6")
    await room.turn()
    assert b"".join(one.written) == b"".join(frame(str(number)) for number in range(1, 7))
    assert other.written == [frame("not to itself")]
    # Afterwards nothing precedes what is broadcast.
    other.connection.broadcast("7")
    await room.turn()
    assert one.written[-1] == frame("7")


async def test_a_broadcast_reaches_who_was_there_and_no_one_who_came_after(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    there = await room.join()
    app.broadcast("/", "before")
    # Registered before the loop's next turn, which sends what was broadcast.
    coming = room.join()
    with contextlib.suppress(StopIteration):
        coming.send(None)
    late = next(iter(room.hub.connections - {there.connection}))
    app.broadcast("/", "after")
    await room.turn()
    assert b"".join(there.written) == frame("before") + frame("after")
    assert late.transport.written == [frame("after")]  # type: ignore[attr-defined]


async def test_closing_sends_what_was_broadcast_before_it(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    one, other = await room.join(), await room.join()
    app.broadcast("/", "last")
    one.connection.close()
    assert one.written == [frame("last")]
    app.broadcast("/", "never")
    await room.turn()
    assert one.written == [frame("last")]
    assert other.written == [frame("last") + frame("never")]


async def test_who_does_not_read_is_dropped_by_broadcasts_and_the_others_hear_them(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    slow, other = await room.join(), await room.join()
    slow.connection.pause_writing()
    for number in range(257):
        app.broadcast("/", str(number))
        if number == 255:
            await room.turn()
            assert not slow.aborted
    await room.turn()
    assert slow.aborted
    assert slow.written == []
    assert b"".join(other.written) == b"".join(frame(str(number)) for number in range(257))
    app.broadcast("/", "more")
    await room.turn()
    assert slow.written == []


async def test_who_reads_again_gets_the_broadcasts_that_waited(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    slow = await room.join()
    slow.connection.pause_writing()
    app.broadcast("/", "a")
    await room.turn()
    app.broadcast("/", "b")
    slow.connection.resume_writing()
    await room.turn()
    app.broadcast("/", "c")
    await room.turn()
    assert b"".join(slow.written) == frame("a") + frame("b") + frame("c")
    # It hears directly again, as everyone who has nothing else waiting.
    assert not slow.connection.room.aside


async def test_closing_sends_what_waited_for_who_does_not_read(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    slow = await room.join()
    slow.connection.pause_writing()
    app.broadcast("/", "a")
    await room.turn()
    slow.connection.send("b")
    slow.connection.close()
    assert b"".join(slow.written) == frame("a") + frame("b")


async def test_who_leaves_hears_nothing_more_even_if_it_does_not_read(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Silent)
    slow, other = await room.join(), await room.join()
    slow.connection.close()
    slow.connection.pause_writing()  # not even the closing frame leaves
    for number in range(300):
        app.broadcast("/", str(number))
        await room.turn()
    assert slow.written == []
    assert not slow.aborted
    slow.finish()
    assert not other.connection.room.aside
    assert list(other.connection.room.members) == [other.connection]


def test_a_frame_is_what_the_library_makes_of_it() -> None:
    for size in (0, 1, 125, 126, 127, REMEMBERED_SIZES, REMEMBERED_SIZES + 1, 65_535, 65_536):
        for _ in range(2):
            assert frame("x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)
            assert frame(b"y" * size) == Frame(Opcode.BINARY, b"y" * size).serialize(mask=False)
    assert frame("é") == Frame(Opcode.TEXT, "é".encode()).serialize(mask=False)
