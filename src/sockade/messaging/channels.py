"""Which channels there are, who may do what in them, and what they keep: declarations, and how a name finds its own.

A channel that is not declared and one that is forbidden get the same answer: who may not know learns nothing.
Declarations come from application code and from `[channels.NAME]` of the settings, and become the same values.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sockade.errors import UsageError
from sockade.guard.rates import Allowances, Rate
from sockade.guard.rights import EVERYONE, OWNER, USER_VARIABLE, has_any
from sockade.guard.text import clean
from sockade.messaging.broker import Keep
from sockade.messaging.endpoint import read_schema
from sockade.messaging.handlers import Call, message_type, methods
from sockade.messaging.shapes import is_exact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sockade.guard.identity import Identity
    from sockade.guard.schemas import Schema
    from sockade.messaging.types import History
    from sockade.settings import ChannelSettings

    Permits = Callable[..., bool]
    Hook = Callable[..., Awaitable[Any]]
    Announced = Literal["off", "connection", "user"]

VARIABLE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
ASKED = Call(("identity",), awaited=False)
TAKEN = frozenset(("self", "identity", "connection", "message"))
"""Names of what rights and hooks get besides the variables."""
UNNAMEABLE = "what they say is put into Unicode's form NFC, without control characters; write it so"
METHODS = {
    "may_subscribe": ASKED,
    "may_publish": ASKED,
    "may_see_presence": ASKED,
    "may_see_history": ASKED,
    "on_subscribe": Call(("connection",)),
    "on_publish": Call(("connection", "message")),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One declaration, which holds for every name that fits its pattern."""

    pattern: str
    fits: re.Pattern[str]
    keep: Keep | None
    cache: bool
    """Whether a subscriber gets the latest publication alone."""
    presence: bool
    announced: Announced
    """Whose coming and going others are told."""
    personal: bool
    token: bool
    """Whether a subscription token is as good as a right."""
    message: type[Any] | None
    exact: bool
    """Whether data of that type has no field besides its own, and may be passed on as it came."""
    schema: Schema | None
    may_subscribe: Permits
    may_publish: Permits
    may_see_presence: Permits | None
    """None: whoever hears the channel."""
    may_see_history: Permits | None
    allowances: Allowances | None
    """What one user may publish in one channel."""
    on_subscribe: Hook | None = None
    on_publish: Hook | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A declared channel under its full name, with the values of the pattern's variables."""

    name: str
    channel: Channel
    variables: Mapping[str, str]

    def may_subscribe(self, identity: Identity) -> bool:
        """Tell whether an identity may hear this channel; a personal one is heard by its user alone."""
        if self.channel.personal and self.variables[USER_VARIABLE] != identity.user:
            return False
        return yes(self.channel.may_subscribe(identity, **self.variables))

    def may_publish(self, identity: Identity) -> bool:
        """Tell whether an identity may publish in this channel."""
        return yes(self.channel.may_publish(identity, **self.variables))

    def may_see_presence(self, identity: Identity) -> bool:
        """Tell whether an identity that may hear this channel may see who is in it."""
        permits = self.channel.may_see_presence
        return permits is None or yes(permits(identity, **self.variables))

    def may_see_history(self, identity: Identity) -> bool:
        """Tell whether an identity that may hear this channel may read what was published in it."""
        permits = self.channel.may_see_history
        return permits is None or yes(permits(identity, **self.variables))

    def allows(self, user: str, now: float) -> bool:
        """Take one publication out of a user's allowance in this channel; `now` is in monotonic seconds."""
        allowances = self.channel.allowances
        return allowances is None or allowances.bucket(f"{self.name}\n{user}", now).take(now)


class Channels:
    """All declarations, in their order; the first that fits a name counts."""

    def __init__(self) -> None:
        self.declared: list[Channel] = []
        self.personal: list[Channel] = []

    def add(self, channel: Channel) -> None:
        """Add a declaration.

        Raises:
            UsageError: its pattern is taken, or another comes first for every name that fits it; or it is personal, and
                its pattern does not say whose.
        """
        form = VARIABLE.sub("{}", channel.pattern)
        if any(VARIABLE.sub("{}", one.pattern) == form for one in self.declared):
            raise UsageError(f"the channel {channel.pattern!r} is declared already")
        for one in self.declared:
            if all(map(one.fits.fullmatch, samples(channel))):
                raise UsageError(
                    f"the channel {channel.pattern!r} would never be reached: {one.pattern!r}, which is declared "
                    "before it, fits all its names; declare it first"
                )
        if channel.personal:
            if list(channel.fits.groupindex) != [USER_VARIABLE]:
                raise UsageError(f"the personal channel {channel.pattern!r} needs the variable {{user}} and no other")
            self.personal.append(channel)
        self.declared.append(channel)

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

    def personal_of(self, user: str) -> Iterable[Match]:
        """Return the channels that belong to a user, to which the server subscribes each of their connections."""
        for channel in self.personal:
            match = self.find(channel.pattern.replace(f"{{{USER_VARIABLE}}}", user))
            # A user may be called so that another declaration comes first: then it is that one's channel, and no right
            # to hear it.
            if match is not None and match.channel is channel:
                yield match


