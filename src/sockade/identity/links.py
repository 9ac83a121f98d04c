"""Decides whom a sign-in link signs in: its user, or, for an open link, a new user under a free name.

A link is 256 random bits, kept as a digest, and works once. A name that is missing, not a name, taken or looks like
one that is does not use it up, and only the holder of a good link learns whether a name is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.identity.digests import digest, digest_of
from sockade.identity.names import parse_name
from sockade.identity.stores import Link, Redeemed, User
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.identity.stores import LinkStore, UserStore

NOT_GOOD = Refuse(Reason.SIGN_IN_FAILED, "unknown, used or expired link")


class Links:
    """The sign-in links."""

    def __init__(self, links: LinkStore, users: UserStore, clock: Clock, *, seconds: float) -> None:
        self._links = links
        self._users = users
        self._clock = clock
        self._seconds = seconds

    async def create(self, user: str | None, role: str) -> tuple[Secret, int]:
        """Make a link for a user, or an open one (None) whose redeemer gets `role`; return it and its seconds."""
        value = self._clock.secret()
        await self._links.put(digest_of(value), Link(user, role, self._clock.wall() + self._seconds))
        return Secret(value), int(self._seconds)

    async def redeem(self, value: Secret, username: str | None) -> User | Refuse:
        """Return the user that a link signs in; `username` is what the redeemer of an open link chose."""
        key = digest(value)
        link = await self._links.peek(key, now=self._clock.wall()) if key is not None else None
        if key is None or link is None:
            return NOT_GOOD
        return await (self._redeem_own(key, link.user) if link.user else self._redeem_open(key, link, username))

    async def _redeem_own(self, key: str, name: str) -> User | Refuse:
        user = await self._users.get(name)
        if user is None or user.disabled_at is not None:
            return Refuse(Reason.SIGN_IN_FAILED, "the link's user is disabled")
        return user if await self._links.redeem(key, at=self._clock.wall()) else NOT_GOOD

    async def _redeem_open(self, key: str, link: Link, username: str | None) -> User | Refuse:
        if username is None:
            return Refuse(Reason.USERNAME_REQUIRED, "an open link needs a user name")
        name = parse_name(username)
        if name is None:
            return Refuse(Reason.USERNAME_INVALID, "not a user name")
        now = self._clock.wall()
        user = User(name=name, role=link.role, password_hash=None, created_at=now)
        outcome = await self._links.redeem_for(key, user, at=now)
        if outcome is Redeemed.TAKEN:
            return Refuse(Reason.USERNAME_TAKEN, "the user name is taken, or looks like one that is")
        return user if outcome is Redeemed.DONE else NOT_GOOD
