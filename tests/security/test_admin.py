"""The admin listener from outside: where it is, who gets in, and that the public listener's limits hold on it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from sockade.doors.certificates import ensure_local_pair
from tests.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Serve = Callable[..., RunningServer]

CONFIG = "[admin]\nport = 0\nbody_bytes = 2000\n{admin}\n[limits]\nhead_seconds = 1\nresponse_seconds = 2\n{more}\n"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers that were set up with `sockade init`; they end with the module."""
    started: list[RunningServer] = []

    def begin(admin: str = "", more: str = "") -> RunningServer:
        config = CONFIG.format(admin=admin, more=more)
        server = RunningServer(tmp_path_factory.mktemp("admin") / "server", config)
        started.append(server)
        server.init()
        server.start()
        return server

    yield begin
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def secured(serve: Serve) -> RunningServer:
    """The admin listener as it is by default."""
    return serve()


@pytest.fixture(scope="module")
def plain(serve: Serve) -> RunningServer:
    """One without TLS, on a server whose clients come from elsewhere."""
    return serve("tls = false", "[addresses]\nallow = ['192.0.2.0/24']")


def port_of(server: RunningServer) -> int:
    return urlsplit(server.api_url).port or 0


def opened(server: RunningServer) -> socket.socket:
    """Return a connection to the admin listener to write any bytes on."""
    sock = socket.create_connection(("127.0.0.1", port_of(server)), timeout=20)
    return server.tls.wrap_socket(sock, server_hostname="localhost") if server.api_url.startswith("https") else sock


def exchange(server: RunningServer, data: bytes) -> bytes:
    """Send bytes and return all that comes back until the server ends the connection."""
    with opened(server) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65_536), b""))


