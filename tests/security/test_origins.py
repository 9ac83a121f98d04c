"""Cases 15 to 19, from outside: which page, and which host, a handshake may come from. Case 20 needs a browser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.running import ROOMY, RunningServer
from tests.security.sockets import HOST, UPGRADE, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.report import Observe

ALLOWED = "https://app.example.com"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that lets one foreign page connect."""
    server = RunningServer(tmp_path_factory.mktemp("origins"), f'[origins]\nallowed = ["{ALLOWED}"]\n[limits]\n{ROOMY}')
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def cookie(listed: RunningServer) -> dict[str, str]:
    return {"Cookie": listed.cookie()}


@pytest.mark.parametrize("shown", ["a good one", "a bad one", "none"])
async def test_a_foreign_origin_is_403_before_any_credential_is_looked_at(listed: RunningServer, shown: str) -> None:
    """Case 15."""
    headers = {
        "a good one": {"Cookie": await asyncio.to_thread(listed.cookie)},
        "a bad one": {"Cookie": "__Host-sockade=x"},
    }
    answer = await listed.refused(headers=headers.get(shown, {}), origin="https://evil.example")
    # What is shown makes no difference, so it was not looked at: a bad one would be 401.
    assert (answer.status, answer.json["code"]) == (403, "origin_forbidden")
    (line,) = listed.log_of(answer.json["id"])
    assert line["event.reason"] == "origin_forbidden"
    assert line["http.request.header.origin"] == "https://evil.example"
    assert "user.name" not in line


def ticket(server: RunningServer, cookie: dict[str, str]) -> list[str]:
    answer = server.http("POST", "/auth/ticket", {}, {**cookie, "Origin": server.origin})
    return ["sockade", f"ticket.{answer.json['ticket']}"]


async def test_no_origin_or_null_beside_cookie_or_ticket_is_403(listed: RunningServer, cookie: dict[str, str]) -> None:
    """Case 16."""
    for origin, code in ((None, "origin_missing"), ("null", "origin_forbidden")):
        beside_cookie = await listed.refused(headers=cookie, origin=origin)
        assert (beside_cookie.status, beside_cookie.json["code"]) == (403, code)
        offer = await asyncio.to_thread(ticket, listed, cookie)
        beside_ticket = await listed.refused(subprotocols=offer, origin=origin)
        assert (beside_ticket.status, beside_ticket.json["code"]) == (403, code)
    async with listed.connect(headers=cookie, origin=listed.origin):
        pass


LOOK_LIKE_IT = [
    "https://app.example.com.evil",
    "https://evil-app.example.com",
    "https://app.example.com@evil.example",
    "https://evil.example@app.example.com",
    "https://app.example.com:secret@evil.example",
    "http://app.example.com",
    "wss://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:4430",
    "https://app.example.com.",
    "https://app.example.com/",
    "https://app.example.com/path",
    "https://app.example.com?x",
    "https://app.example.com#x",
    "https://app.example.com%2eevil",
    "https://appXexample.com",
    "https://example.com",
    "https://sub.app.example.com",
    "https://app.example.com, https://evil.example",
    "https://app.example.com https://evil.example",
    "app.example.com",
    "//app.example.com",
    "file://",
    "https://",
    "*",
    "https://*.example.com",
    "https://аpp.example.com".encode().decode("latin-1"),  # a Cyrillic letter
]


async def test_an_origin_that_only_looks_like_an_allowed_one_is_403(
    listed: RunningServer, cookie: dict[str, str], observe: Observe
) -> None:
    """Case 17."""
    admitted = []
    for origin in LOOK_LIKE_IT:
        head = f"GET / HTTP/1.1\r\n{UPGRADE.decode()}Cookie: {cookie['Cookie']}\r\nOrigin: {origin}\r\n\r\n"
        answer = await asyncio.to_thread(listed.exchange, head.encode("latin-1"))
        if status(answer) != 403:
            admitted.append((origin, answer[:40]))
    observe(f"403 for {len(LOOK_LIKE_IT)} origins", f"{len(LOOK_LIKE_IT) - len(admitted)} were 403")
    assert admitted == []


async def test_two_origins_are_403(listed: RunningServer, cookie: dict[str, str]) -> None:
    """Case 17."""
    head = f"GET / HTTP/1.1\r\n{UPGRADE.decode()}Cookie: {cookie['Cookie']}\r\n"
    head += f"Origin: {ALLOWED}\r\nOrigin: https://evil.example\r\n\r\n"
    assert status(await asyncio.to_thread(listed.exchange, head.encode())) == 403


@pytest.mark.parametrize("origin", [ALLOWED, "HTTPS://App.Example.COM", f"{ALLOWED}:443"])
async def test_case_and_the_default_port_make_no_difference(
    listed: RunningServer, cookie: dict[str, str], origin: str
) -> None:
    """Case 17."""
    async with listed.connect(headers=cookie, origin=origin):
        pass


async def test_a_sibling_of_the_same_site_is_403_though_the_cookie_comes_along(
    listed: RunningServer, cookie: dict[str, str]
) -> None:
    """Case 18."""
    for origin in ("https://localhost", f"https://other.localhost:{listed.port}", f"http://localhost:{listed.port}"):
        answer = await listed.refused(headers=cookie, origin=origin)
        assert (answer.status, answer.json["code"]) == (403, "origin_forbidden"), origin


FOREIGN_HOSTS = [
    b"evil.example",
    b"localhost.evil.example",
    b"evil.example:8443",
    b"localhost@evil.example",
    b"[::2]",
    b"",
    b"localhost, evil.example",
    b"localhost/x",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_host_that_is_not_ours_is_421_for_sockets_and_pages(listed: RunningServer, host: bytes) -> None:
    """Case 19."""
    token = (await asyncio.to_thread(listed.token)).encode()
    upgrade = UPGRADE.replace(HOST, b"Host: " + host + b"\r\n") + b"Authorization: Bearer " + token
    answer = await asyncio.to_thread(listed.exchange, b"GET / HTTP/1.1\r\n" + upgrade + b"\r\n\r\n")
    assert status(answer) in (400, 421)
    assert status(answer) == 421 or host in (b"", b"localhost, evil.example", b"localhost/x")
    page = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    assert status(await asyncio.to_thread(listed.exchange, page)) in (400, 421)


async def test_two_hosts_or_none_are_refused(listed: RunningServer) -> None:
    """Case 19."""
    for hosts in (b"", HOST + b"Host: evil.example\r\n", HOST + HOST):
        upgrade = UPGRADE.replace(HOST, hosts)
        answer = await asyncio.to_thread(listed.exchange, b"GET / HTTP/1.1\r\n" + upgrade + b"\r\n")
        assert status(answer) in (400, 421), hosts
