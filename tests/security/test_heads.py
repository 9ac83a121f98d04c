"""Cases 7 to 14, from outside: request heads that are no good, and what was sent around them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from fuzz import commands, configuration, credentials, heads
from fuzz.server import rig
from hypothesis import given, settings
from hypothesis import strategies as st

from sockade.settings import LimitSettings
from tests.running import ROOMY, RunningServer
from tests.security.scale import number
from tests.security.sockets import HOST, UPGRADE, drip, secure, status

if TYPE_CHECKING:
    from collections.abc import Iterator

GENERATED = number(5_000, 100_000)
"""Of each; `make fuzz` tries as many as it is told to."""
MASKED_TEXT_HELLO = b"\x81\x85\x00\x00\x00\x00hello"
MASKED_CLOSE_1000 = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose heads have two seconds."""
    config = f"[limits]\n{ROOMY}head_seconds = 2\nhandshake_seconds = 3\n"
    running = RunningServer(tmp_path_factory.mktemp("heads") / "server", config)
    running.start()
    yield running
    running.kill()


def get(*headers: bytes, line: bytes = b"GET / HTTP/1.1", upgrade: bytes = UPGRADE) -> bytes:
    return line + b"\r\n" + upgrade + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def bearer(server: RunningServer) -> bytes:
    return f"Authorization: Bearer {server.token()}".encode()


@pytest.mark.parametrize(
    ("line", "change", "to", "expected"),
    [
        (b"POST / HTTP/1.1", b"", b"", 405),
        (b"GET / HTTP/1.0", b"", b"", 426),
        (b"GET / HTTP/1.1", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"GET / HTTP/1.1", b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400),
        (b"GET / HTTP/1.1", b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ=", 400),
        (b"GET / HTTP/1.1", b"Version: 13", b"Version: 12", 426),
        (b"GET / HTTP/1.1", b"Version: 13", b"Version: 8, 13", 426),
        (b"GET / HTTP/1.1", b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"GET / HTTP/1.1", b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"GET / HTTP/1.1", b"Upgrade: websocket", b"Upgrade: h2c, websocket", 426),
        (b"CONNECT localhost:443 HTTP/1.1", b"", b"", 405),
    ],
)
def test_no_other_request_becomes_a_websocket(
    server: RunningServer, line: bytes, change: bytes, to: bytes, expected: int
) -> None:
    """Case 7."""
    answer = server.exchange(get(bearer(server), line=line, upgrade=UPGRADE.replace(change, to) if change else UPGRADE))
    assert status(answer) == expected
    if expected == 426 and b"Version" in change:
        assert re.search(rb"(?i)sec-websocket-version: 13\r\n", answer)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (get(line=b"GET /" + b"a" * 8_192 + b" HTTP/1.1"), 414),
        (get(line=b"GET /" + b"a" * 8_000 + b" HTTP/1.1"), 404),
        (get(b"X: " + b"a" * 8_192), 431),
        (get(*[b"X: y"] * 2_000), 431),
        (get(*[b"X%d: %s" % (number, b"a" * 600) for number in range(40)]), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431),
        (b"GET /" + b"a" * 300_000, 414),
        (b"A" * 300_000, 400),
    ],
)
def test_line_or_head_over_its_size_is_refused_and_the_server_lives(
    server: RunningServer, head: bytes, expected: int
) -> None:
    """Case 8."""
    with secure(server) as sock:
        try:
            for start in range(0, len(head), 8_000):
                sock.sendall(head[start : start + 8_000])
            answer = sock.recv(65_536)
        except OSError:
            answer = b""  # the server did not wait for the rest
    assert status(answer) in (expected, 0) if len(head) > 100_000 else status(answer) == expected
    assert server.http("GET", "/healthz").status == 200


def test_head_at_a_byte_now_and_then_ends_at_its_deadline(server: RunningServer) -> None:
    """Case 9."""
    with secure(server) as sock:
        seconds, answer = drip(sock, get(b"X: " + b"a" * 100))
    assert 1.5 < seconds < 3.5
    assert status(answer) in (0, 408)


