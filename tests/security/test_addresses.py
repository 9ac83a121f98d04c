"""Cases 48 to 52, from outside: who may connect, and whose request it is behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.running import ROOMY, close_code
from tests.security.sockets import HOST, UPGRADE, plain, read_to_end, secure, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.running import RunningServer, Start

PROXY = "127.0.0.1"
LIMITS = f"[limits]\n{ROOMY}"
WHO = """
from sockade import Connection, Sockade

app = Sockade()

@app.endpoint("/")
class Who:
    async def on_open(self, connection: Connection) -> None:
        connection.send(connection.address)
"""


def closed_before_tls(server: RunningServer, source: str) -> bool:
    """Tell whether a connection from an address ends without a single byte, though TLS was begun."""
    with plain(server, source) as sock:
        with contextlib.suppress(OSError):
            # The beginning of a TLS record with a ClientHello in it.
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32)
        sock.settimeout(1)
        try:
            return read_to_end(sock) == b""
        except TimeoutError:
            return False


def ask(server: RunningServer, *headers: str, source: str = PROXY, head: bytes = b"") -> dict[str, Any]:
    """Ask for a WebSocket without a credential; return the answer's body, and the address in its log line."""
    sent = "".join(f"{header}\r\n" for header in headers).encode()
    with secure(server, source) as sock:
        sock.sendall((head or b"GET / HTTP/1.1\r\n" + UPGRADE) + sent + b"\r\n")
        answer = read_to_end(sock)
    problem = dict(json.loads(answer.partition(b"\r\n\r\n")[2]))
    lines = server.log_of(problem["id"])
    assert len(lines) == 1
    return {**problem, "address": lines[0]["source.address"]}


def test_denied_address_is_closed_before_tls(start: Start) -> None:
    """Case 48."""
    server = start("[addresses]\ndeny = ['127.0.0.9/32', '127.1.0.0/16']\n")
    assert closed_before_tls(server, "127.0.0.9")
    assert closed_before_tls(server, "127.1.2.3")
    assert not closed_before_tls(server, "127.0.0.8")
    wait_until(lambda: "address_denied" in server.log_text, 5)
    denied = [line for line in server.log if line.get("event.reason") == "address_denied"]
    assert [line["source.address"] for line in denied] == ["127.0.0.9", "127.1.2.3"]


