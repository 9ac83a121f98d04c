"""What arrives at once is let through a few at a time, in order, and whoever is dropped meanwhile takes no place."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, NoReturn

from sockade.clock import SystemClock
from sockade.doors.listener import HANDSHAKES_A_TURN, Listener
from sockade.doors.turnstile import Turnstile
from sockade.guard.addresses import AddressRules
from sockade.guard.limiter import Limiter
from sockade.settings import LimitSettings

if TYPE_CHECKING:
    from sockade.protocol.events import Event

RUSH = 50


async def through(turnstile: Turnstile, passed: list[tuple[int, int]], turn: list[int], name: int) -> None:
    await turnstile.enter()
    passed.append((turn[0], name))


async def run_through(count: int, drop: frozenset[int] = frozenset()) -> list[tuple[int, int]]:
    """Let so many come at once, and return who passed, and in which turn of the loop."""
    turnstile = Turnstile(asyncio.get_running_loop(), 3)
    passed: list[tuple[int, int]] = []
    turn = [0]
    tasks = [asyncio.create_task(through(turnstile, passed, turn, name)) for name in range(count)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn[0] += 1
        if turn[0] == 1:
            for name in drop:
                tasks[name].cancel()
        assert turn[0] < 100
    return passed


async def test_no_more_than_so_many_pass_in_a_turn_and_all_in_order() -> None:
    passed = await run_through(20)
    assert [name for _, name in passed] == list(range(20))
    turns = [turn for turn, _ in passed]
    assert max(turns.count(turn) for turn in turns) == 3
    assert max(turns) <= 8


async def test_few_are_not_held_back() -> None:
    assert {turn for turn, _ in await run_through(3)} == {0}


async def test_who_was_dropped_while_waiting_takes_nobodys_place() -> None:
    passed = await run_through(20, frozenset(range(4, 16)))
    assert [name for _, name in passed] == [0, 1, 2, 3, 16, 17, 18, 19]
    assert max(turn for turn, _ in passed) <= 3


async def test_it_lets_as_many_through_in_a_later_rush() -> None:
    loop = asyncio.get_running_loop()
    turnstile = Turnstile(loop, 3)
    for _ in range(3):
        await asyncio.wait_for(asyncio.gather(*(turnstile.enter() for _ in range(10))), 5)


class Silent:
    """An audit log that nobody reads."""

    def record(self, event: Event, **fields: str) -> None: ...


async def test_a_rush_of_hellos_begins_tls_a_few_at_a_time() -> None:
    """The listener lets them through the turnstile."""
    loop = asyncio.get_running_loop()
    turn, begun = [0], list[int]()

    async def connect(*_: object, **__: object) -> NoReturn:
        begun.append(turn[0])
        raise ConnectionError

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    limits, clock = LimitSettings(), SystemClock()
    listener = Listener(
        loop,
        limits,
        AddressRules,
        Limiter(limits).judge_peer,
        lambda: context,
        lambda _: asyncio.Protocol(),
        connect,
        Silent(),
        clock,
    )
    listening = socket.create_server(("127.0.0.1", 0), backlog=RUSH)
    listening.setblocking(False)
    at = listening.getsockname()
    clients = [socket.create_connection(at, source_address=(f"127.0.1.{one}", 0)) for one in range(1, RUSH + 1)]
    for client in clients:
        client.sendall(b"\x16\x03\x01\x00\x01\x01")
    listener.start([listening])
    async with asyncio.timeout(20):
        while len(begun) < RUSH:
            await asyncio.sleep(0)
            turn[0] += 1
    listener.stop()
    await listener.wait_empty(5)
    for client in clients:
        client.close()
    assert max(begun.count(one) for one in begun) == HANDSHAKES_A_TURN
