"""The request head of an upgrade as a value, and the two answers to it: `Admit` or `Refuse`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockade.guard.identity import ConnectionId, Identity
    from sockade.protocol.reasons import Reason

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 §5.6.2


@dataclass(frozen=True, slots=True)
class Head:
    """A request head as it came, parsed but not judged.

    `headers` holds (lower-case name, value) pairs in their order, both decoded as ISO 8859-1 (RFC 9110 §5.5).
    """

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    _named: dict[str, list[str]] = field(init=False, repr=False, compare=False)
    """The same by name: a head is asked a dozen times."""

    def __post_init__(self) -> None:
        named: dict[str, list[str]] = {}
        for name, value in self.headers:
            named.setdefault(name, []).append(value)
        object.__setattr__(self, "_named", named)

    def all(self, name: str) -> Sequence[str]:
        """Return every value of a header, in order; `name` in lower case."""
        return self._named.get(name, ())

    def one(self, name: str) -> str | None:
        """Return the value of a header that came exactly once, otherwise None."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    def tokens(self, name: str) -> list[str]:
        """Return the comma-separated tokens of a header's values (RFC 9110 §5.6.1), in lower case."""
        return [t for value in self.all(name) for part in value.split(",") if (t := part.strip().lower())]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the target's question mark."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Handshake:
    """Everything that is known about an upgrade request before it is decided."""

    id: ConnectionId
    head: Head
    address: str
    """The client's address, as text without a port."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The connection may exist, until `expires_at` (POSIX seconds) at the latest."""

    identity: Identity
    expires_at: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection may not exist.

    `detail` is for the log alone and holds no secret; `retry_after` is in seconds.
    """

    reason: Reason
    detail: str = ""
    retry_after: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())