def test_where_an_allow_list_is_set_everybody_else_is_closed_before_tls(start: Start, tmp_path: Path) -> None:
    """Case 48."""
    (tmp_path / "allowed").write_text("127.0.0.1  # the tests\n\n# nobody else\n")
    server = start(f"[addresses]\nallow = ['127.0.0.3/32']\nallow_file = '{tmp_path / 'allowed'}'\n")
    assert closed_before_tls(server, "127.0.0.2")
    assert not closed_before_tls(server, "127.0.0.3")
    assert server.http("GET", "/healthz").status == 200


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that trusts 127.0.0.1 and 127.0.0.5 as proxies."""
    from tests.running import RunningServer

    folder = tmp_path_factory.mktemp("proxied")
    (folder / "who_app.py").write_text(WHO)
    config = (
        "[addresses]\ntrusted_proxies = ['127.0.0.1/32', '127.0.0.5/32']\ndeny = ['203.0.113.0/24']\n"
        f"{LIMITS.replace('connections_per_address = 5000', 'connections_per_address = 2')}"
    )
    server = RunningServer(folder / "server", config, "who_app:app", module_path=str(folder))
    server.start()
    yield server
    server.kill()


def test_forwarding_headers_of_an_untrusted_peer_are_ignored(proxied: RunningServer) -> None:
    """Case 49."""
    for header in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Forwarded-For: garbage"):
        found = ask(proxied, header, source="127.0.0.2")
        assert (found["code"], found["address"]) == ("credential_missing", "127.0.0.2")


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("X-Forwarded-For: garbage, 192.0.2.1, 127.0.0.5", "192.0.2.1"),
        ("Forwarded: for=203.0.113.9, for=192.0.2.1;proto=https", "192.0.2.1"),
        ('Forwarded: for="[2001:db8::7]:4711"', "2001:db8::7"),
    ],
)
def test_behind_trusted_proxies_the_rightmost_untrusted_address_counts(
    proxied: RunningServer, header: str, address: str
) -> None:
    """Case 49."""
    assert ask(proxied, header)["address"] == address


def test_denied_client_behind_a_trusted_proxy_is_403_for_sockets_and_requests_alike(proxied: RunningServer) -> None:
    """Case 49."""
    denied = "X-Forwarded-For: 192.0.2.1, 203.0.113.9"
    for head in (b"", b"GET /nowhere HTTP/1.1\r\n" + HOST):
        found = ask(proxied, denied, head=head)
        assert (found["status"], found["code"], found["address"]) == (403, "address_denied", "203.0.113.9")


def test_http_requests_and_the_application_see_the_client_s_address(proxied: RunningServer) -> None:
    """Case 49."""
    answer = proxied.http(
        "POST", "/auth/login", {"username": "nobody", "password": "x" * 12}, {"X-Forwarded-For": "192.0.2.8"}
    )
    assert answer.status == 401
    assert proxied.log_of(answer.json["id"])[0]["source.address"] == "192.0.2.8"


async def test_the_application_sees_the_client_s_address(proxied: RunningServer) -> None:
    """Case 49."""
    token = await asyncio.to_thread(proxied.token)
    async with proxied.connect(token=token, headers={"X-Forwarded-For": "198.51.100.7"}) as client:
        assert await asyncio.wait_for(client.recv(), 10) == "198.51.100.7"


def test_requests_of_several_clients_on_one_kept_connection_are_told_apart(proxied: RunningServer) -> None:
    """Case 49."""
    with secure(proxied) as sock:
        for address in ("192.0.2.11", "192.0.2.12", "203.0.113.1"):
            sock.sendall(b"GET /nowhere HTTP/1.1\r\n" + HOST + f"X-Forwarded-For: {address}\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"}"):
                answer += sock.recv(65_536)
            problem = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert problem["status"] == (403 if address.startswith("203.") else 404)
            assert proxied.log_of(problem["id"])[0]["source.address"] == address


@pytest.mark.parametrize(
    "headers",
    [
        ("X-Forwarded-For: garbage",),
        ("X-Forwarded-For: 192.0.2.1, 192.0.2.300",),
        ("X-Forwarded-For:",),
        ("Forwarded: 192.0.2.1",),
        ("Forwarded: for=192.0.2.1", "X-Forwarded-For: 198.51.100.7"),
        ('Forwarded: for=6.6.6.6;x="', "Forwarded: for=192.0.2.1"),
    ],
)
def test_conflicting_or_malformed_headers_of_a_trusted_proxy_are_400(
    proxied: RunningServer, headers: tuple[str, ...]
) -> None:
    """Case 50."""
    for head in (b"", b"GET /healthz HTTP/1.1\r\n" + HOST):
        found = ask(proxied, *headers, head=head)
        assert (found["status"], found["address"]) == (400, "127.0.0.1")


async def test_ipv6_addresses_of_one_site_share_one_allowance(proxied: RunningServer) -> None:
    """Case 52."""
    token = await asyncio.to_thread(proxied.token)

    def headers(address: str) -> dict[str, str]:
        return {"X-Forwarded-For": address}

    async with (
        proxied.connect(token=token, headers=headers("2001:db8:1:1::1")),
        proxied.connect(token=token, headers=headers("2001:db8:1:1:ffff::2")),
    ):
        answer = await proxied.refused(token=token, headers=headers("2001:db8:1:1:8000::3"))
        assert (answer.status, answer.json["code"]) == (429, "address_connections")
        assert int(answer.headers["retry-after"]) > 0
        async with proxied.connect(token=token, headers=headers("2001:db8:1:2::1")):
            pass
    # What is gone is no longer counted.
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(Exception):
                async with proxied.connect(token=token, headers=headers("2001:db8:1:1::4")):
                    break
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("told", [False, True])
async def test_change_of_a_list_closes_open_connections_within_5_seconds(
    start: Start, tmp_path: Path, *, told: bool
) -> None:
    """Case 51."""
    denied = tmp_path / "denied"
    denied.write_text("192.0.2.0/24\n")
    server = start(
        f"[addresses]\ndeny_file = '{denied}'\ntrusted_proxies = ['127.0.0.1/32']\n{LIMITS}tls_seconds = 60\n"
    )
    token = await asyncio.to_thread(server.token)
    silent = await asyncio.to_thread(plain, server, "127.0.0.7")
    async with (
        server.connect(token=token, headers={"X-Forwarded-For": "198.51.100.7"}) as client,
        server.connect(token=token, local_addr=("127.0.0.7", 0)) as direct,
        server.connect(token=token, headers={"X-Forwarded-For": "198.51.100.8"}) as other,
    ):
        began = time.monotonic()
        denied.write_text("192.0.2.0/24\n198.51.100.7\n127.0.0.7\n")
        if told:
            server.process.send_signal(signal.SIGHUP)
        codes = await asyncio.gather(close_code(client), close_code(direct))
        assert codes == [3003, 3003]
        # Whoever is not admitted yet goes as well.
        assert await asyncio.to_thread(read_to_end, silent) == b""
        assert time.monotonic() - began < 5
        await other.send("still here")
        await other.ping()
    silent.close()
    assert await asyncio.to_thread(closed_before_tls, server, "127.0.0.7")
    refused = await server.refused(token=token, headers={"X-Forwarded-For": "198.51.100.7"})
    assert refused.json["code"] == "address_denied"


def test_broken_list_leaves_the_old_one_and_says_so_once(start: Start, tmp_path: Path) -> None:
    """Case 51."""
    allowed = tmp_path / "allowed"
    allowed.write_text("127.0.0.1\n")
    server = start(f"[addresses]\nallow_file = '{allowed}'\n{LIMITS}")
    for broken, told in (("127.0.0.1\nnonsense\n", "line 2 is not a network"), ("# empty\n", "holds no network")):
        allowed.write_text(broken)
        wait_until(lambda told=told: told in server.log_text, 5)
        assert server.http("GET", "/healthz").status == 200
        assert closed_before_tls(server, "127.0.0.2")
    allowed.unlink()
    wait_until(lambda: "cannot be read" in server.log_text, 5)
    assert closed_before_tls(server, "127.0.0.2")
    allowed.write_text("127.0.0.1\n127.0.0.2\n")
    wait_until(lambda: not closed_before_tls(server, "127.0.0.2"), 10)
    assert server.log_text.count("the old ones stay") == 3
