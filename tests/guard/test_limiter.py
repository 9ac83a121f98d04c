"""Handshakes by address, bans of users and addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sockade.guard.limiter import ANSWERS_TO_BANNED, Limiter
from sockade.protocol.reasons import Reason
from sockade.settings import LimitSettings

if TYPE_CHECKING:
    from sockade.guard.messages import Standing


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(LimitSettings())


def test_thirty_new_connections_a_minute_and_address(limiter: Limiter) -> None:
    answers = [limiter.judge_address("192.0.2.1", 0.0) for _ in range(31)]
    assert answers[:30] == [None] * 30
    refusal = answers[30]
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after) == (Reason.RATE, 2)
    assert limiter.judge_address("192.0.2.1", 2.0) is None
    assert limiter.judge_address("192.0.2.2", 0.0) is None


def test_addresses_within_one_ipv6_site_share_one_allowance(limiter: Limiter) -> None:
    answers = [limiter.judge_address(f"2001:db8::{number:x}", 0.0) for number in range(31)]
    assert answers[30] is not None


def said(limiter: Limiter, standings: list[Standing], now: float) -> int:
    return sum(standing.take(1, now) for standing in standings for _ in range(20))


def test_connections_of_a_user_share_one_allowance_whenever_they_were_opened(limiter: Limiter) -> None:
    mine = []
    for now in range(0, 500, 100):
        mine.append(limiter.standing("ada", float(now)))
        limiter.standing("bob", float(now))
    assert said(limiter, mine, 500.0) == 40
    assert said(limiter, [limiter.standing("bob", 500.0)], 500.0) == 20


def test_who_leaves_and_comes_back_has_the_allowance_that_was_left(limiter: Limiter) -> None:
    assert said(limiter, [limiter.standing("ada", 0.0) for _ in range(2)], 0.0) == 40
    assert said(limiter, [limiter.standing("ada", 0.0)], 0.0) == 0


def test_three_strikes_refuse_the_user_and_the_address_for_a_while(limiter: Limiter) -> None:
    for _ in range(3):
        assert limiter.judge_user("ada", 0.0) is None
        limiter.strike("ada", "192.0.2.1", 0.0)
    user, address = limiter.judge_user("ada", 0.0), limiter.judge_address("192.0.2.1", 0.0)
    assert user is not None
    assert address is not None
    assert user.retry_after == address.retry_after == 60
    assert limiter.judge_user("bob", 0.0) is None
    assert limiter.judge_user("ada", 60.0) is None
    assert limiter.judge_address("192.0.2.1", 60.0) is None


def test_a_banned_address_that_goes_on_is_told_so_a_few_times_and_then_once_a_second(limiter: Limiter) -> None:
    for _ in range(3):
        limiter.strike("ada", "192.0.2.1", 0.0)
    for _ in range(int(ANSWERS_TO_BANNED.burst)):
        assert limiter.judge_peer("192.0.2.1", 0.0) is None
        assert limiter.judge_address("192.0.2.1", 0.0) is not None
    refusal = limiter.judge_peer("192.0.2.1", 0.0)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after) == (Reason.RATE, 60)
    assert limiter.judge_peer("192.0.2.2", 0.0) is None
    assert limiter.judge_peer("192.0.2.1", 1.0) is None
    assert limiter.judge_address("192.0.2.1", 1.0) is not None
    assert limiter.judge_peer("192.0.2.1", 1.0) is not None


def test_the_end_of_a_ban_is_heard_by_who_went_on(limiter: Limiter) -> None:
    for _ in range(3):
        limiter.strike("ada", "192.0.2.1", 0.0)
    for _ in range(100):
        limiter.judge_address("192.0.2.1", 59.9)
    assert limiter.judge_peer("192.0.2.1", 59.9) is not None
    assert limiter.judge_peer("192.0.2.1", 60.0) is None


def test_who_is_not_banned_is_always_answered(limiter: Limiter) -> None:
    for _ in range(100):
        limiter.judge_address("192.0.2.1", 0.0)
    assert limiter.judge_peer("192.0.2.1", 0.0) is None


def test_a_user_named_like_an_address_is_another(limiter: Limiter) -> None:
    for _ in range(3):
        limiter.strike("192.0.2.9", "192.0.2.1", 0.0)
    assert limiter.judge_address("192.0.2.9", 0.0) is None
