"""Cases 82 to 85, from outside: secrets found nowhere, log lines that cannot be forged, and what the port serves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import sqlite3
import struct
from typing import TYPE_CHECKING, Any

import pytest

from sockade.storage.database import FILE_NAME
from tests.running import PASSWORD, ROOMY
from tests.security.sockets import HOST, UPGRADE
from tests.security.wire import TEXT, Wire, close_frame, frame

if TYPE_CHECKING:
    from pathlib import Path

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

DEBUG = f"[limits]\n{ROOMY}violations_per_minute = 100\nsign_ins_per_minute = 1000\nguesses_per_minute = 1000\n"
DEBUG += '[log]\nlevel = "debug"\n'
APP = """
from sockade import Connection, Sockade

app = Sockade()

@app.endpoint("/")
class Fragile:
    async def on_message(self, connection: Connection, message: str) -> None:
        secret = message
        raise RuntimeError("application failed with the message at hand")
"""


REST = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Marks:
    """Secrets that are recognized wherever they turn up."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {"the password": PASSWORD}

    def new(self, where: str) -> str:
        self.known[where] = f"mark{secrets.token_hex(12)}"
        return self.known[where]

    def keep(self, where: str, secret: str) -> str:
        self.known[where] = secret
        return secret

    def found_in(self, text: str) -> list[str]:
        return [where for where, secret in self.known.items() if secret in text]


def handshake_with(header: str, target: str = "/") -> bytes:
    return f"GET {target} HTTP/1.1\r\n{UPGRADE.decode()}{header}\r\n\r\n".encode()


def sent_in_heads(server: RunningServer, marks: Marks) -> list[str]:
    """Show marks in every header and URL that may carry a secret; return the answers."""
    m = marks.new
    own = f"Origin: {server.origin}"
    heads = [
        handshake_with(f"Authorization: Bearer {m('bearer')}"),
        handshake_with(f"Authorization: Bearer {m('jwt head')}.{m('jwt body')}.{m('jwt signature')}"),
        handshake_with(f"Authorization: Basic {m('basic')}"),
        handshake_with(f"Authorization: {m('bare authorization')}"),
        handshake_with(f"Proxy-Authorization: {m('proxy authorization')}"),
        handshake_with(f"X-Api-Key: {m('api key')}"),
        handshake_with(f"Cookie: __Host-sockade={m('cookie')}\r\n{own}"),
        handshake_with(f"Cookie: __Host-sockade={m('cookie, foreign origin')}\r\nOrigin: https://evil.example"),
        handshake_with(f"Cookie: other={m('other cookie')}\r\n{own}"),
        # Where no credential belongs, and yet the value is logged.
        handshake_with(f"Origin: https://{marks.keep('secret as Origin', secrets.token_urlsafe(32))}.example"),
        handshake_with(f"Origin: https://x.example/#eyJhbGciOiJub25lIn0.{m('token in the Origin')}."),
        handshake_with(f"Sec-WebSocket-Protocol: sockade, ticket.{m('ticket')}\r\n{own}"),
        handshake_with(f"Sec-WebSocket-Protocol: {m('subprotocol')}\r\n{own}"),
        *(
            handshake_with("X: y", f"/?{name}={m(f'URL {name}')}")
            for name in ("access_token", "token", "ticket", "jwt", "q")
        ),
        handshake_with("X: y", f"/{m('path')}"),
        handshake_with("X: y", f"https://user:{m('userinfo')}@localhost/"),
        *(
            f"{method} {path}?{name}={m(f'{method} {path} {name}')} {REST}".encode()
            for method, path in (("GET", "/"), ("GET", "/auth/sessions"), ("POST", "/auth/login"), ("GET", "/nowhere"))
            for name in ("access_token", "x")
        ),
        f"GET / HTTP/1.1\r\nHost: {m('host')}.example\r\nConnection: close\r\n\r\n".encode(),
        f"{m('method')} / HTTP/1.1\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {m('folded')}\r\n {m('folded on')}\r\n\r\n".encode(),
        b"\x16\x03" + m("not HTTP").encode() + b"\r\n\r\n",
    ]
    return [server.exchange(head).decode("latin-1") for head in heads]


