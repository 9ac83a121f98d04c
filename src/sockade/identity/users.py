"""Adds, lists and disables users and sets their passwords, for whoever administers the server.

A mistake in what was asked for is a `UsageError` with one sentence. Sessions that end here are picked up by a server
that runs on the same data within two seconds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockade.errors import UsageError
from sockade.guard.handshake import Refuse
from sockade.identity.names import parse_name
from sockade.identity.passwords import password_problem
from sockade.identity.stores import User

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.guard.identity import Secret, SessionId
    from sockade.identity.passwords import Passwords
    from sockade.identity.stores import UserStore

ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
ROLE_PROBLEM = "A role has 1 to 32 lower-case letters, digits, '_' and '-', a letter first."


class Users:
    """The users, to be administered."""

    def __init__(self, store: UserStore, passwords: Passwords, clock: Clock) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock

    async def add(self, name: str, *, role: str = "user", password: Secret | None = None) -> User:
        """Add a user; without a password they can sign in by link only."""
        parsed = parse_name(name)
        if parsed is None:
            raise UsageError("A user name has 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first.")
        if ROLE.fullmatch(role) is None:
            raise UsageError(ROLE_PROBLEM)
        hashed = await self._hash(password) if password is not None else None
        user = User(name=parsed, role=role, password_hash=hashed, created_at=self._clock.wall())
        if not await self._store.add(user):
            raise UsageError(f"There is a user {parsed} already, or one whose name looks the same.")
        return user

    async def list(self) -> list[User]:
        """Return all users by name, the disabled among them."""
        return await self._store.everyone()

    async def disable(self, name: str) -> frozenset[SessionId]:
        """Disable a user and end their sessions, which are returned."""
        return self._found(name, await self._store.disable(name, at=self._clock.wall()))

    async def set_password(self, name: str, password: Secret) -> frozenset[SessionId]:
        """Set a user's password and end their sessions, which are returned."""
        if await self._store.get(name) is None:
            self._found(name, None)
        hashed = await self._hash(password)
        return self._found(name, await self._store.set_password(name, hashed, at=self._clock.wall()))

    async def set_role(self, name: str, role: str) -> frozenset[SessionId]:
        """Set a user's role and end their sessions, which are returned: rights never outlive their loss."""
        if ROLE.fullmatch(role) is None:
            raise UsageError(ROLE_PROBLEM)
        return self._found(name, await self._store.set_role(name, role, at=self._clock.wall()))

    async def _hash(self, password: Secret) -> str:
        problem = password_problem(password)
        if problem is not None:
            raise UsageError(problem)
        hashed = await self._passwords.hash(password)
        if isinstance(hashed, Refuse):
            raise UsageError("The machine is too busy to hash a password; try again.")
        return hashed

    @staticmethod
    def _found(name: str, ended: frozenset[SessionId] | None) -> frozenset[SessionId]:
        if ended is None:
            raise UsageError(f"There is no user {parse_name(name) or 'of that name'}.")
        return ended
