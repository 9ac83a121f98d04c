"""Values to keep in a store."""

from sockade.guard.identity import SessionId
from sockade.identity.stores import Session, SessionKind, Store, User

NOW = 1_800_000_000.0


def user(name: str = "Ana", password_hash: str | None = "phc", role: str = "user") -> User:
    return User(name, role, password_hash, NOW)


def session(id_: str, name: str = "Ana", *, at: float = NOW, life: float = 100.0) -> Session:
    return Session(SessionId(id_), name, "user", SessionKind.TOKEN, at, at, at + life, "192.0.2.1", "agent")


async def begin(
    store: Store, id_: str, name: str = "Ana", *, at: float = NOW, per_user: int = 10, password_hash: str | None = None
) -> frozenset[SessionId] | None:
    """Start a session whose cookie and refresh token have digests made of its id."""
    return await store.sessions.start(
        session(id_, name, at=at),
        cookie=f"cookie-{id_}",
        refresh=f"refresh-{id_}",
        password_hash=password_hash,
        per_user=per_user,
    )
