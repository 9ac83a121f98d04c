"""Decides whose request it is that a trusted proxy hands on: the rightmost address that is not a trusted proxy's.

Each proxy appends where its request came from, so only what trusted proxies appended is known; what stands further
left is whatever the client liked to claim, and is not even read. Headers of anybody but a trusted proxy are never
looked at: that is the caller's first question (`AddressRules.trusts`). Where a trusted proxy's word is malformed or
contradicts itself, the request is refused with 400: an address that was guessed would be somebody else's.

Sources: RFC 7239 (Forwarded); X-Forwarded-For has no standard, and is read as every proxy writes it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockade.guard.addresses import plain_address
from sockade.guard.handshake import TOKEN, Head, Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockade.guard.addresses import NetworkSet

MOST_PROXIES = 32
"""No chain of trusted proxies is longer; a header of 16 KiB could name thousands."""

NODE = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[\w.-]+))?", re.IGNORECASE | re.ASCII)
"""RFC 7239 §6: an address, IPv6 in brackets, and perhaps a port."""
PAIR = re.compile(rf'({TOKEN})=(?:({TOKEN})|"((?:[^"\\]|\\.)*)")')


def client_address(head: Head, peer: str, proxies: NetworkSet) -> str | Refuse:
    """Return the address of the client behind a trusted proxy, or a refusal.

    `peer` is the proxy's own address; a proxy that names nobody asks for itself.
    """
    try:
        named = [
            walk(entries, proxies)
            for entries in (listed(head.all("x-forwarded-for")), forwarded(head.all("forwarded")))
            if entries
        ]
    except ValueError as error:
        return Refuse(Reason.BAD_REQUEST, f"a trusted proxy's forwarding header: {error}")
    if len(set(named)) > 1:
        return Refuse(Reason.BAD_REQUEST, "X-Forwarded-For and Forwarded name different clients")
    return named[0] if named else peer


def walk(entries: list[str], proxies: NetworkSet) -> str:
    """Return the rightmost address that is no trusted proxy's; where all are, the leftmost.

    Raises:
        ValueError: an entry on the way is no address, or the way is too long.
    """
    address = ""
    for entry in reversed(entries[-MOST_PROXIES:]):
        parsed = plain_address(bare(entry))
        address = str(parsed)
        if parsed not in proxies:
            return address
    if len(entries) > MOST_PROXIES:
        raise ValueError("too many proxies")
    return address


def bare(entry: str) -> str:
    """Return an address without brackets and port. Raises ValueError for anything else."""
    match = NODE.fullmatch(entry)
    if match is not None and (match[2] or ":" in match[1]):
        return str(match[2] or match[1])
    # X-Forwarded-For holds IPv6 addresses without brackets too; a zone would be the client's own text.
    if ":" not in entry or "%" in entry:
        raise ValueError("not an address")
    return entry


def listed(values: Sequence[str]) -> list[str]:
    """Return the entries of X-Forwarded-For; several headers are one list (RFC 9110 §5.3)."""
    return [part.strip(" \t") for value in values for part in value.split(",")]


def forwarded(values: Sequence[str]) -> list[str]:
    """Return the `for` of each element of Forwarded (RFC 7239 §4).

    Each header has to be whole by itself: a quotation mark that a client left open must not swallow what a proxy
    appended. Raises ValueError where one is not, or where an element does not have exactly one `for`.
    """
    return [node for value in values for node in _elements(value)]


def _elements(value: str) -> list[str]:
    nodes: list[str] = []
    found: list[str] = []
    at = 0
    while True:
        while at < len(value) and value[at] in " \t":
            at += 1
        match = PAIR.match(value, at)
        if match is None:
            raise ValueError("not of RFC 7239's form")
        if match[1].lower() == "for":
            found.append(match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3]))
        at = match.end()
        while at < len(value) and value[at] in " \t":
            at += 1
        if at == len(value) or value[at] == ",":
            if len(found) != 1:
                raise ValueError("an element without exactly one for=")
            nodes += found
            found = []
        elif value[at] != ";":
            raise ValueError("not of RFC 7239's form")
        if at == len(value):
            return nodes
        at += 1
