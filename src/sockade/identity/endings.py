"""Knows which sessions ended lately, so that it can be asked without waiting, and tells whoever holds their sockets.

What other processes ended comes from the store, with a small overlap so that no commit is missed. Older endings need
no remembering: every access token of such a session has expired, and they are asked for again if a clock is set back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sockade.clock import Clock
    from sockade.guard.identity import SessionId
    from sockade.identity.stores import SessionStore

OVERLAP_SECONDS = 15.0
"""How long a commit of another process may take: longer than a writer waits for the database."""
STALE_SECONDS = 10.0
"""What was learned longer ago is not relied on any more."""
ASK_SECONDS = 5.0
"""How often the store is asked though nothing was committed, so that one that fails is noticed."""


class Endings:
    """The sessions that ended within the last `remember_seconds`."""

    def __init__(
        self,
        store: SessionStore,
        clock: Clock,
        *,
        remember_seconds: float,
        also: Callable[[], Awaitable[frozenset[SessionId]]] | None = None,
        version: Callable[[], object | None] = lambda: None,
    ) -> None:
        """`also` learns what else was taken back, and returns the sessions whose connections that closes.

        `version` is the store's: where it is the same as the last time, there is nothing to learn.
        """
        self._store = store
        self._clock = clock
        self._remember = remember_seconds + OVERLAP_SECONDS
        self._ended: dict[SessionId, float] = {}
        self._callbacks: list[Callable[[frozenset[SessionId]], None]] = []
        self._known_until = clock.wall() - self._remember
        self._also = also
        self._version = version
        self._seen: object | None = None
        self._ask_by = -float("inf")
        self._learned_at = -float("inf")

    def is_ended(self, session: SessionId) -> bool:
        """Tell whether a session is known to have ended lately."""
        return session in self._ended

    def on_end(self, callback: Callable[[frozenset[SessionId]], None]) -> None:
        """Have `callback` called with each session that ends, once."""
        self._callbacks.append(callback)

    def add(self, sessions: Iterable[SessionId]) -> None:
        """Remember sessions that have just ended and call back for those that are new."""
        forget_at = self._clock.monotonic() + self._remember
        new = frozenset(session for session in sessions if session not in self._ended)
        self._ended.update(dict.fromkeys(new, forget_at))
        if new:
            for callback in self._callbacks:
                callback(new)

    async def learn(self) -> None:
        """Pick up what was ended by whichever process since the last time. Raises `StorageError`."""
        now, asked_at = self._clock.wall(), self._clock.monotonic()
        version = self._version()
        set_back = now < self._known_until
        if version is not None and version == self._seen and asked_at < self._ask_by and not set_back:
            self._learned_at = asked_at
            self._forget()
            return
        # A wall clock that was set back makes tokens good again whose sessions' endings were forgotten.
        since = now - self._remember if set_back else self._known_until - OVERLAP_SECONDS
        ended = await self._store.ended_since(since)
        self._known_until = now
        self.add(ended)
        if self._also is not None:
            self.close(await self._also())
        # Counted from before the question: what was ended while it was under way may be missing from the answer.
        self._learned_at = asked_at
        self._seen, self._ask_by = version, asked_at + ASK_SECONDS
        self._forget()

    async def ensure_fresh(self) -> None:
        """Learn first if the last time is too long ago: without the store nobody is taken to be signed in."""
        if not self.learned_within(STALE_SECONDS):
            await self.learn()

    def learned_within(self, seconds: float) -> bool:
        """Tell whether every ending older than so many seconds is known here."""
        return self._clock.monotonic() - self._learned_at < seconds

    def close(self, sessions: frozenset[SessionId]) -> None:
        """Have the connections of sessions closed that go on, because a token that opened one was revoked."""
        if sessions:
            for callback in self._callbacks:
                callback(sessions)

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] > now:
                return
            del self._ended[oldest]
