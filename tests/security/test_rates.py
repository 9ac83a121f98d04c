"""Cases 53 to 57: how much is too much, what becomes of it, and what remembering it costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sockade.doors.listener import SOCKETS_A_HANDSHAKE
from sockade.guard.limiter import ANSWERS_TO_BANNED
from sockade.settings import LimitSettings
from tests.running import ROOMY, close_code
from tests.security.sockets import UPGRADE, many_addresses, plain, read_to_end, secure, status, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

LIMITS = LimitSettings()
REJECTED = {"sockade": {"rejected": "rate_limited"}}


async def flood(client: ClientConnection, count: int = 100) -> None:
    with contextlib.suppress(ConnectionClosed):
        for number in range(count):
            await client.send(f"flood {number}")


async def heard_until(client: ClientConnection, last: str) -> list[str]:
    """Return what a client hears up to a message that says it is the last."""
    heard: list[str] = []
    async with asyncio.timeout(20):
        while (message := str(await client.recv())) != last:
            heard.append(message)
    return heard


async def test_over_the_rate_is_told_then_1008_and_the_third_time_429_for_a_while(
    server: RunningServer, observe: Observe
) -> None:
    """Case 53."""
    token, other = await asyncio.to_thread(server.token), await asyncio.to_thread(server.token, "bob")
    async with server.connect(token=other) as hearer, server.connect(token=other, max_queue=None) as marker:
        relayed = []
        for number in range(3):
            async with server.connect(token=token, subprotocols=["sockade"]) as client:
                await flood(client)
                told = []
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        told.append(json.loads(await asyncio.wait_for(client.recv(), 10)))
                assert client.close_code == 1008
                # The ninth rejection is told, the tenth is the end.
                assert told == [REJECTED] * (LIMITS.violations_per_minute - 1)
            await marker.send(f"end {number}")
            relayed.append(len(await heard_until(hearer, f"end {number}")))
        answer = await server.refused(token=token)
        # The address is refused as well, whoever asks from there.
        beside = await server.refused(token=other)
    assert (answer.status, answer.json["code"], beside.status) == (429, "rate_limited", 429)
    wait = int(answer.headers["retry-after"])
    observe("20 at once relayed, then 1008; third time 429", f"{relayed} relayed of 100; 429 for {wait} s")
    assert 0 < wait <= LIMITS.ban_seconds
    assert relayed[0] in range(LIMITS.message_burst, LIMITS.message_burst + 5)


async def test_a_banned_user_is_refused_from_another_address_too(start: Start) -> None:
    """Case 53."""
    server = start("[limits]\nban_strikes = 1\n")
    token, other = await asyncio.to_thread(server.token), await asyncio.to_thread(server.token, "bob")
    async with server.connect(token=token) as client:
        await flood(client)
        assert await close_code(client) == 1008

    def answer_to(shown: str) -> int:
        with contextlib.closing(secure(server, "127.0.0.9")) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + f"Authorization: Bearer {shown}\r\n\r\n".encode())
            return status(sock.recv(65_536))

    assert await asyncio.to_thread(answer_to, token) == 429
    assert await asyncio.to_thread(answer_to, other) == 101


async def test_a_banned_address_that_goes_on_is_told_so_a_few_times_and_then_closed_before_tls(
    start: Start, observe: Observe
) -> None:
    """Case 53."""
    server = start("[limits]\nban_strikes = 1\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        await flood(client)
        assert await close_code(client) == 1008

    def answers() -> list[int]:
        """Return the statuses that the address gets until it gets none."""
        statuses = []
        while len(statuses) < 50:
            try:
                with contextlib.closing(secure(server)) as sock:
                    sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
                    statuses.append(status(read_to_end(sock)))
            except OSError:
                return statuses
        raise AssertionError("the address was always answered")

    statuses = await asyncio.to_thread(answers)
    observe("429 a few times, then closed before TLS", f"429 {len(statuses)} times, then closed")
    assert set(statuses) == {429}
    assert len(statuses) >= ANSWERS_TO_BANNED.burst
    await asyncio.to_thread(wait_until, lambda: [line for line in server.log if "goes on" in str(line)], 5)
    # Who keeps away for a moment is told again.
    await asyncio.sleep(1 / ANSWERS_TO_BANNED.per_second)
    assert await asyncio.to_thread(answers)
    with contextlib.closing(await asyncio.to_thread(secure, server, "127.0.0.10")) as other:
        other.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        assert status(await asyncio.to_thread(read_to_end, other)) == 401


async def test_a_ban_ends_and_another_is_longer(start: Start, observe: Observe) -> None:
    """Case 53."""
    server = start("[limits]\nban_seconds = 2\nban_strikes = 1\nhandshakes_per_minute = 1000\n")
    token = await asyncio.to_thread(server.token)
    waits = []
    for _ in range(2):
        async with server.connect(token=token) as client:
            await flood(client)
            assert await close_code(client) == 1008
        answer = await server.refused(token=token)
        assert answer.status == 429
        waits.append(int(answer.headers["retry-after"]))
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                async with server.connect(token=token):
                    break
            except (InvalidStatus, OSError):  # told, or closed before TLS
                await asyncio.sleep(0.1)
        else:
            raise AssertionError("the ban had no end")
    observe("bans of 2 s and 4 s, each with an end", f"{waits[0]} s and {waits[1]} s")
    assert waits == [2, 4]


async def test_bytes_have_a_rate_of_their_own(server: RunningServer) -> None:
    """Case 53."""
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token, subprotocols=["sockade"]) as client:
        for _ in range(5):
            await client.send("x" * 60_000)
        assert json.loads(await asyncio.wait_for(client.recv(), 10)) == REJECTED


async def test_pings_count_as_messages_do(server: RunningServer) -> None:
    """Case 53."""
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                await client.ping()
        assert await close_code(client) == 1008


async def test_one_user_on_five_sockets_has_one_allowance(server: RunningServer, observe: Observe) -> None:
    """Case 54."""
    token, other = await asyncio.to_thread(server.token), await asyncio.to_thread(server.token, "bob")
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        hearer, marker = [await stack.enter_async_context(server.connect(token=other)) for _ in range(2)]
        mine = [await stack.enter_async_context(server.connect(token=token, max_queue=None)) for _ in range(5)]
        # Twenty each are within what one connection may, and a hundred over what one user may.
        await asyncio.gather(*(flood(client, LIMITS.message_burst) for client in mine))
        # The answer to a ping comes after all that was sent before it; who sent too much is closed instead.
        for client in mine:
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait_for(await client.ping(), 10)
        sent = time.monotonic() - began
        await marker.send("end")
        relayed = len(await heard_until(hearer, "end"))
    allowed = LIMITS.message_burst * LIMITS.user_factor
    refill = LIMITS.messages_per_second * LIMITS.user_factor * sent
    observe(f"{allowed:g} of 100 at once", f"{relayed} relayed")
    assert allowed <= relayed <= math.ceil(allowed + refill)


async def test_a_loop_of_connects_is_429_after_thirty_in_a_minute(server: RunningServer, observe: Observe) -> None:
    """Case 55."""
    began = time.monotonic()
    statuses = [(await server.refused(token="wrong")).status for _ in range(40)]
    took = time.monotonic() - began
    first = statuses.index(429)
    observe("429 from the 31st on", f"429 from attempt {first + 1}")
    assert set(statuses[:first]) <= {401}
    assert first <= LIMITS.handshakes_per_minute + math.ceil(took / 2)


async def test_over_a_user_s_connections_is_429(start: Start) -> None:
    """Case 55."""
    server = start("[limits]\nconnections_per_user = 2\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token), server.connect(token=token):
        answer = await server.refused(token=token)
    assert (answer.status, answer.json["code"]) == (429, "user_connections")
    assert int(answer.headers["retry-after"]) > 0


async def test_over_the_server_s_connections_is_503(start: Start) -> None:
    """Case 55."""
    server = start("[limits]\nconnections = 3\nconnections_per_user = 10\n")
    token = await asyncio.to_thread(server.token)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(server.connect(token=token))
        answer = await server.refused(token=token)
        assert (answer.status, answer.json["code"]) == (503, "server_full")
        assert int(answer.headers["retry-after"]) > 0
    # Who leaves gives the place back.
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(InvalidStatus):
                async with server.connect(token=token):
                    break


def test_over_an_address_s_connections_is_429_and_another_address_gets_in(start: Start, observe: Observe) -> None:
    """Case 55."""
    server = start("[limits]\nconnections_per_user = 100\n")
    token = server.token().encode()
    head = b"GET / HTTP/1.1\r\n" + UPGRADE + b"Authorization: Bearer " + token + b"\r\n\r\n"
    with contextlib.ExitStack() as stack:
        opened = 0
        for _ in range(LIMITS.connections_per_address + 5):
            try:
                sock = stack.enter_context(secure(server, "127.0.0.9"))
                sock.sendall(head)
                answer = sock.recv(65_536)
            except OSError:  # closed before TLS
                continue
            opened += status(answer) == 101
            assert status(answer) in (0, 101, 429)
        other = stack.enter_context(secure(server, "127.0.0.10"))
        other.sendall(head)
        assert status(other.recv(65_536)) == 101
    observe(
        f"{LIMITS.connections_per_address} of an address", f"{opened} opened of {LIMITS.connections_per_address + 5}"
    )
    assert opened == LIMITS.connections_per_address


def test_an_address_that_only_opens_sockets_is_refused_before_tls(start: Start, observe: Observe) -> None:
    """Case 55."""
    server = start("[limits]\nhandshakes_per_minute = 2\nconnections_per_address = 5000\n")
    sockets = 2 * SOCKETS_A_HANDSHAKE + 10  # On a slow machine some of the allowance comes back meanwhile.
    for _ in range(sockets):
        plain(server, "127.0.0.9").close()
    with contextlib.closing(plain(server, "127.0.0.9")) as sock:
        began = time.monotonic()
        assert read_to_end(sock) == b""
        seconds = time.monotonic() - began
    wait_until(lambda: [line for line in server.log if line.get("event.reason") == "rate_limited"], 5)
    observe("closed before TLS", f"socket {sockets + 1} of a minute, after {seconds:.2f} s")
    assert seconds < 5  # Silence alone is ended after ten.
    with contextlib.closing(secure(server, "127.0.0.10")) as other:
        other.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        assert status(read_to_end(other)) == 401


MILLION = """
import re
from pathlib import Path
from sockade.guard.limiter import Limiter
from sockade.settings import LimitSettings

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

