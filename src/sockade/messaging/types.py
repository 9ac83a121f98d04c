"""What application code writes to say what travels in a channel and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sockade.errors import UsageError


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What travels in a channel, typed: subclass it and name the fields."""


def Length(least: int, most: int) -> msgspec.Meta:  # noqa: N802 - read as a type: Annotated[str, Length(1, 2000)]
    """Bound the characters of a text or the items of a list: `Annotated[str, Length(1, 2000)]`."""
    return msgspec.Meta(min_length=least, max_length=most)


def minutes(count: float) -> float:
    """Return minutes in seconds."""
    return count * 60.0


def hours(count: float) -> float:
    """Return hours in seconds."""
    return count * 3_600.0


def days(count: float) -> float:
    """Return days in seconds."""
    return count * 86_400.0


@dataclass(frozen=True, slots=True)
class History:
    """A channel keeps at most `size` publications, none older than `ttl` seconds.

    Args:
        durable: whether an acknowledged publication is on the disk; without it, it lives as long as this process.
        latest_only: a subscriber gets the latest publication, instead of all that it missed.

    Raises:
        UsageError: nothing would be kept, or size and time are no numbers.
    """

    size: int
    ttl: float
    durable: bool = True
    latest_only: bool = False

    def __post_init__(self) -> None:
        numbers = type(self.size) is int and type(self.ttl) in (int, float)
        # Not `ttl <= 0`: nan is neither.
        if not (numbers and self.size >= 1 and self.ttl > 0):
            raise UsageError(
                f"a history has a size, a whole number of at least 1, and a time in seconds, a number above 0: "
                f"not History({self.size!r}, {self.ttl!r})"
            )
