"""An authority on a real database in a temporary directory, with a stepped clock and cheap hashes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import argon2

from sockade.clock import SteppedClock
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Identity, Secret, SessionId
from sockade.identity.authority import Authority, SignedIn, Tokens
from sockade.identity.keys import ServerKeys
from sockade.identity.passwords import Passwords
from sockade.identity.users import Users
from sockade.settings import Settings
from sockade.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PASSWORD = Secret("correct horse battery")
ORIGIN = "https://localhost:8443"


def cheap() -> argon2.PasswordHasher:
    """Argon2id with the least it can do."""
    return argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class World:
    """Everything a test of identity touches."""

    data_dir: Path
    settings: Settings
    clock: SteppedClock
    database: Database
    keys: ServerKeys
    passwords: Passwords
    authority: Authority
    users: Users
    ended: list[frozenset[SessionId]] = field(default_factory=list)

    def again(self) -> Authority:
        """Return another authority on the same data: another process, or the next one."""
        return Authority(self.settings, self.clock, store=self.database, keys=self.keys, passwords=self.passwords)

    async def cookie(self, user: str = "ana") -> SignedIn:
        answer = await self.authority.sign_in(user, PASSWORD, address="192.0.2.1", user_agent="test")
        assert isinstance(answer, SignedIn)
        return answer

    async def tokens(self, user: str = "ana") -> Tokens:
        answer = await self.authority.tokens(user, PASSWORD, address="192.0.2.1", user_agent="test")
        assert isinstance(answer, Tokens)
        return answer


@asynccontextmanager
async def world(
    data_dir: Path, settings: Settings | None = None, clock: SteppedClock | None = None
) -> AsyncIterator[World]:
    """Open a world on a data directory, with the user `ana`."""
    settings, clock = settings or Settings(), clock or SteppedClock()
    database = await Database.open(data_dir)
    passwords = Passwords(cheap())
    try:
        keys = ServerKeys.open(data_dir, now=clock.wall())
        authority = Authority(settings, clock, store=database, keys=keys, passwords=passwords)
        made = World(
            data_dir, settings, clock, database, keys, passwords, authority, Users(database.users, passwords, clock)
        )
        authority.on_end(made.ended.append)
        if await database.users.get("ana") is None:
            await made.users.add("ana", password=PASSWORD)
        yield made
    finally:
        passwords.close()
        await database.close()


def by_cookie(answer: SignedIn) -> Credential:
    return Credential(Carrier.COOKIE, answer.cookie)


def bearer(tokens: Tokens) -> Credential:
    return Credential(Carrier.BEARER, tokens.access_token)


def reason(answer: object) -> str:
    """Return the reason of a refusal, or what came instead."""
    return answer.reason.value if isinstance(answer, Refuse) else f"not refused: {answer!r}"


def session_of(identity: Identity) -> SessionId:
    assert identity.session is not None
    return identity.session
