"""Decides whether an address may connect, and with which others it shares an allowance.

What is asked is an address in one form: a mapped IPv4 address is the IPv4 address, in lists as well. How a list came
to be, and when it is read anew, is `sockade.doors.reload`'s. However long a list is, a decision is one bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = IPv4Network | IPv6Network

IPV6_SITE_BITS = 64
"""One subscriber has at least a /64 and changes addresses within it at will (RFC 4291 §2.5.1)."""
MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2


class NetworkSet:
    """Any number of networks, as sorted ranges that do not overlap; it never changes."""

    __slots__ = ("_ranges", "_size")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        plain = [plain_network(network) for network in networks]
        self._size = len(plain)
        self._ranges = {version: _ranges([n for n in plain if n.version == version]) for version in (4, 6)}

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        if not self._size:
            return False
        first, last = self._ranges[address.version]
        number = int(address)
        at = bisect_right(first, number) - 1
        return at >= 0 and number <= last[at]

    def __len__(self) -> int:
        return self._size


def _ranges(networks: list[Network]) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of the ranges that networks cover together."""
    first: list[int] = []
    last: list[int] = []
    # Networks either hold each other or do not meet, so sorted by their beginning the outer one comes first.
    for begin, end in sorted((int(n.network_address), int(n.broadcast_address)) for n in networks):
        if last and begin <= last[-1] + 1:
            last[-1] = max(last[-1], end)
        else:
            first.append(begin)
            last.append(end)
    return first, last


NOBODY = NetworkSet()


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Who may connect, and who may say for whom a connection is."""

    allow: NetworkSet | None = None
    """None means everyone who is not denied. An empty set means nobody: a list that was lost lets nobody in."""
    deny: NetworkSet = NOBODY
    proxies: NetworkSet = NOBODY

    def permits(self, address: str) -> bool:
        """Tell whether a client's address may connect; what is not an address may not."""
        try:
            parsed = plain_address(address)
        except ValueError:
            return False
        if parsed in self.deny:
            return False
        return self.allow is None or parsed in self.allow

    def trusts(self, address: str) -> bool:
        """Tell whether a peer is a trusted proxy."""
        try:
            return plain_address(address) in self.proxies
        except ValueError:
            return False


@lru_cache(maxsize=4_096)
def plain_address(text: str) -> IPv4Address | IPv6Address:
    """Return the address behind a text: an IPv4 address mapped into IPv6 is the IPv4 address.

    Raises:
        ValueError: the text is not an address.
    """
    parsed = ip_address(text.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def plain_network(network: Network) -> Network:
    """Return a network as `plain_address` returns its addresses."""
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - MAPPED.prefixlen))
    return network


@lru_cache(maxsize=4_096)
def allowance_key(address: str) -> str:
    """Return what an address shares its allowance with: itself, or for IPv6 the /64 it is in."""
    try:
        parsed = plain_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed), IPV6_SITE_BITS), strict=False))
