"""Recovery: everything that was missed, once and in order, or an honest no."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sockade.messaging.broker import History, Position, Publication
from sockade.messaging.recovery import Gap, NotRecovered, Recovered, Step, recover, step


def pub(offset: int) -> Publication:
    return Publication(offset, str(offset).encode(), 0.0)


def history(since: int, oldest: int, top: int, epoch: str = "e") -> History:
    """What a stream that still has `oldest` to `top` answers when it is read since an offset."""
    return History([pub(n) for n in range(max(since + 1, oldest), top + 1)], Position(top, epoch))


def held(*offsets: int, epoch: str = "e") -> list[tuple[Publication, Position]]:
    return [(pub(n), Position(n, epoch)) for n in offsets]


def test_what_was_missed_comes_back() -> None:
    answer = recover(Position(2, "e"), history(2, 1, 4), held())
    assert answer == Recovered((pub(3), pub(4)), Position(4, "e"))


def test_nothing_missed_is_recovered_too() -> None:
    assert recover(Position(4, "e"), history(4, 1, 4), held()) == Recovered((), Position(4, "e"))


def test_publications_that_are_gone_are_admitted() -> None:
    assert recover(Position(2, "e"), history(2, 5, 6), held()) == NotRecovered(Position(6, "e"))
    assert recover(Position(2, "e"), history(2, 9, 6), held()) == NotRecovered(Position(6, "e"))


def test_a_hole_is_admitted_though_both_ends_are_there() -> None:
    holed = History([pub(3), pub(5)], Position(5, "e"))
    assert recover(Position(2, "e"), holed, held()) == NotRecovered(Position(5, "e"))
    assert recover(Position(2, "e"), holed, held(6)) == NotRecovered(Position(6, "e"))


def test_a_position_beyond_the_top_is_not_ours() -> None:
    assert recover(Position(9, "e"), history(9, 1, 4), held()) == NotRecovered(Position(4, "e"))


def test_another_epoch_is_another_stream() -> None:
    assert isinstance(recover(Position(2, "old"), history(2, 1, 4), held()), NotRecovered)
    assert isinstance(recover(Position(4, "old"), history(4, 1, 4), held()), NotRecovered)


def test_an_empty_epoch_is_a_newcomer_s_only() -> None:
    assert isinstance(recover(Position(0, ""), history(0, 1, 4), held()), Recovered)
    assert isinstance(recover(Position(2, ""), history(2, 1, 4), held()), NotRecovered)


def test_what_was_held_back_joins_without_duplicates() -> None:
    answer = recover(Position(2, "e"), history(2, 1, 4), held(6, 3, 4, 5))
    assert answer == Recovered((pub(3), pub(4), pub(5), pub(6)), Position(6, "e"))


def test_a_gap_in_what_was_held_back_is_a_gap() -> None:
    assert recover(Position(2, "e"), history(2, 1, 4), held(6)) == Gap()
    assert recover(Position(2, "e"), history(2, 1, 4), held(5, epoch="new")) == Gap()


def test_not_recovered_begins_after_what_was_held_back() -> None:
    assert recover(Position(1, "e"), history(1, 4, 4), held(5)) == NotRecovered(Position(5, "e"))


def test_live_publications_are_next_old_or_a_gap() -> None:
    at = Position(4, "e")
    assert step(at, Position(5, "e")) is Step.NEXT
    assert step(at, Position(4, "e")) is Step.OLD
    assert step(at, Position(6, "e")) is Step.GAP
    assert step(at, Position(5, "new")) is Step.GAP


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 12), st.sets(st.integers(1, 16)))
def test_what_is_recovered_is_always_whole(since: int, oldest: int, top: int, live: set[int]) -> None:
    answer = recover(Position(since, "e"), history(since, oldest, top), held(*live))
    if isinstance(answer, Recovered):
        offsets = [one.offset for one in answer.publications]
        assert offsets == list(range(since + 1, answer.position.offset + 1))
        assert answer.position.offset >= max([top, *(n for n in live if n > top)], default=0)
    elif isinstance(answer, NotRecovered):
        assert since > top or oldest > since + 1
