"""What is awaited before TLS: one whole record, in time, without work for each byte that drips in."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from sockade.doors.hello import MOST_RECORD, RECORD_HEADER, USUAL_RECORD, Hellos

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 5.0
LATE = 0.2


def record(size: int) -> bytes:
    """Return a TLS record of a handshake, as far as anyone looks: `size` bytes without its header."""
    return b"\x16\x03\x01" + size.to_bytes(2, "big") + bytes(size)


class Waiting:
    """Both ends of a connection whose ClientHello is awaited, and what came of that."""

    def __init__(self, hellos: Hellos) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname())
            self.sock, _ = listening.accept()
        self.sock.setblocking(False)
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        hellos.wait(self.sock, self.answer.set_result)

    async def heard(self) -> bool:
        return await asyncio.wait_for(self.answer, SOON)


class Looking(Hellos):
    """Counts how often it looks."""

    looks = 0

    def _look(self, sock: socket.socket) -> None:
        self.looks += 1
        super()._look(sock)


@pytest.fixture
def ends() -> Iterator[list[Waiting]]:
    made: list[Waiting] = []
    yield made
    for one in made:
        one.client.close()
        one.sock.close()


@pytest.mark.parametrize("size", [1, 512, USUAL_RECORD, MOST_RECORD])
async def test_a_whole_record_is_heard_and_still_there(size: int, ends: list[Waiting]) -> None:
    hellos = Hellos(asyncio.get_running_loop(), SOON)
    ends.append(one := Waiting(hellos))
    sent = record(size)
    one.client.sendall(sent)
    assert await one.heard()
    assert one.sock.recv(len(sent), socket.MSG_WAITALL) == sent
    assert one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("part", [1, RECORD_HEADER - 1, RECORD_HEADER, 300])
async def test_a_record_in_two_parts_is_heard_with_the_second(part: int, ends: list[Waiting]) -> None:
    hellos = Looking(asyncio.get_running_loop(), SOON)
    ends.append(one := Waiting(hellos))
    sent = record(512)
    one.client.sendall(sent[:part])
    await asyncio.sleep(0.05)
    assert not one.answer.done()
    one.client.sendall(sent[part:])
    assert await one.heard()
    assert one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


async def test_what_drips_in_does_not_turn_the_loop(ends: list[Waiting]) -> None:
    hellos = Looking(asyncio.get_running_loop(), SOON)
    ends.append(one := Waiting(hellos))
    for byte in record(60):
        one.client.send(bytes((byte,)))
        await asyncio.sleep(0.002)
    assert await one.heard()
    assert hellos.looks <= 3  # for the first byte, for the head, for the whole


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x02\x01\x00\x01\x01",
        record(0),
        record(MOST_RECORD + 1)[:64],
        b"\x80\x2e\x01\x00\x02\x00\x15",  # SSL 2
    ],
)
async def test_what_is_no_record_of_a_handshake_is_given_up(sent: bytes, ends: list[Waiting]) -> None:
    hellos = Hellos(asyncio.get_running_loop(), SOON)
    ends.append(one := Waiting(hellos))
    one.client.sendall(sent)
    assert not await one.heard()


@pytest.mark.parametrize("sent", [b"", b"\x16", record(512)[:RECORD_HEADER], record(512)[:300]])
async def test_an_end_before_the_whole_is_given_up_at_once(sent: bytes, ends: list[Waiting]) -> None:
    hellos = Hellos(asyncio.get_running_loop(), 60)
    ends.append(one := Waiting(hellos))
    one.client.sendall(sent)
    await asyncio.sleep(0.02)
    one.client.shutdown(socket.SHUT_WR)
    assert not await one.heard()


async def test_who_is_late_is_given_up_each_in_time(ends: list[Waiting]) -> None:
    loop = asyncio.get_running_loop()
    hellos = Hellos(loop, LATE)
    ended: list[float] = []
    began: list[float] = []
    for _ in range(3):
        ends.append(one := Waiting(hellos))
        began.append(loop.time())
        one.answer.add_done_callback(lambda _: ended.append(loop.time()))
        await asyncio.sleep(LATE / 4)
    assert [await one.heard() for one in ends] == [False] * 3
    assert all(end - begin >= LATE - 0.002 for begin, end in zip(began, ended, strict=True))
    # Whoever comes when nobody waited any more has a deadline too.
    ends.append(last := Waiting(hellos))
    assert not await last.heard()


async def test_who_is_forgotten_is_not_heard_of(ends: list[Waiting]) -> None:
    hellos = Hellos(asyncio.get_running_loop(), LATE)
    ends.append(one := Waiting(hellos))
    hellos.forget(one.sock)
    one.client.sendall(record(1))
    await asyncio.sleep(2 * LATE)
    assert not one.answer.done()


async def test_a_reset_is_given_up_at_once(ends: list[Waiting]) -> None:
    hellos = Hellos(asyncio.get_running_loop(), 60)
    ends.append(one := Waiting(hellos))
    one.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.client.close()
    assert not await one.heard()


async def test_a_look_in_vain_changes_nothing(ends: list[Waiting]) -> None:
    """The system may say that a socket is readable when it is not (select(2), Bugs)."""
    hellos = Hellos(asyncio.get_running_loop(), SOON)
    ends.append(one := Waiting(hellos))
    hellos._look(one.sock)
    assert not one.answer.done()
    one.client.sendall(record(1))
    assert await one.heard()