def sent_in_bodies(server: RunningServer, marks: Marks) -> list[str]:
    """Send marks in bodies, good ones and malformed ones; return the answers."""
    m, post = marks.new, server.http
    own = {"Origin": server.origin}
    bodies: list[tuple[str, Any]] = [
        ("/auth/login", {"username": "ada", "password": m("wrong password")}),
        ("/auth/login", {"username": "nobody", "password": m("password of nobody")}),
        ("/auth/login", {"username": "ada", "password": [m("password of another type")]}),
        ("/auth/login", {"username": "ada", "password": PASSWORD, "extra": m("unknown field")}),
        ("/auth/login", {"link": m("link"), "username": "eve", "password": m("password with a link")}),
        ("/auth/refresh", {"refresh_token": m("refresh token")}),
        ("/auth/ticket", {"x": m("ticket body")}),
    ]
    answers = [str(post("POST", path, body, own)) for path, body in bodies]
    malformed = [f'{{"password":"{m("malformed")}', f"password={m('form')}", f'{{"a":{m("not JSON")}}}']
    large = f'{{"username":"ada","password":"{m("large") * 4_000}"}}'
    return answers + [str(post("POST", "/auth/login", headers=own, raw=raw.encode())) for raw in [*malformed, large]]


def real_ones(server: RunningServer, marks: Marks) -> None:
    """Use real credentials in every way there is, and keep them."""
    cookie = server.cookie()
    marks.keep("session cookie", cookie.partition("=")[2])
    headers = {"Cookie": cookie, "Origin": server.origin}
    ticket = marks.keep("real ticket", server.http("POST", "/auth/ticket", {}, headers).json["ticket"])
    tokens = server.tokens()
    marks.keep("access token's signature", tokens["access_token"].rpartition(".")[2])
    old = marks.keep("real refresh token", tokens["refresh_token"])
    new = server.http("POST", "/auth/refresh", {"refresh_token": old}).json
    marks.keep("rotated refresh token", new["refresh_token"])
    server.exchange(handshake_with(f"Sec-WebSocket-Protocol: sockade, ticket.{ticket}\r\nOrigin: https://evil.example"))
    server.exchange(handshake_with(f"Cookie: {cookie}\r\nOrigin: https://evil.example"))
    server.http("POST", "/auth/logout", {}, headers)
    server.exchange(handshake_with(f"Cookie: {cookie}\r\nOrigin: {server.origin}"))
    for path in (server.data_dir / "keys").glob("*.pem"):
        for number, line in enumerate(path.read_text().splitlines()):
            if not line.startswith("-----"):
                marks.keep(f"{path.name} line {number}", line)


def crash(server: RunningServer, marks: Marks) -> None:
    """Let application code fail with a secret at hand, and frames fail with one within."""
    token = server.token()
    marks.keep("token of the crash", token.rpartition(".")[2])
    for message in (
        frame(TEXT, marks.new("message at a crash").encode()),
        frame(3, marks.new("unknown opcode").encode()),
        frame(TEXT, marks.new("bad UTF-8").encode() + b"\xff"),
        close_frame(5_000, marks.new("bad close").encode()),
        frame(TEXT, b"\x1b" + marks.new("forbidden text").encode()) + close_frame(1000),
    ):
        with Wire(server, token) as wire:
            wire.send(message)
            wire.close_code()


