"""Where Sockade's time goes: `perf` tells it by library, kernel included, `py-spy` by Python function.

Both sample from outside while the driver works; nothing is added to the server. A Python function's share is its own
time, with what it calls in C.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench import install, machine, peers

if TYPE_CHECKING:
    from pathlib import Path

    from bench.measure import Bench
    from bench.servers import Server

SECONDS = 4
SHOWN = 12
HZ = 499
PROFILED = {"echo": {"work": "echo", "path": "/echo"}, "fan-out": {"work": "fanout", "path": "/"}}
PARTS = (
    ("kernel", r"\[kernel|\[unknown|\[guest|vdso"),
    ("OpenSSL", r"libssl|libcrypto"),
    ("aiofastnet", r"aiofastnet"),
    ("uvloop", r"uvloop"),
    ("websockets, in C", r"websockets"),
    ("C library", r"libc[-.]|libpthread|ld-linux|libm[-.]"),
    ("CPython", r"python|_ssl|_asyncio|\.so"),
)


def profile(bench: Bench) -> dict[str, Any]:
    """Return, for each profiled work, shares in percent by part and by function."""
    found: dict[str, Any] = {}
    server = bench.running.get(peers.SOCKADE) if bench.wants(peers.SOCKADE) else None
    if server is None:
        return found
    for name, words in PROFILED.items():
        parts = sampled(bench, server, words, by_part)
        functions = sampled(bench, server, words, by_function)
        found[name] = {"parts": parts, "functions": functions}
    return found


def sampled(bench: Bench, server: Server, words: dict[str, str], sampler: Any) -> list[tuple[str, float]] | str:
    """Sample while the driver works; the reason where that cannot be done."""
    driving = threading.Thread(target=bench.rows, args=(server, {**words, "seconds": SECONDS + 3}))
    driving.start()
    time.sleep(2.5)  # until all are open and warm
    try:
        counted = sampler(server.pid, bench.folder)
    except install.AbsentError as error:
        return str(error)
    finally:
        driving.join()
    total = sum(counted.values()) or 1
    return [(name, 100 * count / total) for name, count in counted.most_common(SHOWN)]


def by_part(pid: int, folder: Path) -> Counter[str]:
    """Count perf's samples by library."""
    if shutil.which("perf") is None:
        raise install.AbsentError("perf is not installed")
    data = folder / "perf.data"
    # Software clock: virtual machines often have no other.
    install.run(
        "perf", "record", "-e", "cpu-clock", "-F", str(HZ), "-p", str(pid), "-o", data, "--", "sleep", str(SECONDS)
    )
    told = install.run(
        "perf", "report", "-i", data, "--sort", "dso", "--stdio", "-q", "-g", "none", "--show-nr-samples"
    )
    counted: Counter[str] = Counter()
    for samples, library in re.findall(r"^\s*[\d.]+%\s+(\d+)\s+(\S+)", told, re.MULTILINE):
        part = next((name for name, pattern in PARTS if re.search(pattern, library)), "other")
        counted[part] += int(samples)
    return counted


def by_function(pid: int, folder: Path) -> Counter[str]:
    """Count py-spy's samples by the Python function that runs, of the event loop's thread."""
    spy, raw = install.PYTHON.with_name("py-spy"), folder / "py-spy.txt"
    if not spy.exists():
        raise install.AbsentError("py-spy is not installed")
    command = [spy, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", str(HZ), "--nonblocking"]
    command += ["--function", "--format", "raw", "--output", raw]
    subprocess_words = machine.pinned(machine.DRIVER_CORE, *command)
    install.run(*subprocess_words)
    counted: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if "serve" in stack:
            counted[stack.rpartition(";")[2]] += int(count)
    return counted
