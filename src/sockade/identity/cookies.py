"""Remembers the sessions of cookies that were looked up lately, so that most handshakes ask no database.

It decides nothing: an entry counts only as far as `identity.sessions` relies on it. It is bounded, and a session that
ended is forgotten at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockade.guard.identity import SessionId
    from sockade.identity.stores import Session

MAX_COOKIES = 20_000
"""About 20 MiB. Only who signed in gets an entry."""


class KnownCookies:
    """Sessions by the digests of their cookies."""

    def __init__(self, limit: int = MAX_COOKIES) -> None:
        self._limit = limit
        self._sessions: dict[str, Session] = {}
        self._digests: dict[SessionId, str] = {}

    def get(self, digest: str) -> Session | None:
        """Return the session as it was looked up."""
        return self._sessions.get(digest)

    def put(self, digest: str, session: Session) -> None:
        """Remember a session; beyond the limit the one looked up longest ago gives way."""
        self._sessions.pop(digest, None)
        self._sessions[digest] = session
        self._digests[session.id] = digest
        if len(self._sessions) > self._limit:
            oldest = self._sessions.pop(next(iter(self._sessions)))
            del self._digests[oldest.id]

    def drop(self, sessions: Iterable[SessionId]) -> None:
        """Forget sessions that ended."""
        for session in sessions:
            digest = self._digests.pop(session, None)
            if digest is not None:
                del self._sessions[digest]
