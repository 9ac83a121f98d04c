"""Knows which tokens are revoked though they have not expired, and which sessions hold sockets opened with them.

Our own sessions are ended in the store and known to `identity.endings`; what is kept here covers single tokens, and
tokens of other issuers, whose sessions are not ours to end. It is learned anew at each start, so what was revoked
stays revoked, and each second, so that what another process revoked is known within two.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sockade.identity.names import folded
from sockade.identity.stores import Revocation, RevocationKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.clock import Clock
    from sockade.guard.identity import Identity, SessionId
    from sockade.identity.stores import RevocationStore

OVERLAP_SECONDS = 15.0
"""How long a commit of another process may take."""
KEEP_SECONDS = 2 * 86_400.0
"""No token that is accepted lives longer (`issuers.NAME.token_seconds` is at most a day)."""
MAX_REMEMBERED = 50_000
"""Of each issuer, this server among them: whoever has many tokens of one must not have those of another forgotten."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was verified: whom it proves, and of a token its `jti` and when it was issued (POSIX seconds).

    What is not a token is revoked with its session alone.
    """

    identity: Identity
    token: str | None = None
    issued_at: float = inf


class Revocations:
    """What is revoked, and which tokens were shown lately."""

    def __init__(self, store: RevocationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[tuple[RevocationKind, str], Revocation] = {}
        self._known_until = -float("inf")
        self._shown: defaultdict[str, dict[tuple[SessionId | None, str], Proof]] = defaultdict(dict)
        """By issuer; then by session and `jti`, which another issuer may give as well."""
        self._listeners: list[Callable[[], None]] = []

    def on_revoke(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when something was revoked, here or elsewhere. It must not raise."""
        self._listeners.append(callback)

    async def revoke(
        self, kind: RevocationKind, subject: str, *, before: float, reason: str
    ) -> tuple[frozenset[SessionId], frozenset[SessionId]]:
        """Revoke, durably; return the sessions of ours that this ended, and those whose connections must close."""
        now = self._clock.wall()
        revocation = Revocation(kind, subject, min(before, now), now, now + KEEP_SECONDS)
        ended = await self._store.add(revocation, reason=reason)
        return ended, self._take_in([revocation])

    async def learn(self) -> frozenset[SessionId]:
        """Pick up what was revoked since the last time; return the sessions whose connections must close."""
        now = self._clock.wall()
        found = await self._store.since(min(self._known_until, now) - OVERLAP_SECONDS)
        self._known_until = now
        return self._take_in(found)

    def covers(self, proof: Proof) -> bool:
        """Tell whether a token is revoked."""
        if not self._known:
            return False
        session = proof.identity.session or ""
        if (RevocationKind.TOKEN, proof.token) in self._known or (RevocationKind.SESSION, session) in self._known:
            return True
        of_user = self._known.get((RevocationKind.USER, folded(proof.identity.user)))
        of_all = self._known.get((RevocationKind.ALL, ""))
        return any(rule is not None and proof.issued_at < rule.before for rule in (of_user, of_all))

    def note(self, proof: Proof) -> None:
        """Remember a token that opens something, until it has expired."""
        if proof.token is None:
            return
        session = proof.identity.session
        shown, key = self._shown[(session or "").rpartition(":")[0]], (session, proof.token)
        shown.pop(key, None)
        shown[key] = proof
        if len(shown) > MAX_REMEMBERED:
            del shown[next(iter(shown))]

    async def purge(self) -> None:
        """Forget what is pointless."""
        now = self._clock.wall()
        for shown in self._shown.values():
            for key in [key for key, proof in shown.items() if proof.identity.expires_at <= now]:
                del shown[key]
        self._known = {key: rule for key, rule in self._known.items() if rule.until > now}
        await self._store.purge(now)

    def _take_in(self, found: list[Revocation]) -> frozenset[SessionId]:
        new = [rule for rule in found if self._known.get((rule.kind, rule.subject)) != rule]
        if not new:
            return frozenset()
        self._known.update({(rule.kind, rule.subject): rule for rule in new})
        closing: set[SessionId | None] = set()
        for shown in self._shown.values():
            for key in [key for key, proof in shown.items() if self.covers(proof)]:
                del shown[key]
                closing.add(key[0])
        for callback in self._listeners:
            callback()
        return frozenset(session for session in closing if session is not None)
