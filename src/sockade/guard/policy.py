"""What the checks of a handshake compare with: the settings, worked out once at the start."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from sockade.guard.identity import Carrier
from sockade.guard.origin import canonical_origin
from sockade.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Policy:
    """The names, origins, paths and carriers that are ours."""

    names: frozenset[str]
    """Host names and addresses this server answers to, in lower case, IPv6 without brackets."""
    origins: frozenset[str]
    """Canonical origins whose pages may connect; the server's own are among them."""
    paths: frozenset[str]
    """Paths that speak WebSocket."""
    carriers: frozenset[Carrier] = frozenset(Carrier)
    first_message: str | None = None
    """The path where the first message may carry the credential; None: nowhere."""
    query_ticket: bool = False
    """Whether a ticket may stand in the URL."""


def canonical_name(name: str) -> str:
    """Return a host name or address in the form that is compared: browsers write IPv6 addresses as RFC 5952 does."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower()


def served_names(host: str, names: Iterable[str]) -> frozenset[str]:
    """Return the names under which what listens on `host` is asked for."""
    found = set(map(canonical_name, names))
    if is_loopback(host):
        found.update(LOOPBACK_NAMES)
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        found.add(canonical_name(host))
    return frozenset(found)


def own_origins(names: Iterable[str], port: int) -> frozenset[str]:
    """Return the origins of pages that this server itself delivers."""
    found = set()
    for name in names:
        host = f"[{name}]" if ":" in name else name
        if (origin := canonical_origin(f"https://{host}:{port}")) is not None:
            found.add(origin)
    return frozenset(found)