@pytest.mark.parametrize(
    "head",
    [
        get(b"Content-Length: 5") + b"hello",
        get(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        get(b"Content-Length: 0", b"Content-Length: 5"),
        get(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        get(b"Content-Length: +5"),
        get(b"Transfer-Encoding: chunked, identity"),
        get(b"X: a").replace(b"\r\n", b"\n"),
        get(b"X: a\r\n folded"),
        get(b"X: a\x00b"),
        get(b"X\x00: a"),
        get(b"X : a"),
        get(b"X: a\rY: b"),
        get(b"no colon"),
    ],
)
def test_upgrade_that_could_smuggle_is_400_and_the_connection_ends(server: RunningServer, head: bytes) -> None:
    """Case 10."""
    answer = server.exchange(head + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1


def test_trailers_do_not_become_headers(server: RunningServer) -> None:
    """Case 10."""
    body = b"2\r\n{}\r\n0\r\nCookie: __Host-sockade=x\r\nOrigin: https://evil.example\r\n\r\n"
    head = (
        b"POST /auth/logout HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    answer = server.exchange(head + b"Connection: close\r\n\r\n" + body)
    assert status(answer) == 401
    assert b"credential_missing" in answer


def test_trailers_count_as_headers_do(server: RunningServer) -> None:
    """Case 10."""
    head = b"POST /auth/logout HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = server.exchange(head + b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * LimitSettings().headers + b"\r\n")
    assert status(answer) == 431


def test_frames_ahead_of_the_101_wait_for_admission_and_are_not_lost(server: RunningServer) -> None:
    """Case 11."""
    frames = MASKED_TEXT_HELLO + MASKED_CLOSE_1000
    answer = server.exchange(get(bearer(server)) + frames)
    assert status(answer) == 101
    assert answer.endswith(b"\x88\x02\x03\xe8")
    refused = server.exchange(get() + frames)
    assert status(refused) == 401
    assert b"\x88\x02" not in refused


async def test_frames_of_a_refused_handshake_reach_nobody(server: RunningServer) -> None:
    """Case 11."""
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as hearer:
        assert status(await asyncio.to_thread(server.exchange, get() + MASKED_TEXT_HELLO)) == 401
        good = get(f"Authorization: Bearer {token}".encode()) + MASKED_TEXT_HELLO + MASKED_CLOSE_1000
        assert status(await asyncio.to_thread(server.exchange, good)) == 101
        # Only the one of the admitted connection.
        assert await asyncio.wait_for(hearer.recv(), 10) == "hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hearer.recv(), 0.3)


def test_request_behind_a_refused_upgrade_is_not_answered(server: RunningServer) -> None:
    """Case 12."""
    for first in (get(), get(b"Content-Length: 5"), get(line=b"POST / HTTP/1.1"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        answer = server.exchange(first + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"HTTP/1.1 200" not in answer


@pytest.mark.parametrize(
    "upgrade",
    [
        UPGRADE.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
        UPGRADE.replace(b"Connection: Upgrade", b"CONNECTION: keep-alive\r\nconnection: uPGRADE"),
        UPGRADE.replace(b"Upgrade: websocket", b"upgrade: WebSocket"),
        UPGRADE.upper().replace(b"DGHLIHNHBXBSZSBUB25JZQ==", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ],
)
def test_lists_and_any_case_are_accepted(server: RunningServer, upgrade: bytes) -> None:
    """Case 13."""
    with secure(server) as sock:
        sock.sendall(get(bearer(server), upgrade=upgrade))
        assert status(sock.recv(65_536)) == 101


async def test_generated_heads_raise_nothing_and_are_never_500(tmp_path: Path) -> None:
    """Case 14."""
    answered = await heads.run(Random(14), GENERATED.run, tmp_path)
    print(f"{GENERATED} heads, {answered} of them answered, 0 uncaught exceptions")
    assert answered > GENERATED.run / 2


@given(st.lists(st.lists(st.binary(max_size=200), max_size=4), min_size=20, max_size=40))
@settings(max_examples=10, deadline=None)
def test_any_bytes_raise_nothing(connections: list[list[bytes]]) -> None:
    """Case 14."""

    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with rig(Path(folder)) as made:
                for chunks in connections:
                    assert b" 101 " not in await made.exchange(chunks)

    asyncio.run(run())


async def test_generated_credentials_admit_nobody(tmp_path: Path) -> None:
    """Case 29."""
    verified = await credentials.run(Random(29), GENERATED.run, tmp_path)
    print(f"{GENERATED} handshakes, {verified} credentials looked at, nobody admitted, 0 uncaught exceptions")
    assert verified > GENERATED.run / 10


async def test_generated_settings_load_or_are_told_what_is_wrong(tmp_path: Path) -> None:
    loaded = await configuration.run(Random(1), 1_000, tmp_path)
    print(f"1000 files, {loaded} of them loaded, 0 uncaught exceptions")
    assert loaded > 50


async def test_generated_messages_are_commands_or_refused(tmp_path: Path) -> None:
    """Case 64."""
    decoded = await commands.run(Random(64), GENERATED.run, tmp_path)
    print(f"{GENERATED} messages, {decoded} of them commands, 0 uncaught exceptions")
    assert decoded > GENERATED.run / 10
