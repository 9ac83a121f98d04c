"""Decides how much is too much: token buckets, strikes, and how many of both are remembered.

Time comes as monotonic seconds. Memory is bounded: what has not been used for as long as it takes to be forgiven is
forgotten, and beyond a fixed number the oldest go first, whatever an attacker invents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

REMEMBERED = 60_000
"""Entries of each generation. Two generations of 60,000 addresses take about 40 MiB."""


MOST_DOUBLINGS = 64
"""Of a ban: far beyond every limit on bans, and where a number of seconds can still be multiplied."""
SLACK = 0.001
"""How much of a token may be missing: sums of fractions are rounded, and the last token of a burst must not be lost."""


@dataclass(frozen=True, slots=True)
class Rate:
    """An allowance: `burst` at once, and `per_second` from then on."""

    per_second: float
    burst: float
    one: float = field(init=False, compare=False)
    """Seconds that one token takes to come back."""
    whole: float = field(init=False, compare=False)
    """Seconds that the whole burst takes to come back."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "one", 1 / self.per_second)
        object.__setattr__(self, "whole", (self.burst + SLACK) / self.per_second)

    def times(self, factor: float) -> Rate:
        """Return an allowance that is larger by a factor."""
        return Rate(self.per_second * factor, self.burst * factor)


class Bucket:
    """How much of one allowance is left, kept as the moment when all of it will be there again (the GCRA, ITU-T I.371).

    It starts full, and being asked allocates nothing.
    """

    __slots__ = ("__weakref__", "full_at", "one", "whole")

    def __init__(self, rate: Rate) -> None:
        self.full_at = 0.0
        self.one = rate.one
        self.whole = rate.whole

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take `cost` out if that much is left; otherwise take nothing and say False."""
        full_at = self.full_at
        if full_at < now:
            full_at = now
        full_at += cost * self.one
        if full_at - now > self.whole:
            return False
        self.full_at = full_at
        return True

    def seconds_until(self, now: float, cost: float = 1.0) -> float:
        """Return how long after `now` there will be enough for `cost`."""
        return max(0.0, self.full_at + cost * self.one - self.whole - now)


class Remembered(Generic[T]):
    """A bounded memory by key, in two generations: what neither of them used is forgotten.

    `seconds` is how long an unused entry is kept at least, unless more than `limit` keys come within that time.
    """

    __slots__ = ("_limit", "_new", "_old", "_seconds", "_since")

    def __init__(self, seconds: float, limit: int = REMEMBERED) -> None:
        self._seconds = seconds
        self._limit = limit
        self._new: dict[str, T] = {}
        self._old: dict[str, T] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: str, now: float) -> T | None:
        """Return what is remembered under a key, and remember it for longer."""
        self._age(now)
        entry = self._new.get(key)
        if entry is None and (entry := self._old.pop(key, None)) is not None:
            self._new[key] = entry
        return entry

    def set(self, key: str, entry: T, now: float) -> None:
        """Remember an entry."""
        self._age(now)
        self._new[key] = entry

    def _age(self, now: float) -> None:
        if now - self._since > self._seconds or len(self._new) >= self._limit:
            forgotten = now - self._since > 2 * self._seconds
            self._old = {} if forgotten else self._new
            self._new = {}
            self._since = now


class Allowances:
    """A bucket for each key: addresses, users."""

    __slots__ = ("_buckets", "_rate")

    def __init__(self, rate: Rate, limit: int = REMEMBERED) -> None:
        self._rate = rate
        # A bucket that was not used for as long as it takes to fill is as good as a new one.
        self._buckets: Remembered[Bucket] = Remembered(rate.whole, limit)

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: str, now: float) -> Bucket:
        """Return the bucket of a key."""
        bucket = self._buckets.get(key, now)
        if bucket is None:
            bucket = Bucket(self._rate)
            self._buckets.set(key, bucket, now)
        return bucket


@dataclass(slots=True)
class Record:
    """The strikes against one address or user."""

    strikes: int = 0
    bans: int = 0
    banned_until: float = 0.0


@dataclass(frozen=True, slots=True)
class BanRules:
    """When strikes become a ban, and for how long: twice as long each time."""

    strikes: int
    seconds: float
    most_seconds: float


class Bans:
    """Who is refused for a while. A ban never extends itself: refused attempts are no strikes."""

    __slots__ = ("_records", "_rules")

    def __init__(self, rules: BanRules, limit: int = REMEMBERED) -> None:
        self._rules = rules
        # Remembered for longer than the longest ban, so that the next one is longer than the last.
        self._records: Remembered[Record] = Remembered(2 * rules.most_seconds, limit)

    def strike(self, key: str, now: float) -> None:
        """Note one more closing for cause; enough of them are a ban."""
        record = self._records.get(key, now)
        if record is None:
            record = Record()
            self._records.set(key, record, now)
        record.strikes += 1
        if record.strikes >= self._rules.strikes:
            record.strikes = 0
            record.banned_until = now + min(self._rules.seconds * 2**record.bans, self._rules.most_seconds)
            record.bans = min(record.bans + 1, MOST_DOUBLINGS)

    def seconds_left(self, key: str, now: float) -> float:
        """Return for how long a key is still refused; 0 if it is not."""
        record = self._records.get(key, now)
        return max(0.0, record.banned_until - now) if record is not None else 0.0
