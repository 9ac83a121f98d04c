"""Decides whether the request meant this server: DNS rebinding makes a foreign name point here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockade.guard.handshake import Head, Refuse
from sockade.guard.policy import canonical_name
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.handshake import Handshake
    from sockade.guard.policy import Policy

# RFC 9110 §7.2: Host = uri-host [ ":" port ]
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{1,5})?")


def host_name(head: Head) -> str | None:
    """Return the host a request names, as `Policy.names` has it, without port; None if it names not exactly one."""
    value = head.one("host")
    match = HOST.fullmatch(value.lower()) if value is not None else None
    if match is None:
        return None
    return canonical_name(match[1]) if match[1] else match[2]


def check_host(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse a request for another host (RFC 9110 §7.4)."""
    if host_name(handshake.head) not in policy.names:
        return Refuse(Reason.HOST, "Host is not one of server.names")
    return None
