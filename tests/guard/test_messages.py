"""One message judged: expiry, rates, kind, text, shape, and what rejected messages cost."""

from __future__ import annotations

import math
import sys
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.messages import (
    BAD_SHAPE,
    BAD_TEXT,
    BINARY_UNEXPECTED,
    EXPIRED,
    OVER_RATE,
    TOO_FAST,
    TOO_MANY_INVALID,
    Close,
    MessageRules,
    Rates,
    Reject,
    Standing,
    decide,
)
from sockade.guard.rates import Bucket, Rate
from sockade.guard.text import MOST_MARKS, clean
from sockade.protocol.codec import DecodeError, decode
from sockade.settings import LimitSettings

RATES = Rates.of(LimitSettings())
PLAIN = MessageRules()


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    count: int = 0
    size: float = 0


def standing(user: Bucket | None = None, total: Bucket | None = None) -> Standing:
    return Standing(RATES, user or Bucket(RATES.user), total or Bucket(RATES.total))


def judge(message: str | bytes, rules: MessageRules = PLAIN, now: float = 0.0) -> Any:
    return decide(message, rules, standing(), math.inf, now)


def test_a_text_is_allowed_as_it_is() -> None:
    message = "Grüße, 世界 👩‍👩‍👧 — tab\tand\r\nline"
    assert judge(message) == message


def test_what_comes_after_expiry_is_not_dispatched() -> None:
    assert decide("x", PLAIN, standing(), 10.0, 9.9) == "x"
    assert decide("x", PLAIN, standing(), 10.0, 10.0) is EXPIRED


@pytest.mark.parametrize("now", [0.0, 1_000.0])
def test_over_the_rate_messages_are_rejected_and_then_the_connection_closes(now: float) -> None:
    mine = standing()
    answers = [decide("x", PLAIN, mine, math.inf, now) for _ in range(31)]
    assert answers[:20] == ["x"] * 20
    assert answers[20:29] == [OVER_RATE] * 9
    assert answers[29] is TOO_FAST
    assert TOO_FAST.strike


def test_bytes_have_a_rate_too() -> None:
    mine = standing()
    answers = [decide("x" * 65_536, PLAIN, mine, math.inf, 0.0) for _ in range(5)]
    assert [isinstance(answer, str) for answer in answers] == [True] * 4 + [False]


def test_one_user_on_five_connections_shares_one_allowance() -> None:
    user = Bucket(RATES.user)
    connections = [standing(user) for _ in range(5)]
    allowed = sum(decide("x", PLAIN, one, math.inf, 0.0) == "x" for one in connections for _ in range(20))
    assert allowed == 40


def test_all_connections_share_a_total() -> None:
    total = Bucket(RATES.total)
    total.take(0.0, LimitSettings().total_messages_per_second - 1)
    assert decide("x", PLAIN, standing(total=total), math.inf, 0.0) == "x"
    assert decide("x", PLAIN, standing(total=total), math.inf, 0.0) is OVER_RATE


def test_what_others_say_is_nobody_s_violation() -> None:
    total = Bucket(RATES.total)
    mine = standing(total=total)
    total.take(0.0, LimitSettings().total_messages_per_second)
    assert [decide("x", PLAIN, mine, math.inf, 0.0) for _ in range(20)] == [OVER_RATE] * 20
    assert [decide("x", PLAIN, mine, math.inf, 0.0) for _ in range(10)] == [OVER_RATE] * 9 + [TOO_FAST]


@given(
    st.permutations([Rate(2, 8), Rate(10, 5), Rate(1, 3)]),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 300), st.booleans()), max_size=80),
)
def test_taking_of_every_allowance_is_taking_of_one_after_the_other(
    counted: list[Rate], steps: list[tuple[float, int, bool]]
) -> None:
    messages, user, total = counted
    rates = Rates(bytes=Rate(90, 400), messages=messages, user=user, total=total, violations=Rate(1, 1))
    shared = Bucket(rates.user), Bucket(rates.total)
    together = Standing(rates, *shared)
    alone = [Bucket(rate) for rate in (rates.bytes, rates.messages, rates.user, rates.total)]
    now = 0.0
    for pause, size, another_speaks in steps:
        now += pause
        if another_speaks:
            assert shared[0].take(now) == alone[2].take(now)
        asked = zip(alone, (size, 1, 1, 1), strict=True)
        assert bool(together.take(size, now)) == all(bucket.take(now, cost) for bucket, cost in asked)
        assert [bucket.full_at for bucket in shared] == [bucket.full_at for bucket in alone[2:]]


