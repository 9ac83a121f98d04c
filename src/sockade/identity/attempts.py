"""Decides how often an address may try to sign in, how often a name may be tried, and how often anyone may guess.

Nothing locks a user out for long: allowances refill by the minute, and an address from which the user has signed in
lately has an allowance of its own, which attempts from elsewhere do not touch. What succeeds costs nothing. Times are
monotonic seconds; memory is bounded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sockade.guard.addresses import allowance_key
from sockade.guard.handshake import Refuse
from sockade.guard.rates import Allowances, Bucket, Rate, Remembered
from sockade.identity.names import folded, parse_name
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.settings import LimitSettings

LIMIT = 20_000
"""Entries of each generation of each table."""
KNOWN_SECONDS = 30 * 86_400.0
GUESSES = frozenset({Reason.TOKEN_INVALID, Reason.TICKET_INVALID, Reason.SESSION_INVALID})
"""The refusals that a guess at a secret meets."""


class Attempts:
    """The allowances of sign-ins and guesses."""

    def __init__(self, limits: LimitSettings) -> None:
        self._rate = Rate(limits.sign_ins_per_minute / 60, limits.sign_ins_per_minute)
        self._addresses = Allowances(self._rate, LIMIT)
        self._names = Allowances(self._rate, LIMIT)
        self._known: Remembered[Bucket] = Remembered(KNOWN_SECONDS, LIMIT)
        self._guesses = Allowances(Rate(limits.guesses_per_minute / 60, limits.guesses_per_minute), LIMIT)

    def judge_sign_in(self, address: str, username: str | None, now: float) -> Refuse | None:
        """Take one attempt of an address and, by password, at a name; refuse it where either has none left."""
        bucket = self._addresses.bucket(allowance_key(address), now)
        if not bucket.take(now):
            return refused(bucket, now, "the address: over limits.sign_ins_per_minute")
        of_name = self._of_name(address, username, now)
        if of_name is not None and not of_name.take(now):
            return refused(of_name, now, "the user name: over limits.sign_ins_per_minute")
        return None

    def give_back(self, address: str, username: str | None, now: float) -> None:
        """Return an attempt that was no guess: it succeeded, or nothing was compared."""
        self._addresses.bucket(allowance_key(address), now).take(now, -1)
        of_name = self._of_name(address, username, now)
        if of_name is not None:
            of_name.take(now, -1)

    def succeeded(self, address: str, username: str | None, now: float) -> None:
        """Note that a user signed in from an address: from there the name has an allowance of its own."""
        self.give_back(address, username, now)
        key = known_key(address, username)
        if key is not None and self._known.get(key, now) is None:
            self._known.set(key, Bucket(self._rate), now)

    def judge_guess(self, address: str, now: float) -> Refuse | None:
        """Refuse to look at a credential of an address that showed too many that were none."""
        bucket = self._guesses.bucket(allowance_key(address), now)
        if bucket.seconds_until(now) > 0:
            return refused(bucket, now, "over limits.guesses_per_minute")
        return None

    def failed(self, address: str, now: float) -> None:
        """Count a credential that was none."""
        self._guesses.bucket(allowance_key(address), now).take(now)

    def _of_name(self, address: str, username: str | None, now: float) -> Bucket | None:
        key = known_key(address, username)
        if key is None:
            return None
        return self._known.get(key, now) or self._names.bucket(key.partition(" ")[2], now)


def known_key(address: str, username: str | None) -> str | None:
    """Return the key of a user at an address; None where the text is no user name, whom nobody has."""
    name = parse_name(username) if username is not None else None
    return f"{allowance_key(address)} {folded(name)}" if name is not None else None


def refused(bucket: Bucket, now: float, what: str) -> Refuse:
    """Return the refusal that says when there is something left again."""
    return Refuse(Reason.RATE, what, retry_after=math.ceil(bucket.seconds_until(now)))