def test_secrets_are_found_in_no_log_no_answer_and_no_output(start: Start, tmp_path: Path, observe: Observe) -> None:
    """Case 82."""
    (tmp_path / "secrets_under_test.py").write_text(APP)
    server = start(DEBUG, "secrets_under_test:app", module_path=str(tmp_path))
    marks = Marks()
    server.add_user("ada")
    answers = sent_in_heads(server, marks) + sent_in_bodies(server, marks)
    answers += [str(server.http("GET", path)) for path in ("/healthz", "/readyz", "/.well-known/jwks.json")]
    real_ones(server, marks)
    crash(server, marks)
    assert server.stop() == 0
    at_rest = b"".join(path.read_bytes() for path in server.data_dir.glob("*.db*")).decode("latin-1")
    assert marks.found_in(server.log_text) == []
    assert marks.found_in(server.panel) == []
    assert marks.found_in("\n".join(answers)) == []
    # At rest there are digests: nothing that would open a connection.
    assert marks.found_in(at_rest) == []
    assert len(at_rest) > 10_000
    assert "application failed" in server.log_text
    assert server.log_text.count("\n") > 50
    observe(
        "0 of them",
        f"0 of {len(marks.known)} marks in {len(server.log)} log lines, {len(answers)} answers and the database",
    )


def test_a_database_that_breaks_tells_no_secret(start: Start) -> None:
    """Case 82."""
    server = start(DEBUG)
    marks = Marks()
    server.add_user("ada")
    cookie = server.cookie()
    marks.keep("session cookie", cookie.partition("=")[2])
    with contextlib.closing(sqlite3.connect(server.data_dir / FILE_NAME)) as database:
        (kept,) = database.execute("select password_hash from users").fetchone()
        marks.keep("password hash", kept)
        for table in ("users", "sessions"):
            database.execute(f"alter table {table} rename to {table}_gone")
        database.commit()
    marks.new("password")
    answers = [
        str(
            server.http(
                "POST",
                "/auth/login",
                {"username": "ada", "password": marks.known["password"]},
                {"Origin": server.origin},
            )
        ),
        str(server.http("GET", "/auth/sessions", headers={"Cookie": cookie})),
        server.exchange(handshake_with(f"Authorization: Bearer {marks.new('bearer')}")).decode("latin-1"),
        server.exchange(
            handshake_with(f"Cookie: __Host-sockade={marks.new('cookie')}\r\nOrigin: {server.origin}")
        ).decode("latin-1"),
    ]
    assert not any("200" in answer[:40] or " 101 " in answer[:40] for answer in answers), answers
    server.stop()
    assert "no such table" in server.log_text
    assert marks.found_in(server.log_text + server.panel + "\n".join(answers)) == []
    # Not even what a query was about, such as digests and names.
    assert "[parameters:" not in server.log_text


FORGED = '\r\n{"@timestamp":"2026-01-01","event.action":"forged"}\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028'


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_nothing_a_client_sends_forges_a_line_or_commands_a_terminal(start: Start, log_format: str) -> None:
    """Case 83."""
    server = start(f'[limits]\n{ROOMY}\n[log]\nformat = "{log_format}"\nlevel = "debug"\n')
    token = await asyncio.to_thread(server.token)
    body = {"username": f"ada{FORGED}", "password": PASSWORD}
    await asyncio.to_thread(server.http, "POST", "/auth/login", body, {"Origin": server.origin})
    # What may stand in a header at all: no CR and LF, but C1 controls.
    raw = "\x9b31m\x85\xa0"
    for head in (
        f"GET / HTTP/1.1\r\n{UPGRADE.decode()}Origin: https://x{raw}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{UPGRADE.decode()}User-Agent: {raw}\r\nAuthorization: Bearer {raw}\r\n\r\n",
        f"GET /%0d%0a%1b[2J HTTP/1.1\r\n{UPGRADE.decode()}\r\n",
        f"GET /\x1b[2J HTTP/1.1\r\n{UPGRADE.decode()}\r\n",
        f"GET / HTTP/1.1\r\nHost: {raw}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{UPGRADE.decode()}Sec-WebSocket-Protocol: {raw}\r\n\r\n",
    ):
        await asyncio.to_thread(server.exchange, head.encode("latin-1"))
    with Wire(server, token) as wire:
        reason = FORGED.encode()[:123].decode(errors="ignore").encode()
        wire.send(frame(8, struct.pack("!H", 1000) + reason))
        assert wire.close_code() == 1000
    assert await asyncio.to_thread(server.stop) == 0
    text = server.log_text
    assert "forged" in text  # it is told, on its line
    assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e]", text) == []
    if log_format == "json":
        assert len(server.log) == len(text.splitlines())
        assert not any(line.get("event.action") == "forged" for line in server.log)
    else:
        assert not any(line.startswith("{") for line in text.splitlines())


