"""Decides how long a sign-in lasts: starts sessions, recognizes their cookies, notes activity, ends them.

The cookie's value is 256 random bits of which only the SHA-256 is kept. Every session ends after
`sessions.absolute_seconds`: that of a cookie also after `sessions.idle_seconds` without activity, that of tokens also
after `sessions.refresh_seconds`. A cookie that was looked up lately is recognized from memory (`identity.cookies`)
while what ended anywhere is known to the second; otherwise, and once a minute, it is looked up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Identity, Secret, SessionId
from sockade.identity.cookies import KnownCookies
from sockade.identity.digests import digest, digest_of
from sockade.identity.stores import Session, SessionKind
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from sockade.clock import Clock
    from sockade.identity.endings import Endings
    from sockade.identity.recognized import Recognized
    from sockade.identity.stores import SessionStore, User
    from sockade.settings import SessionSettings

SEEN_SECONDS = 60.0
FRESH_SECONDS = 1.5
"""How old the knowledge of endings may be for a cookie to be recognized from memory: it is renewed every second, and
what is ended anywhere has to be seen within two."""
USER_AGENT_CHARACTERS = 256
UNKNOWN = Refuse(Reason.SESSION_INVALID, "no such session, or it was ended")


class Sessions:
    """The sessions of all users."""

    def __init__(
        self, store: SessionStore, endings: Endings, settings: SessionSettings, clock: Clock, recognized: Recognized
    ) -> None:
        self._store = store
        self._endings = endings
        self._settings = settings
        self._clock = clock
        self._recognized = recognized
        # Where the idle limit is short, a minute's resolution would end sessions that are in use.
        self._seen_every = min(SEEN_SECONDS, settings.idle_seconds / 10)
        self._seen: set[SessionId] = set()
        self._flush_at = clock.monotonic() + self._seen_every
        self._cookies = KnownCookies()
        endings.on_end(self._cookies.drop)

    async def start(
        self, user: User, kind: SessionKind, *, address: str, user_agent: str, proved_by: str | None
    ) -> tuple[Session, Secret] | Refuse:
        """Start a session and return it with its secret: the cookie's value, or the first refresh token.

        `proved_by` is the password hash that was verified; the session does not start if it has changed meanwhile.
        """
        now = self._clock.wall()
        life = self._settings.absolute_seconds
        if kind is SessionKind.TOKEN:
            life = min(life, self._settings.refresh_seconds)
        secret = self._clock.secret()
        session = Session(
            id=SessionId(self._clock.short_id()),
            user=user.name,
            role=user.role,
            kind=kind,
            created_at=now,
            last_seen_at=now,
            expires_at=now + life,
            address=address,
            user_agent=user_agent[:USER_AGENT_CHARACTERS],
        )
        ended = await self._store.start(
            session,
            cookie=digest_of(secret) if kind is SessionKind.COOKIE else None,
            refresh=digest_of(secret) if kind is SessionKind.TOKEN else None,
            password_hash=proved_by,
            per_user=self._settings.per_user,
        )
        if ended is None:
            return Refuse(Reason.SIGN_IN_FAILED, "the user was disabled or changed meanwhile")
        self._endings.add(ended)
        self._recognized.note(digest_of(secret))
        return session, Secret(secret)

    async def by_cookie(self, value: Secret) -> Session | Refuse:
        """Return the live session of a cookie and note the activity."""
        key = digest(value)
        if key is None:
            return UNKNOWN
        if self._endings.learned_within(FRESH_SECONDS) and (known := self._cookies.get(key)) is not None:
            now = self._clock.wall()
            if now < known.expires_at and 0 <= now - known.last_seen_at < self._seen_every:
                return known
        return await self._look_up(key)

    async def _look_up(self, key: str) -> Session | Refuse:
        session = await self._store.by_cookie(key)
        if session is None:
            return UNKNOWN
        now = self._clock.wall()
        if now >= session.expires_at:
            return Refuse(Reason.SESSION_INVALID, "the session reached its absolute limit")
        if now - session.last_seen_at >= self._settings.idle_seconds:
            return Refuse(Reason.SESSION_INVALID, "the session was idle for too long")
        if now - session.last_seen_at >= self._seen_every:
            await self._store.seen([session.id], at=now)
            session = replace(session, last_seen_at=now)
        # It may have been ended in this process while the store was being asked.
        if self._endings.is_ended(session.id):
            return UNKNOWN
        self._cookies.put(key, session)
        self._recognized.note(key)
        return session

    async def live(self, session: SessionId) -> Session | Refuse:
        """Return a session by its public id, while it is live."""
        found = await self._store.get(session)
        if found is None or self._clock.wall() >= found.expires_at or self._endings.is_ended(session):
            return UNKNOWN
        return found

    async def of_user(self, name: str) -> list[Session]:
        """Return a user's live sessions, the newest first; those idle for too long are left out."""
        now = self._clock.wall()
        return [s for s in await self._store.of_user(name, now=now) if not self._is_idle(s, now)]

    def seen(self, session: SessionId) -> None:
        """Note activity on an open connection: kept in memory, written at most once a minute."""
        self._seen.add(session)

    async def flush(self) -> None:
        """Write the activity that was noted, once a minute."""
        if not self._seen or self._clock.monotonic() < self._flush_at:
            return
        self._flush_at = self._clock.monotonic() + self._seen_every
        seen = frozenset(self._seen)
        await self._store.seen(seen, at=self._clock.wall())
        # Only now: a store that fails leaves them for the next time.
        self._seen -= seen

    async def end(self, sessions: Collection[SessionId], reason: str) -> frozenset[SessionId]:
        """End sessions and have their connections closed; return those that were not over already."""
        ended = await self._store.end(sessions, at=self._clock.wall(), reason=reason)
        self._endings.add(ended)
        return ended

    async def end_user(self, name: str, reason: str) -> frozenset[SessionId]:
        """End every session of a user."""
        ended = await self._store.end_user(name, at=self._clock.wall(), reason=reason)
        self._endings.add(ended)
        return ended

    def _is_idle(self, session: Session, now: float) -> bool:
        return session.kind is SessionKind.COOKIE and now - session.last_seen_at >= self._settings.idle_seconds


def identity_of(session: Session) -> Identity:
    """Return the identity that a session's cookie proves."""
    return Identity(user=session.user, role=session.role, session=session.id, expires_at=session.expires_at)
