import pytest

from sockade.guard.handshake import Refuse
from sockade.identity.attempts import Attempts
from sockade.settings import LimitSettings

HOME, AWAY = "192.0.2.1", "198.51.100.1"


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(LimitSettings(sign_ins_per_minute=3, guesses_per_minute=3))


def test_an_address_has_so_many_failures_a_minute(attempts: Attempts) -> None:
    """Case 37."""
    for number in range(3):
        assert attempts.judge_sign_in(HOME, f"user{number}", 0) is None
    refusal = attempts.judge_sign_in(HOME, "other", 0)
    assert isinstance(refusal, Refuse)
    assert (refusal.reason, refusal.retry_after) == ("rate_limited", 20)
    assert attempts.judge_sign_in(AWAY, "other", 0) is None
    assert attempts.judge_sign_in(HOME, "other", 20) is None


def test_a_name_has_so_many_failures_from_wherever(attempts: Attempts) -> None:
    """Case 37."""
    for number in range(3):
        assert attempts.judge_sign_in(f"198.51.100.{number}", "Ana", 0) is None
    assert attempts.judge_sign_in(HOME, "ANA", 0) is not None
    assert attempts.judge_sign_in(HOME, "ana", 20) is None


def test_where_the_user_signed_in_others_cannot_lock_them_out(attempts: Attempts) -> None:
    """Case 37."""
    assert attempts.judge_sign_in(HOME, "ana", 0) is None
    attempts.succeeded(HOME, "ana", 0)
    for number in range(50):
        attempts.judge_sign_in(f"198.51.100.{number}", "ana", 1)
    assert attempts.judge_sign_in(AWAY, "ana", 1) is not None
    assert [attempts.judge_sign_in(HOME, "ana", 1) is None for _ in range(4)] == [True, True, True, False]


def test_what_succeeds_costs_nothing(attempts: Attempts) -> None:
    for _ in range(20):
        assert attempts.judge_sign_in(HOME, "ana", 0) is None
        attempts.succeeded(HOME, "ana", 0)
    for _ in range(20):
        assert attempts.judge_sign_in(HOME, "bob", 0) is None
        attempts.give_back(HOME, "bob", 0)
    assert attempts.judge_sign_in(HOME, None, 0) is None
    assert attempts.judge_sign_in(HOME, "not a name", 0) is None


def test_guesses_are_counted_when_they_fail(attempts: Attempts) -> None:
    """Case 32."""
    for _ in range(10):
        assert attempts.judge_guess(HOME, 0) is None
    for _ in range(3):
        attempts.failed(HOME, 0)
    refusal = attempts.judge_guess(HOME, 0)
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after == 20
    assert attempts.judge_guess(AWAY, 0) is None
    assert attempts.judge_guess("2001:db8::1", 0) is None
    assert attempts.judge_guess(HOME, 20) is None


def test_a_site_of_ipv6_is_one_address(attempts: Attempts) -> None:
    for number in range(3):
        attempts.failed(f"2001:db8::{number}", 0)
    assert attempts.judge_guess("2001:db8::ffff", 0) is not None
