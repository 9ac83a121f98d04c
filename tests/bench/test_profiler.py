"""The profile comes last: what cannot be sampled must not cost what was measured before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.install import AbsentError
from bench.measure import Bench, Options

from bench import peers, profiler

if TYPE_CHECKING:
    import pytest


def test_what_cannot_be_sampled_leaves_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(_: Bench, __: Any, words: dict[str, Any], sampler: Any) -> Any:
        if sampler is profiler.by_function:
            raise AbsentError("py-spy is not installed")
        if words["work"] != "echo":
            raise AbsentError("driver: the server ended a connection")
        return [("kernel", 60.0), ("CPython", 40.0)], {}

    monkeypatch.setattr(profiler, "sampled", sampled)
    bench = Bench(Options())
    server = SimpleNamespace(stop=lambda: None)
    bench.running = SimpleNamespace(get=lambda _: server, fresh=lambda _: server)  # type: ignore[assignment]
    assert profiler.profile(bench) == {
        "echo": {"parts": [("kernel", 60.0), ("CPython", 40.0)], "functions": "py-spy is not installed"},
        "fan-out": {"parts": "driver: the server ended a connection", "functions": "py-spy is not installed"},
        "growth": "driver: the server ended a connection",
        "disk": "driver: the server ended a connection",
    }


def test_growth_is_the_share_of_each_part_in_what_a_delivery_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(_: Bench, __: Any, words: dict[str, Any], ___: Any) -> Any:
        few = words["clients"] == profiler.FEW
        shares = [("kernel", 75.0), ("CPython", 25.0)] if few else [("kernel", 90.0), ("OpenSSL", 10.0)]
        return shares, {"server_ns": (8 if few else 10) * 1e6, "units": 1_000}

    monkeypatch.setattr(profiler, "sampled", sampled)
    bench = Bench(Options())
    stopped: list[str] = []
    bench.running = SimpleNamespace(  # type: ignore[assignment]
        fresh=lambda peer: SimpleNamespace(stop=lambda: stopped.append(peer.name))
    )
    parts = [("kernel", 6.0, 9.0), ("CPython", 2.0, 0.0), ("OpenSSL", 0.0, 1.0)]
    names = (peers.FLOOR.name, peers.SOCKADE.name)
    assert profiler.growth(bench) == [(name, *part) for name in names for part in parts]
    assert stopped == [name for name in names for _ in range(2)]


def test_a_publish_in_memory_and_one_on_the_disk_are_compared_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(_: Bench, __: Any, words: dict[str, Any], ___: Any) -> Any:
        assert words["dialect"] == "channel"
        if words["channel"] == "memory:":
            return [("CPython", 100.0)], {"server_ns": 20e6, "units": 1_000}
        return [("CPython", 75.0), ("SQLite", 25.0)], {"server_ns": 32e6, "units": 1_000}

    monkeypatch.setattr(profiler, "sampled", sampled)
    bench = Bench(Options())
    bench.running = SimpleNamespace(fresh=lambda _: SimpleNamespace(stop=lambda: None))  # type: ignore[assignment]
    assert profiler.disk(bench) == [("CPython", 20.0, 24.0), ("SQLite", 0.0, 8.0)]