limiter = Limiter(LimitSettings())
before = resident()
for number in range(1_000_000):
    now = number / 100_000
    low, high = number & 0xFFFF, number >> 16
    # Every other one in IPv6, each in a network of its own.
    address = f"2001:db8:{high:x}:{low:x}::1" if number % 2 else f"11.{high}.{low >> 8}.{low & 255}"
    limiter.judge_address(address, now)
    if number % 10 == 0:
        limiter.strike(f"user{number}", address, now)
        limiter.standing(f"user{number}", now)
print(resident() - before)
"""


def test_a_million_addresses_stay_under_64_mib(observe: Observe) -> None:
    """Case 56."""
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, timeout=500, check=True)
    used = float(done.stdout)
    observe("under 64 MiB", f"{used:.1f} MiB after a million addresses and 100,000 users")
    assert used < 64


def test_addresses_are_limited_one_by_one(start: Start) -> None:
    """Case 56."""
    server = start("[limits]\nhandshakes_per_minute = 1\n")
    for address in many_addresses(20):
        answers = []
        for _ in range(2):
            with contextlib.closing(secure(server, address)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
                answers.append(status(read_to_end(sock)))
        assert answers == [401, 429], address


TYPED = """
import msgspec

from sockade import Sockade

app = Sockade()

class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str

class Deaf:
    async def on_message(self, connection, message):
        pass

app.endpoint("/")(Deaf)
app.endpoint("/typed", message=Say)(Deaf)
"""


@pytest.mark.parametrize(
    ("path", "bad"), [("/", "\x1b[2J"), ("/", "\u202e"), ("/typed", "not json"), ("/typed", '{"text":1}')]
)
async def test_ten_invalid_messages_are_1008(
    start: Start, tmp_path: Path, path: str, bad: str, observe: Observe
) -> None:
    """Case 57."""
    (tmp_path / "typed_under_test.py").write_text(TYPED)
    server = start(f"[limits]\n{ROOMY}", "typed_under_test:app", module_path=str(tmp_path))
    token = await asyncio.to_thread(server.token)
    async with server.connect(path, token=token, subprotocols=["sockade"]) as client:
        rejections = 0
        with contextlib.suppress(ConnectionClosed):
            for _ in range(15):
                await client.send(bad)
            while True:
                message = str(await asyncio.wait_for(client.recv(), 10))
                rejections += "rejected" in message
    observe("1008 at the tenth", f"{client.close_code} after {rejections} that were told")
    assert (client.close_code, rejections) == (1008, 9)
