"""Time and randomness, as values that are handed in, so that whatever depends on them can be tested.

Wall-clock times are POSIX seconds (`wall`); durations and deadlines of this process use `monotonic`,
which no change of the system's clock moves.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Protocol

SECRET_BYTES = 32  # 256 bits: what every ticket, session id and link carries.


class Clock(Protocol):
    """Where the time and unpredictable values come from."""

    def wall(self) -> float:
        """Return POSIX time, in seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...

    def secret(self) -> str:
        """Return 256 fresh random bits as base64url without padding (43 characters)."""
        ...

    def short_id(self) -> str:
        """Return 64 fresh random bits as 16 hexadecimal digits: an id to find log lines by, not a secret."""
        ...


class SystemClock:
    """The machine's clock and its cryptographic random source."""

    # Asked at each message: the functions themselves, with nothing around them.
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def secret(self) -> str:
        return secrets.token_urlsafe(SECRET_BYTES)

    def short_id(self) -> str:
        return secrets.token_hex(8)


@dataclass(slots=True)
class SteppedClock:
    """A clock that moves only when it is told to, and whose secrets are counted out: for tests."""

    now: float = 1_800_000_000.0
    count: int = 0

    def step(self, seconds: float) -> None:
        """Move both times forward."""
        self.now += seconds

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def secret(self) -> str:
        self.count += 1
        return f"{self.count:043d}"

    def short_id(self) -> str:
        self.count += 1
        return f"{self.count:016x}"
