"""Decides whether a ticket opens a connection: once, for a moment, from the page and the session it was issued to.

Whether what it was issued for has been taken back meanwhile is decided elsewhere (`identity.authority`). Tickets live
in this process's memory as digests, bounded in number. Redeeming is synchronous, so two handshakes with
one ticket cannot both win. A ticket that is shown is used up, whatever else is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.identity.digests import digest, digest_of
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from sockade.clock import Clock
    from sockade.guard.identity import SessionId
    from sockade.identity.revocations import Proof

MAX_TICKETS = 20_000
MAX_PER_SESSION = 20
"""More than the connections a user may have: one session cannot crowd the others out."""
NOT_GOOD = Refuse(Reason.TICKET_INVALID, "unknown, used or expired ticket")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket on its way to the client; `expires_in` is in seconds."""

    value: Secret
    expires_in: int


@dataclass(frozen=True, slots=True)
class Issued:
    """What is kept of a ticket."""

    proof: Proof
    origin: str
    expires_at: float  # monotonic


class Tickets:
    """The tickets that can be redeemed."""

    def __init__(self, clock: Clock, *, seconds: float, limit: int = MAX_TICKETS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._issued: dict[str, Issued] = {}
        self._by_session: dict[SessionId, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, proof: Proof, origin: str) -> Ticket | Refuse:
        """Issue a ticket bound to a proof, its session and a canonical Origin; a session's oldest gives way."""
        session = proof.identity.session
        if session is None:
            return Refuse(Reason.FORBIDDEN, "a ticket needs a session")
        self._drop_expired()
        mine = self._by_session.get(session, {})
        if len(mine) >= MAX_PER_SESSION:
            self._take(next(iter(mine)))
        if len(self._issued) >= self._limit:
            return Refuse(Reason.BUSY, "too many tickets are waiting", retry_after=max(1, int(self._seconds)))
        value = self._clock.secret()
        key = digest_of(value)
        self._issued[key] = Issued(proof, origin, self._clock.monotonic() + self._seconds)
        self._by_session.setdefault(session, {})[key] = None
        return Ticket(Secret(value), int(self._seconds))

    def redeem(self, value: Secret, origin: str | None) -> Proof | Refuse:
        """Use a ticket up and return what it was issued for; `origin` is the handshake's, in canonical form."""
        key = digest(value)
        issued = self._take(key) if key is not None else None
        if issued is None or self._clock.monotonic() >= issued.expires_at:
            return NOT_GOOD
        if origin != issued.origin:
            return Refuse(Reason.TICKET_INVALID, "the ticket was issued for another Origin")
        return issued.proof

    def drop(self, sessions: Collection[SessionId]) -> None:
        """Forget the tickets of sessions that ended."""
        for session in sessions:
            for key in list(self._by_session.get(session, ())):
                self._take(key)

    def _take(self, key: str) -> Issued | None:
        issued = self._issued.pop(key, None)
        session = issued.proof.identity.session if issued is not None else None
        if session is not None:
            mine = self._by_session[session]
            del mine[key]
            if not mine:
                del self._by_session[session]
        return issued

    def _drop_expired(self) -> None:
        now = self._clock.monotonic()
        # All live equally long, so they expire in the order they were issued.
        while self._issued:
            oldest = next(iter(self._issued))
            if self._issued[oldest].expires_at > now:
                return
            self._take(oldest)
