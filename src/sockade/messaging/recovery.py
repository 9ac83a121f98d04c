"""Decides what a returning subscriber gets: exactly what it missed, or an honest no. Pure.

While the history is read, live publications of the channel are held back for this subscriber; then both are merged.
A subscriber that lives on checks each publication against its position in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockade.messaging.broker import History, Position, Publication


@dataclass(frozen=True, slots=True)
class Recovered:
    """Everything since the client's position, in order and without a gap; `position` is where that leads."""

    publications: tuple[Publication, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class NotRecovered:
    """Something is missing: the client begins anew at `position`, and gets nothing of the part that is there."""

    position: Position


@dataclass(frozen=True, slots=True)
class Gap:
    """What was held back does not join what was read: the node missed something itself."""


class Step(Enum):
    """What a live publication is to a subscriber."""

    NEXT = "next"
    OLD = "old"
    GAP = "gap"


def is_recoverable(since: Position, history: History) -> bool:
    """Tell whether `history`, read since a client's position, holds all that came after it."""
    # Others accept an empty epoch. It would join two incarnations of a stream, so here only a newcomer may have none.
    if since.epoch != history.top.epoch and not (since.epoch == "" and since.offset == 0):
        return False
    # The number and not the ends: where the clock was set back, or a channel's time changed, the middle is over first.
    return len(history.publications) == history.top.offset - since.offset


def recover(
    since: Position, history: History, held: Sequence[tuple[Publication, Position]]
) -> Recovered | NotRecovered | Gap:
    """Merge what was read since a position with what was held back meanwhile."""
    later = merge(history, held)
    if later is None:
        return Gap()
    position = type(history.top)(later[-1].offset if later else history.top.offset, history.top.epoch)
    if not is_recoverable(since, history):
        return NotRecovered(position)
    return Recovered((*history.publications, *later), position)


def recover_latest(
    since: Position, history: History, held: Sequence[tuple[Publication, Position]]
) -> Recovered | NotRecovered | Gap:
    """Find the latest publication alone, in a history that was read newest first."""
    if any(position.epoch != history.top.epoch for _, position in held):
        return Gap()
    found = [*history.publications, *(publication for publication, _ in held)]
    latest = max(found, key=lambda one: one.offset, default=None)
    position = type(history.top)(max(history.top.offset, latest.offset if latest else 0), history.top.epoch)
    if since == position:
        return Recovered((), position)
    if latest is not None and latest.offset == position.offset:
        return Recovered((latest,), position)
    return NotRecovered(position)


def merge(history: History, held: Sequence[tuple[Publication, Position]]) -> list[Publication] | None:
    """Return what was held back and is newer than the history, in order; None where something is missing."""
    later: list[Publication] = []
    top = history.top.offset
    for publication, position in sorted(held, key=lambda pair: pair[1].offset):
        if position.epoch != history.top.epoch:
            return None
        if position.offset <= top:
            continue
        if position.offset != top + 1:
            return None
        later.append(publication)
        top = position.offset
    return later


def step(at: Position, new: Position) -> Step:
    """Tell what a live publication is to a subscriber that stands at a position."""
    if new.epoch != at.epoch or new.offset > at.offset + 1:
        return Step.GAP
    return Step.NEXT if new.offset == at.offset + 1 else Step.OLD
