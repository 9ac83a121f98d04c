"""A handshake that is admitted, to be spoilt one part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from sockade.guard.handshake import Handshake, Head
from sockade.guard.identity import ConnectionId
from sockade.guard.policy import LOOPBACK_NAMES, Policy, own_origins

if TYPE_CHECKING:
    from collections.abc import Iterable

GOOD = {
    "host": "localhost:8443",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "authorization": "Bearer token",
}


class MakeHandshake(Protocol):
    def __call__(
        self,
        change: dict[str, str | None] | None = None,
        more: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        target: str = "/",
        version: str = "1.1",
    ) -> Handshake: ...


@pytest.fixture
def policy() -> Policy:
    return Policy(
        names=frozenset(LOOPBACK_NAMES) | {"app.example.com"},
        origins=own_origins((*LOOPBACK_NAMES, "app.example.com"), 8443) | {"https://app.example.com"},
        paths=frozenset({"/"}),
    )


@pytest.fixture
def handshake() -> MakeHandshake:
    """Return a maker: `change` replaces headers (None leaves one out), `more` adds some."""

    def make(
        change: dict[str, str | None] | None = None,
        more: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        target: str = "/",
        version: str = "1.1",
    ) -> Handshake:
        headers = {**GOOD, **(change or {})}
        pairs = tuple((name, value) for name, value in headers.items() if value is not None)
        return Handshake(ConnectionId("c"), Head(method, target, version, (*pairs, *more)), "127.0.0.1")

    return make
