"""Decides what happens to one message of an admitted connection: allow it, reject it, or close.

The checks in their order: expiry, rates, kind, text, shape. A rejected message costs one of the connection's
violations; when they are used up, the connection closes. The usual answer is the message itself and allocates nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sockade.guard.rates import Bucket, Rate
from sockade.guard.text import clean, clean_value
from sockade.protocol.codec import DecodeError, convert, parse
from sockade.protocol.codes import CloseCode
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.guard.schemas import Schema
    from sockade.settings import LimitSettings


@dataclass(frozen=True, slots=True)
class Reject:
    """The message goes nowhere; the connection stays."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Close:
    """The connection must end; `strike` tells whether that counts towards a ban."""

    code: CloseCode
    reason: str
    strike: bool = False


EXPIRED: Final = Close(CloseCode.CREDENTIAL_EXPIRED, "credential expired")
BINARY_UNEXPECTED: Final = Close(CloseCode.UNSUPPORTED_DATA, "text expected")
TOO_FAST: Final = Close(CloseCode.POLICY_VIOLATION, "too many messages", strike=True)
TOO_MANY_INVALID: Final = Close(CloseCode.POLICY_VIOLATION, "too many invalid messages", strike=True)

OVER_RATE: Final = Reject(Reason.RATE)
BAD_TEXT: Final = Reject(Reason.TEXT)
BAD_SHAPE: Final = Reject(Reason.BAD_REQUEST)


SUBSCRIPTIONS = 100
"""Subscriptions of one connection."""
SUBSCRIBING = Rate(SUBSCRIPTIONS / 60, SUBSCRIPTIONS)
"""A client that comes back subscribes to all at once, and then to as many again in a minute."""


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What one endpoint accepts."""

    binary: bool = False
    shape: type[Any] | None = None
    """The type a text must be JSON of; None: any text."""
    schema: Schema | None = None
    """The JSON Schema that a text must be JSON by, instead of a type."""
    any_text: bool = False
    """The endpoint judges by itself what each part of a text may hold."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The allowances of one connection, of a user's connections together, and of everyone."""

    messages: Rate
    bytes: Rate
    user: Rate
    total: Rate
    violations: Rate

    @classmethod
    def of(cls, limits: LimitSettings) -> Rates:
        """Return the allowances that the settings name."""
        messages = Rate(limits.messages_per_second, limits.message_burst)
        return cls(
            messages=messages,
            bytes=Rate(limits.message_bytes_per_second, limits.message_bytes_burst),
            user=messages.times(limits.user_factor),
            total=Rate(limits.total_messages_per_second, limits.total_messages_per_second),
            # The last violation of the minute is the one that closes.
            violations=Rate(limits.violations_per_minute / 60, limits.violations_per_minute - 0.999),
        )


class Standing:
    """What is left to one connection; `user` and `total` are shared."""

    __slots__ = ("_bytes", "_counted", "_subscriptions", "_violations")

    def __init__(self, rates: Rates, user: Bucket, total: Bucket) -> None:
        self._bytes = Bucket(rates.bytes)
        self._counted = (Bucket(rates.messages), user, total)
        self._violations = Bucket(rates.violations)
        self._subscriptions = Bucket(SUBSCRIBING)

    def take(self, size: int, now: float) -> bool | None:
        """Take one message of a size out of every allowance; False at the first that has not enough.

        None where that is the total's: what others say is nobody's violation.

        Every message asks it: a bucket that is full again, as nearly all are, gives its one without being called.
        """
        if not self._bytes.take(now, size):
            return False
        for bucket in self._counted:
            if bucket.full_at < now:
                bucket.full_at = now + bucket.one
            elif not bucket.take(now):
                return None if bucket is self._counted[-1] else False
        return True

    def subscribe(self, now: float) -> bool:
        """Take one subscription out of their own allowance; False where it has none left."""
        return self._subscriptions.take(now)

    def give_back(self) -> None:
        """Give back the one that a message took of every allowance, save of the bytes."""
        for bucket in self._counted:
            bucket.full_at -= bucket.one

    def violate(self, now: float) -> bool:
        """Count a rejected message; False when there were too many."""
        return self._violations.take(now)


def decide(
    message: str | bytes, rules: MessageRules, standing: Standing, expires_at: float, now: float
) -> Any | Reject | Close:
    """Return the message as the application gets it, or what becomes of it. Times are monotonic seconds."""
    if now >= expires_at:
        return EXPIRED
    # len counts characters: exact for ASCII, and for other text within a factor of four of the bytes.
    taken = standing.take(len(message), now)
    if not taken:
        return OVER_RATE if taken is None or standing.violate(now) else TOO_FAST
    if not isinstance(message, str):
        return message if rules.binary else BINARY_UNEXPECTED
    if rules.any_text:
        return message
    text = clean(message)
    if text is None:
        return BAD_TEXT if standing.violate(now) else TOO_MANY_INVALID
    if rules.shape is None and rules.schema is None:
        return text
    found = read(text, rules)
    return found if not isinstance(found, Reject) or standing.violate(now) else TOO_MANY_INVALID


def read(text: str, rules: MessageRules) -> Any | Reject:
    """Return the value that a clean text is JSON of, or why it is not acceptable."""
    try:
        value = parse(text)
        # Without a backslash there is no escape, and every text within is part of one that is clean already.
        if "\\" in text and (value := clean_value(value)) is None:
            return BAD_TEXT
        if rules.schema is not None:
            return value if rules.schema.accepts(value) else BAD_SHAPE
        return convert(value, rules.shape)  # type: ignore[arg-type]  # one of the two is set
    except DecodeError:
        return BAD_SHAPE
