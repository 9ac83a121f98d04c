"""Before the 101, from outside: who gets a socket, what the others are told, and what the log says of them."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from websockets.exceptions import InvalidStatus

from tests.security.sockets import UPGRADE, plain, read_to_end, status
from tests.security.wire import Wire

if TYPE_CHECKING:
    from tests.running import Answer, RunningServer, Start


def assert_one_log_line(server: RunningServer, answer: Answer, reason: str) -> None:
    """A refusal shows its code and an id, and that id stands in exactly one line."""
    assert answer.json["code"] == reason
    lines = server.log_of(answer.json["id"])
    assert [line["event.reason"] for line in lines] == [reason]
    assert lines[0]["source.address"] == "127.0.0.1"


async def test_no_credential_is_401(server: RunningServer) -> None:
    answer = await server.refused()
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert_one_log_line(server, answer, "credential_missing")


async def test_foreign_origin_is_403_even_with_a_good_credential(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    answer = await server.refused(token=token, origin="https://evil.example")
    assert answer.status == 403
    assert_one_log_line(server, answer, "origin_forbidden")
    assert server.log_of(answer.json["id"])[0]["http.request.header.origin"] == "https://evil.example"


async def test_foreign_host_is_421(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    sent = (
        b"GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    answer = await asyncio.to_thread(server.exchange, sent)
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b'"code":"host_unknown"' in answer


async def test_good_token_gets_a_socket(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        assert client.response is not None
        assert client.response.status_code == 101


def claims(server: RunningServer, **change: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": "sockade", "aud": "sockade", "sub": "ada", "sid": "x", "role": "user", "scope": "", "jti": "j"}
    return {**good, "iat": now, "exp": now + 60, **change}


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(header: dict[str, Any], content: dict[str, Any], key: Ed25519PrivateKey) -> str:
    """Return a JWS in compact form (RFC 7515 §7.1), made without the server's code."""
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, content))
    return f"{signed}.{encoded(key.sign(signed.encode()))}"


async def test_forged_token_is_401(server: RunningServer) -> None:
    kid = server.http("GET", "/.well-known/jwks.json").json["keys"][0]["kid"]
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
    forged = sign(header, claims(server), Ed25519PrivateKey.generate())
    answer = await server.refused(token=forged)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert_one_log_line(server, answer, "token_invalid")


def own_key(server: RunningServer) -> Ed25519PrivateKey:
    """The server's own signing key, read from its data directory."""
    (path,) = (server.data_dir / "keys").glob("signing.*.pem")
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


@pytest.mark.parametrize(("shift", "reason"), [(0, ""), (-600, "token_expired"), (600, "token_invalid")])
async def test_token_is_good_in_its_time_alone(server: RunningServer, shift: int, reason: str) -> None:
    header, content, _ = (await asyncio.to_thread(server.token)).split(".")
    changed = json.loads(decoded(content))
    changed["iat"], changed["exp"] = changed["iat"] + shift, changed["exp"] + shift
    token = sign(json.loads(decoded(header)), changed, own_key(server))
    if not reason:
        async with server.connect(token=token):
            return
    answer = await server.refused(token=token)
    assert answer.status == 401
    assert_one_log_line(server, answer, reason)


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", "." * 5, "x" * 7000])
async def test_any_other_string_is_401(server: RunningServer, token: str) -> None:
    assert (await server.refused(token=token)).status == 401


async def test_session_cookie_needs_an_own_origin(server: RunningServer) -> None:
    cookie = {"Cookie": await asyncio.to_thread(server.cookie)}
    assert (await server.refused(headers=cookie)).json["code"] == "origin_missing"
    assert (await server.refused(headers=cookie, origin="null")).json["code"] == "origin_forbidden"
    async with server.connect(headers=cookie, origin=server.origin):
        pass


async def test_wrong_cookie_is_401(server: RunningServer) -> None:
    answer = await server.refused(headers={"Cookie": "__Host-sockade=" + "A" * 43}, origin=server.origin)
    assert answer.status == 401
    assert_one_log_line(server, answer, "session_invalid")


def ticket(server: RunningServer) -> str:
    headers = {"Cookie": server.cookie(), "Origin": server.origin}
    return str(server.http("POST", "/auth/ticket", {}, headers).json["ticket"])


async def test_ticket_works_once_and_is_not_echoed(server: RunningServer) -> None:
    offer = ["sockade", f"ticket.{await asyncio.to_thread(ticket, server)}"]
    async with server.connect(subprotocols=offer, origin=server.origin) as client:
        assert client.subprotocol == "sockade"
        assert client.response is not None
        assert "ticket" not in str(client.response.headers)
    answer = await server.refused(subprotocols=offer, origin=server.origin)
    assert answer.status == 401
    assert_one_log_line(server, answer, "ticket_invalid")


async def test_one_ticket_shown_many_times_at_once_opens_one_socket(server: RunningServer) -> None:
    offer = ["sockade", f"ticket.{await asyncio.to_thread(ticket, server)}"]

    async def attempt() -> int:
        try:
            async with server.connect(subprotocols=offer, origin=server.origin):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    found = await asyncio.gather(*(attempt() for _ in range(50)))
    assert sorted(found) == [101] + [401] * 49


async def test_token_in_the_url_is_400_and_in_no_log(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    answer = await server.refused(f"/?access_token={token}", token=token)
    assert answer.status == 400
    assert_one_log_line(server, answer, "credential_in_url")
    assert token not in server.log_text


async def test_unknown_path_is_404(server: RunningServer) -> None:
    assert (await server.refused("/nowhere")).status == 404


async def test_one_user_has_a_bounded_number_of_connections(start: Any) -> None:
    server = start("[limits]\nconnections_per_user = 2\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token), server.connect(token=token):
        answer = await server.refused(token=token)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json["code"] == "user_connections"


def test_a_handshake_while_the_server_stops_is_503(start: Start) -> None:
    server = start()
    token = server.token()
    # Who does not answer the closing keeps the server for a while; who has not said hello is not known to it yet.
    with Wire(server, token), plain(server) as late:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with server.tls.wrap_socket(late, server_hostname="localhost") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + f"Authorization: Bearer {token}\r\n\r\n".encode())
            answer = read_to_end(sock)
    assert status(answer) == 503
    assert b'"draining"' in answer
