"""Decides whether someone who signs in is who they say, by password or by link.

A refusal by password is the same for an unknown user, a disabled one and a wrong password, and takes as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockade.guard.handshake import Refuse
from sockade.identity.names import parse_name
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.identity import Secret
    from sockade.identity.links import Links
    from sockade.identity.passwords import Passwords
    from sockade.identity.stores import User, UserStore

FAILED = Refuse(Reason.SIGN_IN_FAILED, "unknown user or wrong password")


@dataclass(frozen=True, slots=True)
class Proved:
    """A user who proved who they are; `password_hash` is what the password was compared with, if it was."""

    user: User
    password_hash: str | None = None

    def __repr__(self) -> str:
        return f"Proved({self.user.name!r})"


class Proofs:
    """Checks passwords and redeems links."""

    def __init__(self, users: UserStore, passwords: Passwords, links: Links) -> None:
        self._users = users
        self._passwords = passwords
        self._links = links

    async def by_password(self, username: str, password: Secret) -> Proved | Refuse:
        """Return the user of a name and password, SIGN_IN_FAILED, or BUSY."""
        name = parse_name(username)
        user = await self._users.get(name) if name is not None else None
        if user is not None and user.disabled_at is not None:
            user = None
        stored = user.password_hash if user is not None else None
        right = await self._passwords.verify(password, stored)
        if isinstance(right, Refuse):
            return right
        if not right or user is None or stored is None:
            return FAILED
        of_now = await self._renew(user, stored, password)
        return of_now if isinstance(of_now, Refuse) else Proved(user, of_now)

    async def by_link(self, link: Secret, username: str | None) -> Proved | Refuse:
        """Return the user that a sign-in link signs in, and use it up."""
        user = await self._links.redeem(link, username)
        return user if isinstance(user, Refuse) else Proved(user)

    async def by_administrator(self, username: str) -> Proved | Refuse:
        """Return a user who is not disabled, without any proof."""
        user = await self._users.get(username)
        return Proved(user) if user is not None and user.disabled_at is None else FAILED

    async def _renew(self, user: User, stored: str, password: Secret) -> str | Refuse:
        """Return the user's hash, made anew where today's parameters are other ones and a place is free."""
        if not self._passwords.needs_rehash(stored):
            return stored
        renewed = await self._passwords.hash(password)
        if not isinstance(renewed, Refuse) and await self._users.upgrade_password(user.name, stored, renewed):
            return renewed
        return await self._of_now(user, stored, password)

    async def _of_now(self, user: User, stored: str, password: Secret) -> str | Refuse:
        """Return the hash that another sign-in made anew meanwhile, if it is of this password; else the one seen."""
        found = await self._users.get(user.name)
        latest = found.password_hash if found is not None else None
        if latest is None or latest == stored:
            return stored
        right = await self._passwords.verify(password, latest)
        if isinstance(right, Refuse):
            return right
        return latest if right else stored
