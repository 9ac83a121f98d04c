"""What is remembered about addresses and users, and the refusals that follow from it.

It holds all state of the rates in one place, in memory and bounded; times are monotonic seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sockade.guard.addresses import allowance_key
from sockade.guard.handshake import Refuse
from sockade.guard.messages import Rates, Standing
from sockade.guard.rates import Allowances, BanRules, Bans, Bucket, Rate
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.settings import LimitSettings


ANSWERS_TO_BANNED = Rate(1.0, 3)
"""How often an address is told that it is banned. Each answer costs a TLS handshake; who goes on was told."""


class Limiter:
    """Rates of handshakes by address, of messages by user and in all, and who is refused for a while."""

    def __init__(self, limits: LimitSettings) -> None:
        self._rates = Rates.of(limits)
        self._users = Allowances(self._rates.user)
        self._connected: WeakValueDictionary[str, Bucket] = WeakValueDictionary()
        """What those share who are connected, for as long as one of them is: `_users` forgets what nobody asks for."""
        self._addresses = Allowances(Rate(limits.handshakes_per_minute / 60, limits.handshakes_per_minute))
        self._total = Bucket(self._rates.total)
        self._bans = Bans(BanRules(limits.ban_strikes, limits.ban_seconds, limits.ban_most_seconds))
        self._answers = Allowances(ANSWERS_TO_BANNED)

    def judge_peer(self, key: str, now: float) -> Refuse | None:
        """Refuse a socket of an address that is banned, was told so and does not stop; `key` is `allowance_key`'s."""
        left = self._bans.seconds_left(key, now)
        if left and self._answers.bucket(key, now).seconds_until(now):
            return Refuse(Reason.RATE, "the address is refused for a while, and goes on", retry_after=math.ceil(left))
        return None

    def judge_address(self, address: str, now: float) -> Refuse | None:
        """Refuse a handshake of an address that is banned or connects too often."""
        key = allowance_key(address)
        if left := self._bans.seconds_left(key, now):
            self._answers.bucket(key, now).take(now)
            return Refuse(Reason.RATE, "the address is refused for a while", retry_after=math.ceil(left))
        bucket = self._addresses.bucket(key, now)
        if not bucket.take(now):
            return Refuse(
                Reason.RATE, "over limits.handshakes_per_minute", retry_after=math.ceil(bucket.seconds_until(now))
            )
        return None

    def judge_user(self, user: str, now: float) -> Refuse | None:
        """Refuse a user who is banned."""
        if left := self._bans.seconds_left(user_key(user), now):
            return Refuse(Reason.RATE, "the user is refused for a while", retry_after=math.ceil(left))
        return None

    def standing(self, user: str, now: float) -> Standing:
        """Return the allowances of a new connection; a user's connections share one."""
        bucket = self._connected.get(user)
        if bucket is None:
            bucket = self._connected[user] = self._users.bucket(user, now)
        return Standing(self._rates, bucket, self._total)

    def strike(self, user: str, address: str, now: float) -> None:
        """Count a closing for cause against both who did it and where from."""
        self._bans.strike(user_key(user), now)
        self._bans.strike(allowance_key(address), now)


def user_key(user: str) -> str:
    """Return the key of a user, which is never that of an address."""
    return f"user {user}"