ADMIN = [
    "/metrics",
    "/admin",
    "/admin/",
    "/api",
    "/api/publish",
    "/api/info",
    "/api/v1",
    "/debug",
    "/docs",
    "/openapi.json",
    "/.env",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_of_the_admin_listener_is_on_the_public_one(server: RunningServer, method: str) -> None:
    """Case 84."""
    headers = {"Cookie": server.cookie(), "Origin": server.origin, "X-API-Key": "x", "Authorization": "apikey x"}
    found = {path: server.http(method, path, {} if method == "POST" else None, headers).status for path in ADMIN}
    assert set(found.values()) <= {404, 405}, found
    assert found["/metrics"] == found["/admin"] == found["/api/publish"] == 404


async def test_no_socket_is_opened_where_the_admin_listener_would_be(server: RunningServer) -> None:
    """Case 84."""
    token = await asyncio.to_thread(server.token)
    for path in ("/metrics", "/admin", "/api"):
        assert (await server.refused(path, token=token)).status == 404


EXACT = {
    "strict-transport-security": "max-age=63072000",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def test_headers_are_exact_on_pages_assets_answers_and_refusals(server: RunningServer, observe: Observe) -> None:
    """Case 85."""
    page = server.http("GET", "/")
    assets = sorted(set(re.findall(r'(?:src|href)="([^"#]+)"', page.json.decode())))
    assert len(assets) >= 2
    # Nothing is asked of anyone else.
    assert all(link.startswith("/") and not link.startswith("//") for link in assets), assets
    assert not re.search(rb"<script(?![^>]*\bsrc=)|\son\w+=|<style|style=", page.json)
    paths = ["/", "/healthz", "/auth/sessions", "/nowhere", "/.well-known/jwks.json", *assets]
    for path in paths:
        answer = server.http("GET", path)
        assert {name: answer.headers.get(name) for name in EXACT} == EXACT, path
        # The page's files and the public keys may be kept; nothing else is.
        kept = {"/.well-known/jwks.json": "public, max-age=300"} | dict.fromkeys(["/", *assets], "no-cache")
        assert answer.headers["cache-control"] == kept.get(path, "no-store"), path
        assert re.match(r"(text|image|application)/[a-z+-]+", answer.headers["content-type"]), path
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    # Whatever is answered to a credential is kept by nobody.
    login = server.http("POST", "/auth/login", {"username": "x", "password": PASSWORD}, {"Origin": server.origin})
    for answer in (login, server.http("GET", "/auth/sessions", headers={"Cookie": server.cookie()})):
        assert answer.headers["cache-control"] == "no-store"
    observe("the same headers everywhere", f"exact on {len(paths)} of {len(paths)} paths")


def test_refusals_before_the_http_application_say_nothing_of_the_server(server: RunningServer) -> None:
    """Case 85."""
    answer = server.exchange(b"GET / HTTP/1.1\r\n" + HOST + b"\r\nX").decode("latin-1").lower()
    for refused in (answer, server.exchange(handshake_with("X: y")).decode("latin-1").lower()):
        head = refused.partition("\r\n\r\n")[0]
        assert "\r\nserver:" not in head
        assert not any(word in head for word in ("python", "uvicorn", "sockade/", "starlette"))
