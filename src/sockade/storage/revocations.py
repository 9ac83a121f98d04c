"""Keeps revocations in the SQL database; the contract is `identity.stores.RevocationStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, insert, select, true, update

from sockade.identity.stores import Revocation, RevocationKind
from sockade.storage.sessions import end_where
from sockade.storage.tables import revocations, sessions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from sockade.guard.identity import SessionId
    from sockade.storage.database import Database


class SqlRevocations:
    """The revocations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, revocation: Revocation, *, reason: str) -> frozenset[SessionId]:
        async with self._database.writing() as connection:
            await keep(connection, revocation, reason)
            covered = sessions_covered(revocation)
            if covered is None:
                return frozenset()
            return await end_where(connection, covered, at=revocation.at, reason=reason)

    async def since(self, at: float) -> list[Revocation]:
        statement = select(revocations).where(revocations.c.at >= at)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return [Revocation(RevocationKind(row.kind), row.subject, row.before, row.at, row.until) for row in rows]

    async def purge(self, now: float) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(revocations).where(revocations.c.until < now))


async def keep(connection: AsyncConnection, revocation: Revocation, reason: str) -> None:
    """Insert a revocation, or widen the one that is there."""
    same = and_(revocations.c.kind == revocation.kind.value, revocations.c.subject == revocation.subject)
    statement = select(revocations.c.before, revocations.c.until).where(same).with_for_update()
    row = (await connection.execute(statement)).first()
    values = {
        "before": max(revocation.before, row.before) if row is not None else revocation.before,
        "at": revocation.at,
        "until": max(revocation.until, row.until) if row is not None else revocation.until,
        "reason": reason,
    }
    if row is not None:
        await connection.execute(update(revocations).where(same).values(values))
    else:
        key = {"kind": revocation.kind.value, "subject": revocation.subject}
        await connection.execute(insert(revocations).values(**key, **values))


def sessions_covered(revocation: Revocation) -> ColumnElement[bool] | None:
    """Return the condition of the sessions that end with a revocation."""
    if revocation.kind is RevocationKind.USER:
        whose = sessions.c.user == revocation.subject
    elif revocation.kind is RevocationKind.ALL:
        whose = true()
    else:
        return None
    return and_(whose, sessions.c.created_at < revocation.before)
