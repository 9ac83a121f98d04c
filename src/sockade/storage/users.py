"""Keeps users in the SQL database; the contract is `identity.stores.UserStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from sockade.errors import StorageError
from sockade.guard.text import skeleton
from sockade.identity.names import folded
from sockade.identity.stores import User
from sockade.storage import sessions as session_rows
from sockade.storage.tables import users

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from sockade.guard.identity import SessionId
    from sockade.storage.database import Database

COLUMNS = (
    users.c.name,
    users.c.role,
    users.c.password_hash,
    users.c.created_at,
    users.c.disabled_at,
)


class SqlUsers:
    """The users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user: User) -> bool:
        try:
            async with self._database.writing() as connection:
                await insert_user(connection, user)
        except StorageError as error:
            if isinstance(error.__cause__, IntegrityError):
                return False
            raise
        return True

    async def get(self, name: str) -> User | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(*COLUMNS).where(users.c.folded == folded(name)))).first()
        return to_user(row) if row is not None else None

    async def everyone(self) -> list[User]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(*COLUMNS).order_by(users.c.folded))).all()
        return [to_user(row) for row in rows]

    async def set_password(self, name: str, password_hash: str, *, at: float) -> frozenset[SessionId] | None:
        return await self._change(name, {"password_hash": password_hash}, at, "password_changed")

    async def disable(self, name: str, *, at: float) -> frozenset[SessionId] | None:
        return await self._change(name, {"disabled_at": at}, at, "user_disabled")

    async def set_role(self, name: str, role: str, *, at: float) -> frozenset[SessionId] | None:
        return await self._change(name, {"role": role}, at, "role_changed")

    async def upgrade_password(self, name: str, old_hash: str, new_hash: str) -> bool:
        statement = (
            update(users)
            .where(users.c.folded == folded(name), users.c.password_hash == old_hash)
            .values(password_hash=new_hash)
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def any_password(self) -> bool:
        statement = (
            select(users.c.folded).where(users.c.password_hash.is_not(None), users.c.disabled_at.is_(None)).limit(1)
        )
        async with self._database.reading() as connection:
            return (await connection.execute(statement)).first() is not None

    async def _change(self, name: str, values: dict[str, Any], at: float, reason: str) -> frozenset[SessionId] | None:
        statement = update(users).where(users.c.folded == folded(name)).values(values)
        async with self._database.writing() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                return None
            return await session_rows.end_of_user(connection, name, at=at, reason=reason)


async def insert_user(connection: AsyncConnection, user: User) -> None:
    """Insert a user; raises `IntegrityError` where the name is taken, or looks like one that is."""
    await connection.execute(
        insert(users).values(
            folded=folded(user.name),
            skeleton=skeleton(user.name),
            name=user.name,
            role=user.role,
            password_hash=user.password_hash,
            created_at=user.created_at,
            disabled_at=user.disabled_at,
        )
    )


def to_user(row: Row[*tuple[Any, ...]]) -> User:
    """Return a row of `COLUMNS` as a user."""
    return User(
        name=row.name,
        role=row.role,
        password_hash=row.password_hash,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )
