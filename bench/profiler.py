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

from bench import install, machine, peers
from bench.measure import FAILURES, TurnedDriver
from bench.results import value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.measure import Bench
    from bench.results import Row
    from bench.servers import Server

SECONDS = 4
SHOWN = 12
FEW = 100
HZ = 499
PROFILED = {"echo": {"work": "echo", "path": "/echo"}, "fan-out": {"work": "fanout", "path": "/"}}
PARTS = (
    ("kernel", r"\[kernel|\[unknown|\[guest|vdso"),
    ("OpenSSL", r"libssl|libcrypto"),
    ("aiofastnet", r"/aiofastnet/"),
    ("uvloop", r"/uvloop/"),
    ("websockets, in C", r"/websockets/"),
    ("its own C", r"/floor$"),
    ("C library", r"libc[-.]|libpthread|ld-linux|libm[-.]"),
    ("CPython", r"python|_ssl|_asyncio|\.so"),
)


def profile(bench: Bench) -> dict[str, Any]:
    """Return, for each profiled work, shares in percent by part and by function; and what grows with subscribers."""
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
    try:
        found["growth"] = growth(bench)
    except FAILURES as error:
        found["growth"] = str(error)
    return found


def growth(bench: Bench) -> list[tuple[str, str, float, float]]:
    """Return what a delivery costs in each part of a server with few and with the most subscribers, microseconds.

    Each row has the server and the part.
    """
    rows = []
    for peer in (peers.FLOOR, peers.SOCKADE):
        costs: list[dict[str, float]] = []
        for clients in (min(FEW, bench.options.many), bench.options.many):
            server = bench.running.fresh(peer)
            try:
                words = {"work": "fanout", "path": "/", "clients": clients, "addresses": 8}
                shares, row = sampled(bench, server, words, by_part)
            finally:
                server.stop()
            costs.append({part: share / 100 * value(row, "cpu_us") for part, share in shares})
        few, most = costs
        rows += [(peer.name, part, few.get(part, 0.0), most.get(part, 0.0)) for part in {**few, **most}]
    return rows


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
