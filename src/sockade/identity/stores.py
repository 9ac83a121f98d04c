"""The contracts of what must outlive the process: users, sessions, refresh tokens, revocations, sign-in links.

Every method is one transaction: when it returns, its effect is durable; when it raises `StorageError`, nothing of
it has happened. Times are POSIX seconds and come from the caller. Users are addressed by their folded name
(`identity.names`), sessions by their public id; secrets arrive as digests (`identity.digests`) and are never kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sockade.guard.identity import SessionId


class SessionKind(StrEnum):
    """What keeps a session going."""

    COOKIE = "cookie"
    TOKEN = "token"  # noqa: S105 - a kind of session


@dataclass(frozen=True, slots=True)
class User:
    """Someone who may sign in. `password_hash` is in PHC form, None for users who sign in by link only."""

    name: str
    role: str
    password_hash: str | None
    created_at: float
    disabled_at: float | None = None

    def __repr__(self) -> str:
        return f"User({self.name!r}, role={self.role!r})"


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. `role` is the user's of now, not of when the session began."""

    id: SessionId
    user: str
    role: str
    kind: SessionKind
    created_at: float
    last_seen_at: float
    expires_at: float
    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A sign-in link for `user`, or, where that is None, for whoever picks a free name; that user gets `role`."""

    user: str | None
    role: str
    expires_at: float


class RevocationKind(StrEnum):
    """What a revocation names."""

    SESSION = "session"
    """A session of another issuer; our own are ended (`SessionStore.end`)."""
    TOKEN = "token"  # noqa: S105 - what is revoked
    USER = "user"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is not good any more, although its signature and times still are.

    `subject` is a session id, a `jti`, a user's folded name, or empty for ALL. USER and ALL cover what was
    issued before `before`. `at` is when it was revoked, `until` when everything it covers has expired by itself.
    """

    kind: RevocationKind
    subject: str
    before: float
    at: float
    until: float


class Rotation(Enum):
    """What presenting a refresh token came to."""

    ROTATED = "rotated"
    REPEATED = "repeated"
    """It was rotated moments ago and its successor is still unused: the same successor goes out again."""
    REUSED = "reused"
    """It was rotated longer ago, or its successor was used: someone has a copy."""
    TOO_MANY = "too_many"
    """It is good, but its session has as many of the last minute as it may: nothing happened."""
    UNKNOWN = "unknown"
    """No such token, or its session is over."""


class Redeemed(Enum):
    """What redeeming an open link came to."""

    DONE = "done"
    TAKEN = "taken"
    """The user name is taken, or looks like one that is; the link still works."""
    GONE = "gone"
    """Used, expired or never there."""


class UserStore(Protocol):
    """Where users are kept. Users are never deleted, so a name never passes on to somebody else."""

    async def add(self, user: User) -> bool:
        """Add a user; return False, and change nothing, where the name is taken or looks like one that is."""
        ...

    async def get(self, name: str) -> User | None:
        """Return the user whose name is the same when folded; one that only looks alike is not found."""
        ...

    async def everyone(self) -> list[User]:
        """Return all users in the order of their folded names."""
        ...

    async def set_password(self, name: str, password_hash: str, *, at: float) -> frozenset[SessionId] | None:
        """Set the hash and end every session of the user in one step.

        Return the sessions that this ended, or None where there is no such user.
        """
        ...

    async def upgrade_password(self, name: str, old_hash: str, new_hash: str) -> bool:
        """Replace a hash by one of the same password, unless it is no longer `old_hash`. Sessions go on."""
        ...

    async def disable(self, name: str, *, at: float) -> frozenset[SessionId] | None:
        """Disable a user and end every session of theirs in one step; the answer is that of `set_password`."""
        ...

    async def set_role(self, name: str, role: str, *, at: float) -> frozenset[SessionId] | None:
        """Set the role and end every session of the user in one step; the answer is that of `set_password`."""
        ...

    async def any_password(self) -> bool:
        """Tell whether any user who is not disabled has a password."""
        ...


