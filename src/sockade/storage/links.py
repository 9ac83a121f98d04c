"""Keeps sign-in links in the SQL database; the contract is `identity.stores.LinkStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from sockade.errors import StorageError
from sockade.identity.names import folded
from sockade.identity.stores import Link, Redeemed
from sockade.storage.tables import sign_in_links, users
from sockade.storage.users import insert_user

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from sockade.identity.stores import User
    from sockade.storage.database import Database


class SqlLinks:
    """The sign-in links."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, digest: str, link: Link) -> None:
        async with self._database.writing() as connection:
            await connection.execute(
                insert(sign_in_links).values(
                    digest=digest,
                    user=folded(link.user) if link.user is not None else None,
                    role=link.role,
                    expires_at=link.expires_at,
                )
            )

    async def peek(self, digest: str, *, now: float) -> Link | None:
        statement = (
            select(users.c.name, sign_in_links.c.role, sign_in_links.c.expires_at)
            .select_from(sign_in_links.outerjoin(users, users.c.folded == sign_in_links.c.user))
            .where(redeemable(digest, now))
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).first()
        return Link(row.name, row.role, row.expires_at) if row is not None else None

    async def redeem(self, digest: str, *, at: float) -> bool:
        async with self._database.writing() as connection:
            return await use_up(connection, digest, at)

    async def redeem_for(self, digest: str, user: User, *, at: float) -> Redeemed:
        try:
            async with self._database.writing() as connection:
                if not await use_up(connection, digest, at):
                    return Redeemed.GONE
                await insert_user(connection, user)
        except StorageError as error:
            # The name is taken, and the rollback has taken the use of the link back.
            if isinstance(error.__cause__, IntegrityError):
                return Redeemed.TAKEN
            raise
        return Redeemed.DONE


def redeemable(digest: str, now: float) -> ColumnElement[bool]:
    """Return the condition that a link can still be redeemed."""
    return and_(sign_in_links.c.digest == digest, sign_in_links.c.used_at.is_(None), sign_in_links.c.expires_at > now)


async def use_up(connection: AsyncConnection, digest: str, at: float) -> bool:
    """Mark a link used in one conditional UPDATE, so that of two at once only one succeeds."""
    statement = update(sign_in_links).where(redeemable(digest, at)).values(used_at=at)
    return (await connection.execute(statement)).rowcount == 1
