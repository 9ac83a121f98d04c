"""The values that say who: the identity a credential proved, and the credential that was shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Callable

SessionId = NewType("SessionId", str)
"""The public id of a session. It names the session in logs and lists and opens nothing."""

ConnectionId = NewType("ConnectionId", str)
"""The id of one connection, from the accepted socket on; a refused client is shown it."""


NOBODY = ""
"""The user of a connection whose first message has not said yet who is there. No user has an empty name."""
NO_SCOPES: frozenset[str] = frozenset()
"""One for everybody: an empty set of its own would be memory of every connection."""


class Secret:
    """A string that must not be seen: whatever prints, formats or serializes this shows `***`.

    Call `reveal()` where the value itself is needed.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def __repr__(self) -> str:
        return "***"

    def reveal(self) -> str:
        """Return the value."""
        return self.__value


class Carrier(StrEnum):
    """What carried the credential."""

    COOKIE = "cookie"
    BEARER = "bearer"
    TICKET = "ticket"
    FIRST_MESSAGE = "first_message"
    """Nothing yet: the channel protocol's `connect` will carry a token."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client showed, not yet verified."""

    carrier: Carrier
    value: Secret


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified credential proves."""

    user: str
    role: str = "user"
    scopes: frozenset[str] = NO_SCOPES
    session: SessionId | None = None
    expires_at: float = float("inf")
    """POSIX seconds at which what this rests on ends: the access token, or the session's absolute limit."""
    info: bytes | None = None
    """JSON that others are shown beside the user, as the token says it."""
    channels: tuple[str, ...] = ()
    """Channels to which the token subscribes its user."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified subscription token grants: one user may hear one channel, until `expires_at` (POSIX seconds)."""

    user: str
    channel: str
    expires_at: float
    info: bytes | None = None
    """JSON that others are shown beside the user in this channel."""
    holds: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)
    """Tells whether the token was not revoked meanwhile."""
