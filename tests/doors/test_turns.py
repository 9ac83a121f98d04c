"""Turns: many are read, all of them are heard, and then all of them are answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from sockade.doors import turns
from sockade.doors.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable


class Round:
    """Stands for the hub and its loop, and notes what happens."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.calls: list[Callable[[], None]] = []
        self.loop = SimpleNamespace(call_soon=self.calls.append)
        self.flush_due = False
        self.turns = Turns(self)  # type: ignore[arg-type]

    def flush(self) -> None:
        assert self.flush_due
        self.flush_due = False
        self.notes.append("flush")

    def door(self, name: str, *, again: bool = False, error: Exception | None = None) -> SimpleNamespace:
        """Return a door that notes its turn, and may ask for one more, or fail."""

        def take_turn() -> None:
            self.notes.append(name)
            if again:
                self.turns.again(self.door(name))  # type: ignore[arg-type]
            if error is not None:
                raise error

        return SimpleNamespace(take_turn=take_turn, broken=lambda error: self.notes.append(f"broken {error}"))

    def run(self) -> None:
        """Do what the loop has to do next."""
        calls = self.calls[:]
        self.calls.clear()
        for call in calls:
            call()


@pytest.fixture
def round_() -> Round:
    return Round()


def test_everyone_is_heard_in_order_and_then_answered_once(round_: Round) -> None:
    for name in "abc":
        round_.turns.add(round_.door(name))  # type: ignore[arg-type]
    assert round_.notes == []
    round_.run()
    assert round_.notes == ["a", "b", "c", "flush"]
    assert round_.calls == []


def test_who_has_more_waits_until_the_others_were_heard_and_answered(round_: Round) -> None:
    round_.turns.add(round_.door("much", again=True))  # type: ignore[arg-type]
    round_.turns.add(round_.door("little"))  # type: ignore[arg-type]
    round_.run()
    assert round_.notes == ["much", "little", "flush"]
    round_.turns.add(round_.door("new"))  # type: ignore[arg-type]
    round_.run()
    assert round_.notes[3:] == ["new", "flush", "much", "flush"]
    round_.run()
    assert len(round_.notes) == 7


def test_one_that_breaks_costs_nobody_else_their_turn(round_: Round) -> None:
    for name, error in (("a", None), ("b", RuntimeError("by b")), ("c", None)):
        round_.turns.add(round_.door(name, error=error))  # type: ignore[arg-type]
    round_.run()
    assert round_.notes == ["a", "b", "broken by b", "c", "flush"]


def test_no_more_are_read_together_than_may(round_: Round) -> None:
    for number in range(turns.TOGETHER):
        assert round_.notes == []
        round_.turns.add(round_.door(str(number), again=True))  # type: ignore[arg-type]
    assert len(round_.notes) == turns.TOGETHER + 1
    for _ in range(2):
        round_.run()
    assert len(round_.notes) == 2 * (turns.TOGETHER + 1)
