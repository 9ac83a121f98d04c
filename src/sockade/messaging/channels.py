"""Which channels there are, who may do what in them, and what they keep: declarations, and how a name finds its own.

A channel that is not declared and one that is forbidden get the same answer: who may not know learns nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sockade.errors import UsageError
from sockade.messaging.broker import Keep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockade.guard.identity import Identity

VARIABLE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What travels in a channel, typed: subclass it and name the fields."""


@dataclass(frozen=True, slots=True)
class History:
    """A channel keeps at most `size` publications, none older than `seconds`; on the disk unless not `durable`."""

    size: int
    seconds: float
    durable: bool = True

    def __post_init__(self) -> None:
        if self.size < 1 or self.seconds <= 0:
            raise UsageError("a history has a size of at least 1 and lasts longer than 0 seconds")


@dataclass(frozen=True, slots=True)
class Channel:
    """One declaration, which holds for every name that fits its pattern."""

    pattern: str
    fits: re.Pattern[str]
    keep: Keep | None
    presence: bool
    join_leave: bool
    message: type[Any] | None
    may_subscribe: Callable[..., bool]
    may_publish: Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Match:
    """A declared channel under its full name, with the values of the pattern's variables."""

    name: str
    channel: Channel
    variables: Mapping[str, str]

    def may_subscribe(self, identity: Identity) -> bool:
        """Tell whether an identity may hear this channel, and see its presence and history."""
        return self.channel.may_subscribe(identity, **self.variables)

    def may_publish(self, identity: Identity) -> bool:
        """Tell whether an identity may publish in this channel."""
        return self.channel.may_publish(identity, **self.variables)


class Channels:
    """All declarations, in their order; the first that fits a name counts."""

    def __init__(self) -> None:
        self.declared: list[Channel] = []

    def declare(
        self, pattern: str, handler: object, *, history: History | None, presence: bool, join_leave: bool
    ) -> None:
        """Declare the channels whose names fit a pattern.

        `handler` says who may do what: `may_subscribe(identity, **variables)`, by default everyone who is admitted,
        and `may_publish(identity, **variables)`, by default nobody; and `message`, the type of what is published.
        """
        self.declared.append(
            Channel(
                pattern,
                compiled(pattern),
                Keep(history.size, history.seconds, history.durable) if history is not None else None,
                presence,
                join_leave,
                getattr(handler, "message", None),
                getattr(handler, "may_subscribe", anyone),
                getattr(handler, "may_publish", nobody),
            )
        )

    def find(self, name: str) -> Match | None:
        """Return the declaration of a channel's name."""
        for channel in self.declared:
            match = channel.fits.fullmatch(name)
            if match is not None:
                return Match(name, channel, match.groupdict())
        return None

    def is_durable(self, name: str) -> bool:
        """Tell whether what is published under a name is kept on the disk."""
        match = self.find(name)
        return match is not None and match.channel.keep is not None and match.channel.keep.durable


def compiled(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern such as `room:{name}`; a variable holds no colon.

    Raises:
        UsageError: the pattern is malformed.
    """
    parts = VARIABLE.split(pattern)
    names = parts[1::2]
    if not pattern or len(set(names)) != len(names) or any("{" in part or "}" in part for part in parts[::2]):
        raise UsageError(f"channel pattern {pattern!r} is malformed: write it like room:{{name}}")
    return re.compile(
        "".join(f"(?P<{part}>[^:]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
    )


def anyone(identity: Identity, **variables: str) -> bool:
    """Permit every admitted identity."""
    return True


def nobody(identity: Identity, **variables: str) -> bool:
    """Permit nobody: publishing is granted, never assumed."""
    return False