def call(server: RunningServer, path: str = "/api/info", body: object = None, **headers: str) -> tuple[int, Any]:
    """Make one request, with the key unless another `key` is given."""
    host, port = "localhost", port_of(server)
    tls = server.api_url.startswith("https")
    connection: HTTPConnection = (
        HTTPSConnection(host, port, context=server.tls, timeout=20) if tls else HTTPConnection(host, port, timeout=20)
    )
    key = headers.pop("key", server.api_key)
    try:
        connection.request(
            "POST", path, json.dumps(body or {}), {"Content-Type": "application/json", "X-API-Key": key, **headers}
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.fixture(params=["secured", "plain"])
def server(request: pytest.FixtureRequest) -> RunningServer:
    """Both, for what must hold with and without TLS."""
    found: RunningServer = request.getfixturevalue(request.param)
    return found


# Where it is.


def test_the_key_opens_the_admin_listener_and_not_the_public_one(secured: RunningServer) -> None:
    """Case 84."""
    assert call(secured)[0] == 200
    headers = {"X-API-Key": secured.api_key}
    for path in ("/api/info", "/api/publish", "/api/batch"):
        assert secured.http("POST", path, {}, headers).status == 404, path


def test_a_wrong_key_opens_nothing_and_is_in_the_log_once(secured: RunningServer) -> None:
    """Case 84."""
    for key in ("", "x" * 43, secured.api_key[:-1], secured.api_key + "x"):
        status, answer = call(secured, key=key)
        assert status == 401
        assert len(secured.log_of(answer["id"])) == 1


def test_without_a_key_nothing_listens(tmp_path: Path) -> None:
    """Case 84."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = RunningServer(tmp_path / "server", f"[admin]\nport = {port}\n")
    server.start()
    try:
        assert server.api_url == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    finally:
        server.kill()


def test_the_key_is_its_owner_s_alone_and_never_shown(server: RunningServer) -> None:
    """Cases 82, 84."""
    assert (server.data_dir / "api.key").stat().st_mode & 0o777 == 0o600
    assert len(server.api_key) == 43
    call(server)
    call(server, "/api/nothing")
    call(server, f"/api/info?key={server.api_key}")
    assert server.api_key not in server.panel + server.log_text


def test_init_makes_one_key_and_keeps_it(secured: RunningServer) -> None:
    before = secured.api_key
    done = secured.command("init", "--config", str(secured.config), "--data-dir", str(secured.data_dir))
    assert done.returncode == 0
    assert secured.api_key == before
    assert before not in done.stdout + done.stderr


def test_a_port_that_is_taken_is_named_by_its_setting(tmp_path: Path, secured: RunningServer) -> None:
    server = RunningServer(tmp_path / "server", f"[admin]\nport = {port_of(secured)}\n")
    server.init()
    words = ("serve", "--config", str(server.config), "--data-dir", str(server.data_dir), "--port", "0")
    done = server.command(*words)
    assert done.returncode == 3
    assert "admin.port" in done.stderr


# TLS.


def test_by_default_it_speaks_nothing_but_tls(secured: RunningServer) -> None:
    """Case 2."""
    assert secured.api_url.startswith("https://localhost:")
    with socket.create_connection(("127.0.0.1", port_of(secured)), timeout=20) as sock:
        sock.sendall(b"POST /api/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = sock.recv(65_536)
        assert not answer.startswith(b"HTTP")
    assert call(secured)[0] == 200


def test_without_tls_it_is_named_as_weakened(plain: RunningServer) -> None:
    assert plain.api_url.startswith("http://localhost:")
    assert "admin.tls is off" in plain.panel
    assert call(plain)[0] == 200


def test_beside_a_public_certificate_loopback_has_the_local_one(serve: Serve, tmp_path: Path) -> None:
    public = ensure_local_pair(tmp_path / "public", ["chat.example.com"], time.time())
    pair = f"[tls]\ncertificate = '{public.certificate}'\nkey = '{public.key}'\n"
    server = serve(more=f"{pair}[server]\nnames = ['localhost']\n")
    assert call(server)[0] == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        server.http("GET", "/healthz")


def test_off_loopback_the_address_lists_hold_and_the_certificate_is_the_public_one(
    serve: Serve, tmp_path: Path
) -> None:
    """Case 48."""
    public = ensure_local_pair(tmp_path / "public", [], time.time())
    pair = f"[tls]\ncertificate = '{public.certificate}'\nkey = '{public.key}'\n"
    lists = "[addresses]\ndeny = ['127.0.0.2/32']\n[server]\nnames = ['localhost']\n"
    server = serve("host = '0.0.0.0'", pair + lists)
    trusted = ssl.create_default_context(cafile=str(tmp_path / "public" / "ca.pem"))

    def ask(source: str) -> int:
        port = port_of(server)
        connection = HTTPSConnection("localhost", port, context=trusted, timeout=20, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status

    assert "admin.host lets other machines" in server.panel
    assert ask("127.0.0.3") == 200
    with pytest.raises(OSError, match=r"EOF|reset|closed"):
        ask("127.0.0.2")


# The limits of the public listener.


def test_another_host_is_421(server: RunningServer) -> None:
    """Case 19."""
    head = f"POST /api/info HTTP/1.1\r\nHost: evil.example\r\nX-API-Key: {server.api_key}\r\n"
    answer = exchange(server, f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")


def test_a_head_that_does_not_end_is_cut_off(server: RunningServer) -> None:
    """Case 9."""
    began = time.monotonic()
    answer = exchange(server, b"POST /api/info HTTP/1.1\r\nHost: localhost\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.9 < time.monotonic() - began < 15


def test_a_body_that_does_not_end_is_cut_off(server: RunningServer) -> None:
    head = f"POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {server.api_key}\r\nContent-Length: 100\r\n"
    answer = exchange(server, f"{head}Content-Type: application/json\r\n\r\n{{".encode())
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_head_over_its_size_is_431(server: RunningServer) -> None:
    """Case 8."""
    assert exchange(server, b"POST /api/info HTTP/1.1\r\nX: " + b"x" * 9_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")


def test_a_body_over_its_size_is_413(server: RunningServer) -> None:
    assert call(server, "/api/publish", {"channel": "a", "data": "x" * 2_000})[0] == 413
    assert call(server, "/api/publish", {"channel": "a", "data": "x" * 1_000})[0] == 200


def test_no_socket_opens(server: RunningServer) -> None:
    """Case 84."""
    head = f"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {server.api_key}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    answer = exchange(server, f"{head}{upgrade}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_a_backend_may_have_more_connections_than_a_client(secured: RunningServer) -> None:
    sockets = [opened(secured) for _ in range(30)]
    try:
        assert call(secured)[0] == 200
    finally:
        for sock in sockets:
            sock.close()


def test_a_stop_does_not_wait_for_an_idle_backend(serve: Serve) -> None:
    """Case 79."""
    server = serve()
    connection = HTTPSConnection("localhost", port_of(server), context=server.tls, timeout=20)
    try:
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read()) == {"status": "ok"}
        assert server.stop(seconds=20) == 0
    finally:
        connection.close()
