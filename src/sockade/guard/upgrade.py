"""Decides whether a request head is a WebSocket opening handshake (RFC 6455 §4.2.1), and for a path that is ours."""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING

from sockade.guard.handshake import TOKEN, Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.handshake import Handshake
    from sockade.guard.policy import Policy

KEY_BYTES = 16  # RFC 6455 §4.1 item 7
OPTION = re.compile(TOKEN)  # RFC 9110 §7.6.1


def check_request(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse another method or HTTP version, an upgrade to something else, and a request with a body."""
    head = handshake.head
    if head.version != "1.1":
        return Refuse(Reason.HTTP_VERSION, "an upgrade needs HTTP/1.1")
    if head.method != "GET":
        return Refuse(Reason.METHOD, "an upgrade is a GET", headers=(("Allow", "GET"),))
    options = head.tokens("connection")
    if not all(map(OPTION.fullmatch, options)):
        return Refuse(Reason.BAD_REQUEST, "Connection is not a list of tokens")
    if head.tokens("upgrade") != ["websocket"] or "upgrade" not in options:
        return Refuse(Reason.UPGRADE, "not an upgrade to websocket", headers=(("Upgrade", "websocket"),))
    # A body before the 101 is how requests are smuggled past a proxy that believes in it.
    if head.all("transfer-encoding") or any(value.strip() != "0" for value in head.all("content-length")):
        return Refuse(Reason.BODY_UNEXPECTED, "an upgrade has no body")
    return None


def check_websocket(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse another version than 13 and a key that is not 16 bytes in base64."""
    head = handshake.head
    if head.one("sec-websocket-version") != "13":
        # RFC 6455 §4.4: the answer names the version the server speaks.
        headers = (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"))
        return Refuse(Reason.WEBSOCKET_VERSION, "Sec-WebSocket-Version is not 13", headers=headers)
    key = head.one("sec-websocket-key")
    if key is None or not is_key(key):
        return Refuse(Reason.WEBSOCKET_KEY, "Sec-WebSocket-Key is not 16 bytes in base64")
    return None


def is_key(value: str) -> bool:
    """Tell whether a Sec-WebSocket-Key is 16 bytes in base64."""
    try:
        return len(binascii.a2b_base64(value.encode("latin-1"), strict_mode=True)) == KEY_BYTES
    except binascii.Error:
        return False


def check_path(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse a path where nothing speaks WebSocket."""
    if handshake.head.path not in policy.paths:
        return Refuse(Reason.NOT_FOUND, "no endpoint at this path")
    return None
