"""Servers that are measured in turn: each turn is a row, and who fails costs the others nothing."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from bench.install import AbsentError
from bench.measure import TURNS, Bench, Options, Task
from bench.servers import Running
from bench.work import FLOOD_ROUNDS, Work, flood, side_by_side

from bench import peers

if TYPE_CHECKING:
    from pathlib import Path

# Works twice where it is told to fail, as a driver does whose server ends a connection.
DRIVER = f"""#!{sys.executable}
import sys

for turn, line in enumerate(sys.stdin):
    if "path=fails" in sys.argv and turn == 2:
        sys.exit("driver: the server ended a connection")
    print('{{"units": 1}}' if turn <= 10 else '{{"rested": 1}}', flush=True)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a benchmark whose driver only says that it worked."""
    bench = Bench(Options(many=1_000))
    bench.driver = tmp_path / "driver"
    bench.driver.write_text(DRIVER)
    bench.driver.chmod(0o700)
    return bench


def no_token() -> str:
    raise AbsentError("sockade token did not end")


def test_in_turn_who_fails_takes_no_further_part(bench: Bench) -> None:
    running: dict[str, Any] = {
        "floor": SimpleNamespace(port=1, pid=1, token=str),
        "sockade": SimpleNamespace(port=2, pid=2, token=str),
        "prototype": SimpleNamespace(port=3, pid=3, token=no_token),
    }
    bench.running = SimpleNamespace(get=lambda peer: running[peer.name.split()[0]])  # type: ignore[assignment]
    paths = ((peers.FLOOR, "works"), (peers.SOCKADE, "fails"), (peers.PROTOTYPE, "works"))
    bench.in_turn([Task("echo", peer, {"path": path}) for peer, path in paths], 3)
    rows = bench.results.rows
    assert [row["turn"] for row in rows if row["server"] == peers.FLOOR.name] == list(range(TURNS))
    assert [row["turn"] for row in rows if row["server"] == peers.SOCKADE.name] == [0]
    assert {row["round"] for row in rows} == {3}
    assert bench.results.absent == {
        f"{peers.SOCKADE.name}, echo": "driver: the server ended a connection",
        f"{peers.PROTOTYPE.name}, echo": "sockade token did not end",
    }


def test_in_turn_on_fresh_servers_of_their_own_and_then_at_rest(bench: Bench) -> None:
    alive = []

    def fresh(peer: peers.Peer) -> Any:
        if peer is peers.PROTOTYPE:
            raise AbsentError("did not start")
        server = SimpleNamespace(port=len(alive) + 1, pid=1, token=str, stop=lambda: alive.remove(server))
        alive.append(server)
        return server

    bench.running = SimpleNamespace(fresh=fresh)  # type: ignore[assignment]
    tasks = [Task("many", peer, {"clients": 5}) for peer in (peers.FLOOR, peers.PROTOTYPE, peers.SOCKADE)]
    tasks[-1].words["rest"] = 26
    bench.in_turn(tasks, 1, fresh=True)
    assert alive == []
    rows = bench.results.rows
    assert len(rows) == 2 * TURNS + 1
    asked = {"clients": 5, "rest": 26}
    assert rows[-1] == {**asked, "rested": 1, "work": "rest", "server": peers.SOCKADE.name, "round": 1}
    assert bench.results.absent == {f"{peers.PROTOTYPE.name}, many": "did not start"}


def test_each_round_has_processes_of_its_own(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def fresh(peer: peers.Peer) -> Any:
        server = SimpleNamespace(port=1, pid=len(started), token=str, stop=lambda: started.append("stopped"))
        started.append(peer.name)
        return server

    bench.running = Running(tmp_path, tmp_path / "certificate", {})
    monkeypatch.setattr(bench.running, "fresh", fresh)
    side_by_side(bench, [Work(name, "echo", "echo", [peers.FLOOR]) for name in ("echo", "fanout")])
    bench.running.close()
    assert started == [peers.FLOOR.name, "stopped"] * bench.options.rounds
    assert {row["round"] for row in bench.results.rows} == set(range(bench.options.rounds))


def test_what_was_measured_without_and_with_a_flood_has_two_names(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drive(name: str, peer: peers.Peer, number: int, **words: Any) -> list[dict[str, Any]]:
        rows = [{"work": name, "server": peer.name, "round": number, "flooding": flooding} for flooding in (0, 1)]
        bench.results.rows += rows
        return rows

    monkeypatch.setattr(bench, "drive", drive)
    flood(bench)
    for server in (peers.FLOOR, peers.SOCKADE, peers.STRICT_SOCKADE):
        for name, flooding in (("calm", 0), ("flood", 1)):
            rows = bench.results.select(name, server.name)
            assert [row["round"] for row in rows] == list(range(FLOOD_ROUNDS))
            assert {row["flooding"] for row in rows} == {flooding}


def test_no_work_opens_more_than_one_process_may_have(bench: Bench) -> None:
    server: Any = SimpleNamespace(port=1, pid=1)
    for asked, opened in ((2_000, 1_000), (1_000, 1_000), (7, 7)):
        assert f"clients={opened}" in bench.command(server, {"clients": asked})
