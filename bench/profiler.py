"""Where Sockade's time goes: `perf` tells it by library, kernel included, `py-spy` by Python function.

Both sample from outside while the driver works; nothing is added to the server. A Python function's share is its own
time, with what it calls in C.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench import install, machine, peers, work
from bench.measure import FAILURES, TurnedDriver
from bench.results import value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.measure import Bench
    from bench.peers import Peer
    from bench.results import Row
    from bench.servers import Server

SECONDS = 4
SHOWN = 12
FEW = 100
HZ = 499
PROFILED = {"echo": {"work": "echo", "path": "/echo"}, "fan-out": {"work": "fanout", "path": "/"}}
PUBLISHED = {"work": "publish", "path": peers.CHANNELS, **work.PUBLISH}
PARTS = (
    ("kernel", r"\[kernel|\[unknown|\[guest|vdso"),
    ("OpenSSL", r"libssl|libcrypto"),
    ("aiofastnet", r"/aiofastnet/"),
    ("uvloop", r"/uvloop/"),
    ("websockets, in C", r"/websockets/"),
    ("its own C", r"/floor$"),
    ("C library", r"libc[-.]|libpthread|ld-linux|libm[-.]"),
    ("SQLite", r"libsqlite|/_sqlite3"),
    ("CPython", r"python|_ssl|_asyncio|\.so"),
)


def profile(bench: Bench) -> dict[str, Any]:
    """Return, for each profiled work, shares in percent by part and by function; and what is compared by part."""
    found: dict[str, Any] = {}
    server = bench.running.get(peers.SOCKADE) if bench.wants(peers.SOCKADE) else None
    if server is None:
        return found
    for name, words in PROFILED.items():
        found[name] = {}
        for kind, sampler in (("parts", by_part), ("functions", by_function)):
            try:
                found[name][kind] = sampled(bench, server, words, sampler)[0][:SHOWN]
            except FAILURES as error:
                found[name][kind] = str(error)
    for name, comparison in (("growth", growth), ("disk", disk)):
        try:
            found[name] = comparison(bench)
        except FAILURES as error:
            found[name] = str(error)
    return found


def growth(bench: Bench) -> list[tuple[str, str, float, float]]:
    """Return what a delivery costs in each part of a server with few and with the most subscribers, microseconds.

    Each row has the server and the part.
    """
    numbers = (min(FEW, bench.options.many), bench.options.many)
    works = [{**PROFILED["fan-out"], "clients": number, "addresses": 8} for number in numbers]
    return [(peer.name, *row) for peer in (peers.FLOOR, peers.SOCKADE) for row in compared(bench, peer, *works)]


def disk(bench: Bench) -> list[tuple[str, float, float]]:
    """Return what a publish costs in each part of Sockade, in memory and on the disk, microseconds."""
    memory, durable = ({**PUBLISHED, "channel": channel} for channel in ("memory:", "durable:"))
    return compared(bench, peers.SOCKADE_CHANNELS, memory, durable)


def compared(bench: Bench, peer: Peer, *works: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what a unit of two works costs in each part of a server that has done nothing before, microseconds."""
    costs: list[dict[str, float]] = []
    for words in works:
        server = bench.running.fresh(peer)
        try:
            shares, row = sampled(bench, server, {**peer.options, **words}, by_part)
        finally:
            server.stop()
        costs.append({part: share / 100 * value(row, "cpu_us") for part, share in shares})
    one, other = costs
    return [(part, one.get(part, 0.0), other.get(part, 0.0)) for part in {**one, **other}]


def sampled(
    bench: Bench, server: Server, words: dict[str, Any], sampler: Callable[[int, Path], Counter[str]]
) -> tuple[list[tuple[str, float]], Row]:
    """Sample while the driver works: shares in percent, the most first, and what the driver found."""
    command = bench.command(server, {"seconds": SECONDS + 2, **words}, turns=2)
    with TurnedDriver(command, server) as driver, ThreadPoolExecutor(1) as pool:
        driver.turn()  # all open, and get warm
        working = pool.submit(driver.turn)
        counted = sampler(server.pid, bench.folder)
        row = working.result()
    total = sum(counted.values()) or 1
    return [(name, 100 * count / total) for name, count in counted.most_common()], row


def by_part(pid: int, folder: Path) -> Counter[str]:
    """Count perf's samples by library."""
    if shutil.which("perf") is None:
        raise install.AbsentError("perf is not installed")
    data = folder / "perf.data"
    # Software clock: virtual machines often have no other.
    install.run(
        "perf", "record", "-e", "cpu-clock", "-F", str(HZ), "-p", str(pid), "-o", data, "--", "sleep", str(SECONDS)
    )
    # Sample by sample, for only there libraries have their paths: compiled modules of Python are called alike.
    told = install.run("perf", "script", "-i", data, "-F", "ip,dso")
    counted: Counter[str] = Counter()
    for library in re.findall(r"\((\S+)\)\s*$", told, re.MULTILINE):
        counted[next((name for name, pattern in PARTS if re.search(pattern, library)), "other")] += 1
    return counted


def by_function(pid: int, folder: Path) -> Counter[str]:
    """Count py-spy's samples by the Python function that runs, of the event loop's thread."""
    spy, raw = install.PYTHON.with_name("py-spy"), folder / "py-spy.txt"
    if not spy.exists():
        raise install.AbsentError("py-spy is not installed")
    command = [spy, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", str(HZ), "--nonblocking"]
    command += ["--function", "--format", "raw", "--output", raw]
    install.run(*machine.pinned(machine.DRIVER_CORE, *command))
    counted: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if "Runner.run" in stack:
            counted[stack.rpartition(";")[2]] += int(count)
    return counted
