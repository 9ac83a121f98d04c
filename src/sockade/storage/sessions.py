"""Keeps sessions and refresh tokens in the SQL database; the contract is `identity.stores.SessionStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, ScalarSelect, and_, delete, func, insert, select, update

from sockade.guard.identity import SessionId
from sockade.identity.names import folded
from sockade.identity.stores import Rotation, Session, SessionKind
from sockade.storage.tables import refresh_tokens, sessions, sign_in_links, users

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from sockade.storage.database import Database

BATCH = 1_000
"""How many ids one statement names: databases bound its parameters."""
FOUND = (
    select(
        sessions.c.id,
        users.c.name,
        users.c.role,
        sessions.c.kind,
        sessions.c.created_at,
        sessions.c.last_seen_at,
        sessions.c.expires_at,
        sessions.c.address,
        sessions.c.user_agent,
    )
    .join(users, users.c.folded == sessions.c.user)
    .where(sessions.c.ended_at.is_(None), users.c.disabled_at.is_(None))
)


class SqlSessions:
    """The sessions and refresh tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self,
        session: Session,
        *,
        cookie: str | None,
        refresh: str | None,
        password_hash: str | None,
        per_user: int,
    ) -> frozenset[SessionId] | None:
        async with self._database.writing() as connection:
            if not await lock_user(connection, session, password_hash):
                return None
            ended = await end_surplus(connection, session, keep=per_user - 1)
            await insert_session(connection, session, cookie)
            if refresh is not None:
                await insert_refresh(connection, refresh, session.id, session.created_at)
            return ended

    async def by_cookie(self, cookie: str) -> Session | None:
        return await self._one(sessions.c.cookie == cookie)

    async def get(self, session: SessionId) -> Session | None:
        return await self._one(sessions.c.id == session)

    async def of_user(self, name: str, *, now: float) -> list[Session]:
        statement = FOUND.where(sessions.c.user == folded(name), sessions.c.expires_at > now)
        async with self._database.reading() as connection:
            rows = await connection.execute(statement.order_by(sessions.c.created_at.desc(), sessions.c.id))
        return [to_session(row) for row in rows]

    async def seen(self, ids: Collection[SessionId], *, at: float) -> None:
        async with self._database.writing() as connection:
            await note_activity(connection, ids, at)

    async def rotate(
        self, old: str, new: str, *, at: float, grace: float, a_minute: int
    ) -> tuple[Rotation, Session | None]:
        async with self._database.writing() as connection:
            live = FOUND.with_only_columns(sessions.c.id).where(sessions.c.expires_at > at)
            # The one conditional UPDATE that only one caller can win.
            won = await connection.execute(
                update(refresh_tokens)
                .where(
                    refresh_tokens.c.digest == old,
                    refresh_tokens.c.replaced_at.is_(None),
                    refresh_tokens.c.session.in_(live),
                    count_of_minute(at) < a_minute,
                )
                .values(replaced_at=at)
            )
            found = FOUND.add_columns(refresh_tokens.c.replaced_at).join(
                refresh_tokens, refresh_tokens.c.session == sessions.c.id
            )
            row = (
                await connection.execute(found.where(refresh_tokens.c.digest == old, sessions.c.expires_at > at))
            ).first()
            if row is None:
                return Rotation.UNKNOWN, None
            session = to_session(row)
            if won.rowcount == 1:
                await insert_refresh(connection, new, session.id, at)
                await note_activity(connection, [session.id], at)
                return Rotation.ROTATED, session
            if row.replaced_at is None:
                return Rotation.TOO_MANY, session
            repeated = at <= row.replaced_at + grace and await is_unused(connection, new)
            return (Rotation.REPEATED if repeated else Rotation.REUSED), session

    async def end(self, ids: Collection[SessionId], *, at: float, reason: str) -> frozenset[SessionId]:
        async with self._database.writing() as connection:
            return await end_where(connection, sessions.c.id.in_(ids), at=at, reason=reason)

    async def end_user(self, name: str, *, at: float, reason: str) -> frozenset[SessionId]:
        async with self._database.writing() as connection:
            return await end_of_user(connection, name, at=at, reason=reason)

    async def ended_since(self, since: float) -> Mapping[SessionId, str]:
        statement = select(sessions.c.id, sessions.c.ended_reason).where(sessions.c.ended_at >= since)
        async with self._database.reading() as connection:
            rows = await connection.execute(statement)
        return {SessionId(row.id): row.ended_reason for row in rows}

    async def purge(self, before: float) -> None:
        over = (sessions.c.expires_at < before) | (sessions.c.ended_at < before)
        old = select(sessions.c.id).where(over)
        async with self._database.writing() as connection:
            await connection.execute(delete(refresh_tokens).where(refresh_tokens.c.session.in_(old)))
            await connection.execute(delete(sessions).where(over))
            await connection.execute(delete(sign_in_links).where(sign_in_links.c.expires_at < before))

    async def _one(self, condition: ColumnElement[bool]) -> Session | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(FOUND.where(condition))).first()
        return to_session(row) if row is not None else None