def declared_by(
    pattern: str,
    handler: object,
    *,
    history: History | None,
    presence: bool,
    announced: Announced,
    personal: bool,
    token: bool,
    rate: Rate | None,
) -> Channel:
    """Return what application code declares: `handler` says who may do what, and may have hooks.

    Raises:
        UsageError: the pattern is malformed, or a method is misspelt or cannot be called.
    """
    fits = compiled(pattern, personal=personal)
    where = f"the channel {pattern!r}"
    found = methods(where, handler, METHODS, list(fits.groupindex))
    message = message_type(where, handler)
    if personal and found["may_subscribe"] is not None:
        raise UsageError(f"{where} is personal: its user is subscribed without asking, so leave may_subscribe out")
    # A function that is there may be as good as false.
    if found["may_subscribe"] is None:
        found["may_subscribe"] = anyone
    if found["may_publish"] is None:
        found["may_publish"] = nobody
    return Channel(
        pattern=pattern,
        fits=fits,
        keep=Keep(history.size, history.ttl, history.durable) if history is not None else None,
        cache=history is not None and history.latest_only,
        presence=presence,
        announced=announced,
        personal=personal,
        token=token,
        message=message,
        exact=is_exact(message),
        schema=None,
        allowances=Allowances(rate) if rate is not None else None,
        **found,
    )


def configured(name: str, settings: ChannelSettings) -> Channel:
    """Return what a table `[channels.NAME]` declares.

    Raises:
        UsageError: the pattern is malformed, or the schema cannot be read or is refused.
    """
    pattern = settings.pattern or name
    subscribe = (OWNER,) if settings.personal and settings.subscribe == (EVERYONE,) else settings.subscribe
    keep = Keep(settings.history_size, settings.history_seconds, settings.durability == "disk")
    rate = Rate(settings.messages_per_second, settings.message_burst) if settings.messages_per_second else None
    return Channel(
        pattern=pattern,
        fits=compiled(pattern, personal=settings.personal),
        keep=keep if settings.history_size else None,
        cache=settings.cache,
        presence=settings.presence,
        announced=settings.join_leave,
        personal=settings.personal,
        token=settings.token,
        message=None,
        exact=True,
        schema=read_schema(settings.schema_file) if settings.schema_file is not None else None,
        may_subscribe=holders(subscribe),
        may_publish=holders(settings.publish),
        may_see_presence=holders(settings.see_presence) if settings.see_presence is not None else None,
        may_see_history=holders(settings.see_history) if settings.see_history is not None else None,
        allowances=Allowances(rate) if rate is not None else None,
    )


def compiled(pattern: str, *, personal: bool = False) -> re.Pattern[str]:
    """Return the expression of a pattern such as `room:{name}`; a variable holds no colon, save a user's name.

    Raises:
        UsageError: the pattern is malformed.
    """
    parts = VARIABLE.split(pattern)
    names = parts[1::2]
    if not pattern or len(set(names)) != len(names) or any("{" in part or "}" in part for part in parts[::2]):
        raise UsageError(f"channel pattern {pattern!r} is malformed: write it like room:{{name}}")
    if taken := TAKEN.intersection(names):
        raise UsageError(f"channel pattern {pattern!r} calls a variable {min(taken)}, as something else is called")
    if clean(pattern) != pattern:
        raise UsageError(f"no client could name the channel {pattern!r}: {UNNAMEABLE}")
    # Users of another issuer are called `issuer:name`.
    value = ".+" if personal else "[^:]+"
    return re.compile(
        "".join(f"(?P<{part}>{value})" if number % 2 else re.escape(part) for number, part in enumerate(parts))
    )


def samples(channel: Channel) -> Iterator[str]:
    """Yield names that fit a pattern: whatever fits them all, fits all names of the pattern."""
    # No pattern has these signs of its own, so that it is variables of another one that they fit.
    for value in ("\ue000", "\ue000:\ue000") if channel.personal else ("\ue000",):
        yield VARIABLE.sub(value, channel.pattern)


def holders(rights: tuple[str, ...]) -> Permits:
    """Return what permits whoever has one of some rights."""
    return functools.partial(_holds, rights)


def _holds(rights: tuple[str, ...], identity: Identity, /, **variables: str) -> bool:
    return has_any(rights, identity, variables)


def yes(answer: object) -> bool:
    """Return a right's answer as one. What is yet to be awaited or gone through is none, although it is true."""
    if answer is True or answer is False:
        return answer
    if inspect.isawaitable(answer):
        raise UsageError("a right was asked and has to be awaited: it cannot be asynchronous")
    if answer is NotImplemented or isinstance(answer, (Iterator, AsyncIterator)):
        raise UsageError(f"a right was asked, and {answer!r} is neither yes nor no")
    return bool(answer)


def anyone(identity: Identity, **variables: str) -> bool:
    """Permit every admitted identity."""
    return True


def nobody(identity: Identity, **variables: str) -> bool:
    """Permit nobody: publishing is granted, never assumed."""
    return False
