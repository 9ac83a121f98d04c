"""Decides whether a verified identity may open one more connection, and until when that one may live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockade.guard.handshake import Admit, Handshake, Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.identity import Identity


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many connections there may be."""

    user: int
    total: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many connections there are."""

    user: int
    total: int


def admit(handshake: Handshake, identity: Identity, now: float, counts: Counts, quotas: Quotas) -> Admit | Refuse:
    """Admit an identity within the quotas; `now` is in POSIX seconds."""
    if identity.expires_at <= now:
        return Refuse(Reason.TOKEN_EXPIRED, "expired while it was verified")
    if counts.total >= quotas.total:
        return Refuse(Reason.SERVER_FULL, "the server is full", retry_after=30)
    if counts.user >= quotas.user:
        return Refuse(Reason.USER_CONNECTIONS, "the user has too many connections", retry_after=30)
    return Admit(identity, expires_at=identity.expires_at)
