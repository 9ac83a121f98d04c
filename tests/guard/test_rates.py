"""Token buckets, bounded memory, strikes and bans, on a clock that is only a number."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.rates import SLACK, Allowances, BanRules, Bans, Bucket, Rate, Remembered

RATE = Rate(per_second=10, burst=20)
RULES = BanRules(strikes=3, seconds=60, most_seconds=3_600)


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(RATE)
    assert [bucket.take(0.0) for _ in range(21)] == [True] * 20 + [False]
    assert not bucket.take(0.05)
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert bucket.seconds_until(0.1) == pytest.approx(0.1, abs=0.001)
    assert sum(bucket.take(100.0) for _ in range(30)) == 20


@given(st.lists(st.floats(0, 5), max_size=60))
def test_bucket_never_gives_more_than_burst_and_rate_allow(pauses: list[float]) -> None:
    bucket, now, taken = Bucket(RATE), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= RATE.burst + RATE.per_second * now + SLACK


def test_asking_a_bucket_keeps_no_memory() -> None:
    bucket = Bucket(RATE)
    before = sys.getallocatedblocks()
    for number in range(10_000):
        bucket.take(float(number))
    assert sys.getallocatedblocks() - before < 50


def test_one_key_keeps_its_bucket_and_another_has_its_own() -> None:
    allowances = Allowances(RATE)
    for _ in range(20):
        assert allowances.bucket("a", 0.0).take(0.0)
    assert not allowances.bucket("a", 0.0).take(0.0)
    assert allowances.bucket("b", 0.0).take(0.0)


def test_a_million_addresses_are_bounded() -> None:
    allowances = Allowances(RATE, limit=1_000)
    for number in range(10_000):
        allowances.bucket(str(number), number / 10_000)
    assert len(allowances) <= 2_000


def test_what_is_used_again_is_remembered_and_what_is_not_is_forgotten() -> None:
    memory: Remembered[str] = Remembered(seconds=10)
    memory.set("used", "x", 0.0)
    memory.set("unused", "y", 0.0)
    for now in range(0, 60, 5):
        assert memory.get("used", float(now)) == "x"
    assert memory.get("unused", 60.0) is None
    assert memory.get("used", 1_000.0) is None


def test_three_strikes_are_a_ban_that_doubles_each_time_and_has_an_end() -> None:
    bans = Bans(RULES)
    now, lengths = 0.0, []
    for _ in range(8):
        bans.strike("a", now)
        bans.strike("a", now)
        assert bans.seconds_left("a", now) == 0
        bans.strike("a", now)
        lengths.append(bans.seconds_left("a", now))
        assert bans.seconds_left("b", now) == 0
        now += lengths[-1]
        assert bans.seconds_left("a", now) == 0
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_who_is_banned_for_the_thousandth_time_is_banned_as_long() -> None:
    bans, now = Bans(BanRules(strikes=1, seconds=1, most_seconds=3)), 0.0
    for _ in range(1_100):
        bans.strike("a", now)
        now += bans.seconds_left("a", now)
    bans.strike("a", now)
    assert bans.seconds_left("a", now) == 3
