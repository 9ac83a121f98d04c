"""Decides whether the page that opens a connection may: cross-site WebSocket hijacking ends here.

Browsers let any page open a WebSocket anywhere and send the cookies along; the Origin header is what tells them
apart (RFC 6455 §10.2). Origins are compared whole and exactly, after case and default port (RFC 6454 §4, §6.2).
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from sockade.guard.handshake import Handshake, Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.policy import Policy

DEFAULT_PORTS = {"http": "80", "https": "443"}
SERIALIZED = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([1-9][0-9]{0,4}))?")


def canonical_origin(text: str) -> str | None:
    """Return a serialized origin in the one form that is compared, or None where it is not one.

    An IPv6 address has one form too (RFC 5952). A path, userinfo, a trailing dot or slash, another scheme than http(s),
    and `null` are not origins we know.
    """
    match = SERIALIZED.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return f"{scheme}://{host}" if port in (None, DEFAULT_PORTS[scheme]) else f"{scheme}://{host}:{port}"


def check_origin(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse an Origin that is not ours, or more than one. None at all is judged with the credential."""
    values = handshake.head.all("origin")
    if not values:
        return None
    if len(values) > 1:
        return Refuse(Reason.ORIGIN, "more than one Origin")
    if canonical_origin(values[0]) not in policy.origins:
        return Refuse(Reason.ORIGIN, "Origin not allowed")
    return None