async def lock_user(connection: AsyncConnection, session: Session, password_hash: str | None) -> bool:
    """Hold the user's row until the end of the transaction; False where a session may not start."""
    columns = (users.c.password_hash, users.c.role, users.c.disabled_at)
    statement = select(*columns).where(users.c.folded == folded(session.user))
    # PostgreSQL locks the row; SQLite leaves FOR UPDATE out, its writer is alone anyway.
    row = (await connection.execute(statement.with_for_update())).first()
    if row is None or row.disabled_at is not None:
        return False
    # What is issued for the session says the role that was read before.
    if row.role != session.role:
        return False
    return password_hash is None or bool(row.password_hash == password_hash)


async def end_surplus(connection: AsyncConnection, session: Session, *, keep: int) -> frozenset[SessionId]:
    """End the user's oldest live sessions so that `keep` are left."""
    statement = (
        select(sessions.c.id)
        .where(
            sessions.c.user == folded(session.user),
            sessions.c.ended_at.is_(None),
            sessions.c.expires_at > session.created_at,
        )
        .order_by(sessions.c.created_at.desc(), sessions.c.id)
    )
    surplus = (await connection.execute(statement)).scalars().all()[keep:]
    if not surplus:
        return frozenset()
    return await end_where(connection, sessions.c.id.in_(surplus), at=session.created_at, reason="too_many_sessions")


async def end_of_user(connection: AsyncConnection, name: str, *, at: float, reason: str) -> frozenset[SessionId]:
    """End every session of a user that is not ended."""
    return await end_where(connection, sessions.c.user == folded(name), at=at, reason=reason)


async def end_where(
    connection: AsyncConnection, condition: ColumnElement[bool], *, at: float, reason: str
) -> frozenset[SessionId]:
    """End the sessions that a condition meets and that are not ended yet; return them."""
    ended = await connection.execute(
        update(sessions)
        .where(and_(condition, sessions.c.ended_at.is_(None)))
        .values(ended_at=at, ended_reason=reason)
        .returning(sessions.c.id)
    )
    return frozenset(SessionId(id_) for id_ in ended.scalars())


async def insert_session(connection: AsyncConnection, session: Session, cookie: str | None) -> None:
    """Insert a session."""
    await connection.execute(
        insert(sessions).values(
            id=session.id,
            cookie=cookie,
            user=folded(session.user),
            kind=session.kind.value,
            created_at=session.created_at,
            last_seen_at=session.last_seen_at,
            expires_at=session.expires_at,
            address=session.address,
            user_agent=session.user_agent,
        )
    )


async def insert_refresh(connection: AsyncConnection, digest: str, session: SessionId, at: float) -> None:
    """Insert a refresh token that is unused."""
    await connection.execute(insert(refresh_tokens).values(digest=digest, session=session, created_at=at))


def count_of_minute(at: float) -> ScalarSelect[int]:
    """Return how many tokens the session of a refresh token got within the minute before `at`.

    What is of later, because a clock was set back, does not count.
    """
    others = refresh_tokens.alias()
    return (
        select(func.count())
        .select_from(others)
        .where(others.c.session == refresh_tokens.c.session, others.c.created_at > at - 60, others.c.created_at <= at)
        .correlate(refresh_tokens)
        .scalar_subquery()
    )


async def is_unused(connection: AsyncConnection, digest: str) -> bool:
    """Tell whether a refresh token is there and was not rotated."""
    statement = select(refresh_tokens.c.digest).where(
        refresh_tokens.c.digest == digest, refresh_tokens.c.replaced_at.is_(None)
    )
    return (await connection.execute(statement)).first() is not None


async def note_activity(connection: AsyncConnection, ids: Collection[SessionId], at: float) -> None:
    """Move `last_seen_at` forward."""
    remaining = list(ids)
    while remaining:
        batch, remaining = remaining[:BATCH], remaining[BATCH:]
        await connection.execute(
            update(sessions)
            .where(sessions.c.id.in_(batch), sessions.c.ended_at.is_(None), sessions.c.last_seen_at < at)
            .values(last_seen_at=at)
        )


def to_session(row: Row[*tuple[Any, ...]]) -> Session:
    """Return a row of `FOUND` as a session."""
    return Session(
        id=SessionId(row.id),
        user=row.name,
        role=row.role,
        kind=SessionKind(row.kind),
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        address=row.address,
        user_agent=row.user_agent,
    )
