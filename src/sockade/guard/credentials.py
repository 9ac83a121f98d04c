"""Decides which credential a handshake carries: exactly one, by a carrier that is switched on, never in the URL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from sockade.guard.handshake import Handshake, Head, Refuse
from sockade.guard.identity import Carrier, Credential, Secret
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.policy import Policy

COOKIE = "__Host-sockade"
TICKET_PREFIX = "ticket."
QUERY_TICKET = "ticket"
# A URL ends up in histories, proxies and logs (ASVS 14.2.1).
URL_NAMES = frozenset(
    {"token", "access_token", "id_token", "jwt", "auth", "authorization", "session", "ticket", "api_key"}
)
# Looked for once in each run of its letters, and without a step back: a text made of its beginnings costs no more.
JWT_LIKE = re.compile(r"(?<![\w-])(?>[\w-]*?eyJ)[\w-]*+\.[\w-]++\.")
TICKET = re.compile(r"[A-Za-z0-9_-]{20,128}")


def check_url(handshake: Handshake, policy: Policy) -> Refuse | None:
    """Refuse a credential in the URL, whatever its name."""
    head = handshake.head
    forbidden = URL_NAMES - {QUERY_TICKET} if policy.query_ticket else URL_NAMES
    names = [name.lower() for name, _ in parse_qsl(head.query, keep_blank_values=True)] if head.query else []
    if JWT_LIKE.search(head.target) or not forbidden.isdisjoint(names):
        return Refuse(Reason.CREDENTIAL_IN_URL, "a credential in the URL")
    return None


def find_credential(handshake: Handshake, policy: Policy) -> Credential | Refuse:
    """Return the one credential that a handshake shows."""
    head = handshake.head
    bearers, tickets, cookies = bearer_values(head), ticket_values(head), cookie_values(head)
    if policy.query_ticket:
        tickets += query_tickets(head)
    # A browser adds the cookie by itself: what the page or client chose to show comes first.
    if len(bearers) + len(tickets) > 1 or (not bearers and not tickets and len(cookies) > 1):
        return Refuse(Reason.CREDENTIAL_AMBIGUOUS, "more than one credential")
    for carrier, values in ((Carrier.BEARER, bearers), (Carrier.TICKET, tickets), (Carrier.COOKIE, cookies)):
        if values:
            return accept_carrier(Credential(carrier, Secret(values[0])), head, policy)
    if head.path == policy.first_message:
        return Credential(Carrier.FIRST_MESSAGE, Secret(""))
    return Refuse(Reason.CREDENTIAL_MISSING, "no credential")


def accept_carrier(credential: Credential, head: Head, policy: Policy) -> Credential | Refuse:
    """Refuse a carrier that is off, and a browser's carrier without the Origin that browsers always send."""
    if credential.carrier not in policy.carriers:
        return Refuse(Reason.CREDENTIAL_KIND, f"{credential.carrier} credentials are switched off")
    if credential.carrier is not Carrier.BEARER and not head.all("origin"):
        return Refuse(Reason.ORIGIN_MISSING, f"{credential.carrier} without Origin")
    return credential


def bearer_values(head: Head) -> list[str]:
    """Return the tokens of `Authorization: Bearer` headers (RFC 6750 §2.1); another scheme counts as an empty one."""
    found = []
    for value in head.all("authorization"):
        scheme, _, token = value.partition(" ")
        found.append(token.strip() if scheme.lower() == "bearer" else "")
    return found


def offered_subprotocols(head: Head) -> list[str]:
    """Return the subprotocols a client offers, in its order and case (RFC 6455 §4.1 item 10)."""
    return [t for value in head.all("sec-websocket-protocol") for part in value.split(",") if (t := part.strip())]


def ticket_values(head: Head) -> list[str]:
    """Return the tickets among the offered subprotocols: browsers cannot set another header."""
    return [
        offer.removeprefix(TICKET_PREFIX) if TICKET.fullmatch(offer, len(TICKET_PREFIX)) else ""
        for offer in offered_subprotocols(head)
        if offer.startswith(TICKET_PREFIX)
    ]


def query_tickets(head: Head) -> list[str]:
    """Return the tickets in the URL, where they may be there."""
    pairs = parse_qsl(head.query, keep_blank_values=True)
    return [value if TICKET.fullmatch(value) else "" for name, value in pairs if name.lower() == QUERY_TICKET]


def cookie_values(head: Head) -> list[str]:
    """Return the values of the session cookie (RFC 6265 §5.4)."""
    found = []
    for value in head.all("cookie"):
        for pair in value.split(";"):
            name, _, content = pair.strip().partition("=")
            if name == COOKIE:
                found.append(content)
    return found
