"""The request head and what is not an upgrade, byte for byte over real TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import warnings
from typing import TYPE_CHECKING

import pytest
from fuzz.server import rig

from tests.light import text_frame
from tests.running import read_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.running import RunningServer

HOST = b"Host: localhost\r\n"
UPGRADE = (
    HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def bearer(server: RunningServer) -> bytes:
    return f"Authorization: Bearer {server.token()}\r\n".encode()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 2000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: %s\r\n" % (n, b"a" * 400) for n in range(60)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\n\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + UPGRADE + b"\r\n", 405),
        (b"GET / HTTP/1.0\r\n" + UPGRADE + b"\r\n", 426),
        (b"GET / HTTP/1.1\r\n" + UPGRADE.replace(b"Version: 13", b"Version: 12") + b"\r\n", 426),
        (b"GET / HTTP/1.1\r\n" + UPGRADE.replace(b"websocket", b"h2c") + b"\r\n", 426),
        (b"GET / HTTP/1.1\r\n" + UPGRADE.replace(b"dGhl", b"") + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400),
    ],
)
def test_malformed_head_is_refused_with_its_status_and_the_connection_ends(
    server: RunningServer, head: bytes, expected: int
) -> None:
    assert status(server.exchange(head)) == expected


def test_nothing_after_a_refused_upgrade_is_answered(server: RunningServer) -> None:
    answer = server.exchange(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    assert status(answer) == 401
    assert answer.count(b"HTTP/1.1") == 1


def test_dripped_head_ends_at_its_deadline(server: RunningServer) -> None:
    began = time.monotonic()
    with server.raw() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        sock.settimeout(0.2)
        answer = b""
        while time.monotonic() - began < 10:
            try:
                sock.sendall(b"X")
                answer = sock.recv(4096)
                break
            except TimeoutError:
                continue
            except OSError:
                break
    assert 1.5 < time.monotonic() - began < 5
    assert status(answer) in (0, 408)


def test_silent_tcp_ends_at_the_tls_deadline(server: RunningServer) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        assert sock.recv(1) == b""
    assert time.monotonic() - began < 5


def test_plain_http_on_the_tls_port_gets_no_answer(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        try:
            answer = sock.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert b"HTTP" not in answer


def test_old_tls_is_refused(server: RunningServer) -> None:
    context = ssl.create_default_context(cafile=str(server.data_dir / "ca.pem"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server.tls = context
    try:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            server.raw()
    finally:
        del server.tls


def test_kept_connection_serves_requests_and_then_an_upgrade(server: RunningServer) -> None:
    token = server.token().encode()
    with server.raw() as sock:
        for _ in range(3):
            sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            answer = sock.recv(65_536)
            assert status(answer) == 200
            if b"ok" not in answer:
                sock.recv(65_536)
        sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"Authorization: Bearer " + token + b"\r\n\r\n")
        assert status(sock.recv(65_536)) == 101


def test_frames_sent_with_the_handshake_are_not_lost(server: RunningServer) -> None:
    masked_close_1000 = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
    with server.raw() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + bearer(server) + b"\r\n" + masked_close_1000)
        answer = read_all(sock)
    assert status(answer) == 101
    assert answer.endswith(b"\x88\x02\x03\xe8")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (b"\x88\x82\0\0\0\0\x03\xe8", 1000),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),
    ],
    ids=["a close", "no such opcode", "no UTF-8"],
)
def test_what_came_before_the_end_is_answered_before_it(server: RunningServer, end: bytes, code: int) -> None:
    with server.raw() as sock:
        sock.sendall(b"GET /connection/websocket HTTP/1.1\r\n" + UPGRADE + bearer(server) + b"\r\n")
        assert status(sock.recv(65_536)) == 101
        sock.sendall(text_frame(b'{"id":1,"connect":{}}') + end)
        answer = read_all(sock)
    reply, _, closing = answer.partition(b"\x88")
    assert b'"id":1,"connect":{' in reply
    assert int.from_bytes(closing[1:3], "big") == code


def test_too_many_bytes_before_the_101_are_refused(server: RunningServer) -> None:
    assert status(server.exchange(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n" + b"x" * 5000)) == 400


def test_pages_carry_the_security_headers(server: RunningServer) -> None:
    for path in ("/", "/assets/app.js", "/healthz", "/nowhere", "/auth/sessions"):
        headers = server.http("GET", path).headers
        assert headers["strict-transport-security"] == "max-age=63072000"
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    assert server.http("GET", "/auth/sessions").headers["cache-control"] == "no-store"


JWT = "eyJhbGciOiJFZERTQSJ9.e30.c2ln"


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/readyz", "/assets/app.js", "/.well-known/jwks.json", "/auth/sessions", "/auth/login/", "/no"],
)
def test_a_credential_in_the_url_is_refused_whatever_the_path_is(server: RunningServer, path: str) -> None:
    """Case 33."""
    for target in (f"{path}?access_token=x", f"{path}?a=b&Ticket=x", f"{path}?x={JWT}", f"{path}{JWT}"):
        answer = server.http("GET", target)
        assert (answer.status, answer.json["code"]) == (400, "credential_in_url"), target
        assert "location" not in answer.headers
        [line] = server.log_of(answer.json["id"])
        assert line["event.reason"] == "credential_in_url"
    assert "eyJ" not in server.log_text


@pytest.mark.parametrize("path", ["/auth/login/", "/healthz/", "/assets"])
def test_no_redirect_repeats_a_url(server: RunningServer, path: str) -> None:
    answer = server.http("GET", f"{path}?x=y")
    assert answer.status == 404
    assert "location" not in answer.headers


def test_http_for_another_host_is_421(server: RunningServer) -> None:
    answer = server.http("GET", "/", headers={"Host": "rebound.example"})
    assert (answer.status, answer.json["code"]) == (421, "host_unknown")
    assert len(server.log_of(answer.json["id"])) == 1


def test_unknown_paths_and_methods_are_refused_with_a_line_in_the_log(server: RunningServer) -> None:
    for method, path, expected in (("GET", "/nowhere", 404), ("POST", "/", 405), ("GET", "/assets/../server.py", 404)):
        answer = server.http(method, path, {} if method == "POST" else None)
        assert answer.status == expected
        assert len(server.log_of(answer.json["id"])) == 1


def test_health_and_readiness(server: RunningServer) -> None:
    assert server.http("GET", "/healthz").json == {"status": "ok"}
    ready = server.http("GET", "/readyz").json
    assert ready["status"] == "ready"
    assert any("connections_per_address" in line for line in ready["weakened"])


async def test_who_decides_is_cancelled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have to leave the database, and would never be done if it was cancelled while it does."""
    left: list[bool] = []

    async def decide(_handshake: object) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            left.append(False)
            await asyncio.sleep(0)
            left[-1] = True

    async with rig(tmp_path) as made:
        monkeypatch.setattr(made.server.admission, "decide", decide)
        wire = made.connect()
        wire.protocol.data_received(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        await asyncio.sleep(0)
        wire.protocol.eof_received()
        wire.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    assert left == [True]