def test_ten_invalid_messages_close_and_a_minute_forgives() -> None:
    mine = standing()
    answers = [decide("\x00", PLAIN, mine, math.inf, number / 5) for number in range(10)]
    assert answers == [BAD_TEXT] * 9 + [TOO_MANY_INVALID]
    slow = standing()
    assert all(decide("\x00", PLAIN, slow, math.inf, number * 7.0) is BAD_TEXT for number in range(50))


def test_binary_closes_unless_it_is_spoken() -> None:
    assert judge(b"x") is BINARY_UNEXPECTED
    assert judge(b"x", MessageRules(binary=True)) == b"x"


@pytest.mark.parametrize("bad", ["a\x00b", "\x1b[31m", "\x7f", "\u202eabc", "\u2066", "\u2028", "\ufeff", "\U000e0041"])
def test_characters_that_no_text_needs_are_rejected(bad: str) -> None:
    assert judge(bad) is BAD_TEXT


@pytest.mark.parametrize("mark", ["\u0301", "\u0f73", "\U0001e8d0"])
def test_marks_are_not_stacked_higher_than_they_can_be_put_in_order(mark: str) -> None:
    assert isinstance(judge("a" + mark * MOST_MARKS + "b" + mark * MOST_MARKS), str)
    assert judge("a" + mark * (MOST_MARKS + 1)) is BAD_TEXT
    assert judge("👩‍👩‍👧、" * 100 + mark * (MOST_MARKS + 1)) is BAD_TEXT
    assert judge("👩‍👩‍👧、" * 100) == "👩‍👩‍👧、" * 100


def test_text_is_in_one_normal_form() -> None:
    assert judge("e\u0301") == "\u00e9"


def test_a_typed_message_arrives_as_its_type() -> None:
    assert judge('{"text":"hi"}', MessageRules(shape=Say)) == Say("hi")


BAD_SHAPES = [
    "hi",
    "",
    "[]",
    '{"text":1}',
    '{"text":"a","other":1}',
    '{"text":"a","__proto__":{}}',
    '{"text":"a","text":"b"}',
    '{"text":"a","count":NaN}',
    '{"text":"a","size":1e400}',
    '{"text":"a","count":' + "9" * 5000 + "}",
    '{"text":' + "[" * 33 + "]" * 33 + "}",
    "[" * 60_000,
    '{"text":"\\ud800',
]


@pytest.mark.parametrize("bad", BAD_SHAPES)
def test_another_shape_is_rejected(bad: str) -> None:
    assert judge(bad, MessageRules(shape=Say)) is BAD_SHAPE


def test_brackets_within_strings_are_no_nesting() -> None:
    text = "[" * 100 + '\\"{'
    assert decode('{"text":"' + text + '"}', Say).text == text.replace('\\"', '"')


@given(st.text(max_size=200) | st.binary(max_size=200), st.sampled_from([PLAIN, MessageRules(shape=Say)]))
def test_any_message_is_decided(message: str | bytes, rules: MessageRules) -> None:
    assert isinstance(judge(message, rules), str | Say | Reject | Close)


def is_forbidden(char: str) -> bool:
    """Tell the same from Unicode's own tables: controls, what reorders, separators, annotations, tags."""
    return (
        (unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\t\n\r")
        or unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        or char in "\u061c\u200e\u200f\ufff9\ufffa\ufffb\ufeff"
        or 0xE0000 <= ord(char) <= 0xE007F
    )


@pytest.mark.parametrize("around", ["a{}b", "\u00e9{}", "\u00e9{}\u200d"])
def test_of_all_characters_just_these_do_not_pass(around: str) -> None:
    """In a text of ASCII, of what is printable, and of what is not."""
    chars = list(map(chr, range(sys.maxunicode + 1)))
    kept_out = [char for char in chars if clean(around.format(char)) is None]
    assert kept_out == list(filter(is_forbidden, chars))


@given(st.text())
def test_clean_text_is_clean(text: str) -> None:
    once = clean(text)
    assert once is None or clean(once) == once


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_decoding_never_raises_anything_else(value: object) -> None:
    try:
        decode(msgspec.json.encode(value).decode(), list)  # type: ignore[misc]
    except DecodeError:
        pass
    except OverflowError:  # what msgspec cannot encode is not ours to decode
        pass
