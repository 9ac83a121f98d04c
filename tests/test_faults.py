"""The program that kills servers counts what it says it counts: in figures made wrong, and of servers made wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import faults
from tests.faults import Figures, Heard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["p0:1", "p1:1", "p0:2", "p1:2", "p0:3", "p1:3"]


def figures() -> Figures:
    """Two subscribers of one channel who heard all of it."""
    heard = []
    for _ in range(2):
        one = Heard("long")
        one.take({"epoch": "e", "recovered": True})
        for offset, text in enumerate(TEXTS, 1):
            one.hear({"offset": offset, "data": text})
        heard.append(one)
    return Figures(acknowledged={"long": list(TEXTS), "short": []}, heard=heard)


def lose(found: Figures) -> None:
    del found.heard[0].data[-1]


def lose_for_all(found: Figures) -> None:
    for one in found.heard:
        del one.data[-1]


def double(found: Figures) -> None:
    found.heard[0].data.append(found.heard[0].data[-1])


def swap(found: Figures) -> None:
    data = found.heard[0].data
    data[2], data[4] = data[4], data[2]


def disagree(found: Figures) -> None:
    """Let one subscriber hear two publishers the other way round, each in order."""
    data = found.heard[0].data
    data[4:] = [(5, "p1:3"), (6, "p0:3")]


def skip(found: Figures) -> None:
    """Let one that was never acknowledged be missing in the middle."""
    found.acknowledged["long"].remove("p0:2")
    del found.heard[0].data[2]


def keep_back(found: Figures) -> None:
    found.heard[0].take({"epoch": "e", "offset": 6})


def forget(found: Figures) -> None:
    found.heard[0].take({"epoch": "another", "recovered": True})


@pytest.mark.parametrize(
    ("wrong", "count"),
    [
        (lose, Figures.lost),
        (lose_for_all, Figures.lost),
        (double, Figures.duplicated),
        (swap, Figures.disordered),
        (disagree, Figures.disordered),
        (skip, Figures.disordered),
        (keep_back, Figures.needless),
        (forget, Figures.needless),
    ],
)
def test_wrong_figures_are_counted(wrong: Callable[[Figures], None], count: Callable[[Figures], int]) -> None:
    found = figures()
    assert found.wrong() == 0, found
    wrong(found)
    assert count(found) > 0, found


def test_only_what_lies_in_a_gap_that_was_told_may_be_missing() -> None:
    found = Figures(acknowledged={"long": [], "short": [f"p3:{n}" for n in range(1, 61)]}, heard=[Heard("short")])
    one = found.heard[0]
    one.take({"epoch": "e", "recovered": True})
    for offset in range(1, 11):
        one.hear({"offset": offset, "data": f"p3:{offset}"})
    one.take({"epoch": "e", "offset": 40})
    for offset in range(41, 61):
        one.hear({"offset": offset, "data": f"p3:{offset}"})
    assert found.wrong() == 0, found
    del one.data[-1]
    assert found.lost() == 1


# Each breaks the server's process in one way.
SABOTAGE = {
    "claims to have recovered": """
from sockade.messaging import recovery
recovery.is_recoverable = lambda since, history: True
""",
    "delivers twice": """
from sockade.brokers.sqlite import SqliteBroker
from sockade.messaging import node
node.step = lambda at, new: node.Step.NEXT
publish = SqliteBroker._publish
SqliteBroker._publish = lambda self, work: (publish(self, work), publish(self, work))
""",
    "delivers out of order": """
from sockade.brokers.sqlite import SqliteBroker
from sockade.messaging import node
node.step = lambda at, new: node.Step.NEXT
settle = SqliteBroker._settle
SqliteBroker._settle = lambda self, works, error: settle(self, works[::-1], error)
""",
    "forgets what it acknowledged": """
from sockade.brokers.stream_file import StreamFile
commit = StreamFile.commit
def forgetful(self, works):
    commit(self, works)
    self.connection.execute("DELETE FROM blocks WHERE last % 2 = 0")
StreamFile.commit = forgetful
""",
}


@pytest.mark.parametrize(
    ("how", "count"),
    [
        ("claims to have recovered", Figures.lost),
        ("delivers twice", Figures.duplicated),
        ("delivers out of order", Figures.disordered),
        ("forgets what it acknowledged", Figures.needless),
    ],
)
def test_a_server_that_is_wrong_is_caught(how: str, count: Callable[[Figures], int], tmp_path: Path) -> None:
    # By chance nobody may be away while wrong is done: it is caught in one of three runs.
    for run in range(3):
        found = faults.run(tmp_path / f"faults{run}", kills=5, sabotage=SABOTAGE[how])
        if count(found) > 0:
            break
    assert count(found) > 0, found
