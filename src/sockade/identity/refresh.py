"""Decides what a refresh token is good for: each is used once, and a copy that is used later ends the session.

A family is a session. The successor of a token is derived from it (HMAC-SHA-256 under a key of the server), so the
immediate predecessor yields the same successor again for a few seconds, in any process and after a restart, while
nothing but digests is kept. Deriving needs the token itself and the server's key: neither alone is enough.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.identity.digests import digest, digest_of
from sockade.identity.stores import Rotation
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.identity.recognized import Recognized
    from sockade.identity.sessions import Sessions
    from sockade.identity.stores import Session, SessionStore

A_MINUTE = 20
"""Tokens that a session gets within a minute: far more than a client needs, and each is a row that is kept for days."""
TOO_MANY = Refuse(Reason.RATE, f"over {A_MINUTE} refresh tokens of one session in a minute", retry_after=60)
NOT_GOOD = Refuse(Reason.TOKEN_INVALID, "not a refresh token of a live session")


class RefreshTokens:
    """Rotates refresh tokens."""

    def __init__(
        self,
        store: SessionStore,
        sessions: Sessions,
        key: bytes,
        clock: Clock,
        recognized: Recognized,
        *,
        grace_seconds: float,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._key = key
        self._clock = clock
        self._recognized = recognized
        self._grace = grace_seconds

    async def rotate(self, token: Secret) -> tuple[Session, Secret] | Refuse:
        """Return the session and the token's successor, TOKEN_INVALID, or RATE; REVOKED when this ended the session."""
        old = digest(token)
        if old is None:
            return NOT_GOOD
        successor = self._successor(token)
        new = digest_of(successor)
        outcome, session = await self._store.rotate(
            old, new, at=self._clock.wall(), grace=self._grace, a_minute=A_MINUTE
        )
        if session is None:
            return NOT_GOOD
        if outcome is Rotation.TOO_MANY:
            return TOO_MANY
        if outcome is Rotation.REUSED:
            await self._sessions.end([session.id], "refresh_reuse")
            return Refuse(Reason.REVOKED, f"a refresh token of {session.user}'s session {session.id} was used again")
        self._recognized.note(new)
        return session, Secret(successor)

    def _successor(self, token: Secret) -> str:
        mac = hmac.digest(self._key, b"refresh " + token.reveal().encode("ascii"), "sha256")
        return urlsafe_b64encode(mac).decode("ascii").rstrip("=")