class SessionStore(Protocol):
    """Where sessions and refresh tokens are kept. A session is live until it is ended or `expires_at` is reached."""

    async def start(
        self,
        session: Session,
        *,
        cookie: str | None,
        refresh: str | None,
        password_hash: str | None,
        per_user: int,
    ) -> frozenset[SessionId] | None:
        """Keep a new session under the digest of its cookie or of its first refresh token.

        The oldest live sessions of the user end in the same step so that at most `per_user` are left, the new one
        included; they are returned. Where the user is unknown or disabled, or the session's role or a `password_hash`
        that is given is no longer the user's, nothing happens and None is returned: a sign-in that raced such a
        change is void.
        """
        ...

    async def by_cookie(self, cookie: str) -> Session | None:
        """Return the session of a cookie's digest, unless it was ended or its user disabled. It may have expired."""
        ...

    async def get(self, session: SessionId) -> Session | None:
        """Return a session by its public id, under the same conditions."""
        ...

    async def of_user(self, name: str, *, now: float) -> list[Session]:
        """Return a user's live sessions, the newest first."""
        ...

    async def seen(self, ids: Collection[SessionId], *, at: float) -> None:
        """Note activity in sessions that were not ended; `last_seen_at` never goes back."""
        ...

    async def rotate(
        self, old: str, new: str, *, at: float, grace: float, a_minute: int
    ) -> tuple[Rotation, Session | None]:
        """Replace a refresh token by its successor, both as digests, and note activity.

        Of any number of calls with the same `old`, exactly one is ROTATED, or all are TOO_MANY where `a_minute` tokens
        of the session are of the minute before `at`. The others are REPEATED while `new` is
        unused and `at` is within `grace` seconds of the rotation, and REUSED afterwards. Only UNKNOWN comes
        without the session. Ending the session of a REUSED token is the caller's.
        """
        ...

    async def end(self, ids: Collection[SessionId], *, at: float, reason: str) -> frozenset[SessionId]:
        """End sessions; return those that this call ended, so that each ending is reported once."""
        ...

    async def end_user(self, name: str, *, at: float, reason: str) -> frozenset[SessionId]:
        """End every session of a user; return those that this call ended."""
        ...

    async def ended_since(self, since: float) -> Mapping[SessionId, str]:
        """Return the sessions that were ended at or after `since`, by whichever process, with the reasons."""
        ...

    async def purge(self, before: float) -> None:
        """Forget sessions, refresh tokens and links that were over before then."""
        ...


class RevocationStore(Protocol):
    """Where revocations are kept until they are pointless."""

    async def add(self, revocation: Revocation, *, reason: str) -> frozenset[SessionId]:
        """Keep a revocation and, for USER and ALL, end the sessions it covers in the same step; return those.

        Of two with the same kind and subject the later `before` and `until` count.
        """
        ...

    async def since(self, at: float) -> list[Revocation]:
        """Return what was revoked at or after `at`, by whichever process."""
        ...

    async def purge(self, now: float) -> None:
        """Forget what is pointless."""
        ...


class LinkStore(Protocol):
    """Where sign-in links are kept, by their digests."""

    async def put(self, digest: str, link: Link) -> None:
        """Keep a link."""
        ...

    async def peek(self, digest: str, *, now: float) -> Link | None:
        """Return a link that could still be redeemed, without redeeming it."""
        ...

    async def redeem(self, digest: str, *, at: float) -> bool:
        """Use a link up. Of any number of calls with the same link exactly one returns True."""
        ...

    async def redeem_for(self, digest: str, user: User, *, at: float) -> Redeemed:
        """Use a link up and add the user in one step: either both happen or neither."""
        ...


class Store(Protocol):
    """All of it."""

    def version(self) -> object | None:
        """Return what differs after each commit, of whichever process; None where only asking tells."""
        ...

    @property
    def users(self) -> UserStore:
        """The users."""
        ...

    @property
    def sessions(self) -> SessionStore:
        """The sessions and refresh tokens."""
        ...

    @property
    def revocations(self) -> RevocationStore:
        """The revocations."""
        ...

    @property
    def links(self) -> LinkStore:
        """The sign-in links."""
        ...
