"""Measures Sockade beside a floor in C, the unchecked prototype and `websockets`' own server: `make bench`.

Every server does the same work over TLS, in turn, driven by one C program (`bench/driver`) on another core. What
counts is the CPU the server's process spends on a unit of work; the table shows it as a ratio to the floor, as the
median of several rounds. Arguments: ROUNDS SECONDS.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.running import RunningServer  # noqa: E402

HERE = Path(__file__).parent
CLIENTS, DEPTH = 300, 20
WORK = {"fanout": "/", "burst": "/", "echo": "/echo", "handshake": "/"}
# Every check is on; the limits are raised only as far as one address with so many clients needs.
CONFIG = """
[limits]
connections_per_address = 5000
connections_per_user = 5000
handshakes_per_minute = 10000000
messages_per_second = 1000000
message_burst = 1000000
message_bytes_per_second = 1000000000
message_bytes_burst = 1000000000
total_messages_per_second = 10000000
[credentials]
access_token_seconds = 900
"""


def build(name: str, folder: Path) -> Path:
    """Compile a C program of the benchmark."""
    source = next((HERE / name).glob("*.c"))
    program = folder / name
    done = subprocess.run(["cc", "-O2", "-o", program, source, "-lssl", "-lcrypto"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{source.name} does not compile; install cc and OpenSSL's headers (libssl-dev).\n{done.stderr[:500]}")
    return program


def pinned(core: int, *words: str | Path) -> list[str]:
    """Return a command that runs on one core, where there is a second one for the other side."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), *map(str, words)]


class Bench:
    """The servers, all running for the whole of the benchmark, and idle but for the one whose turn it is."""

    def __init__(self, folder: Path) -> None:
        self.driver = build("driver", folder)
        self.sockade = RunningServer(folder / "sockade", CONFIG, "sockade_app:app", module_path=str(HERE / "servers"))
        self.sockade.start()
        os.sched_setaffinity(self.sockade.process.pid, {min(os.sched_getaffinity(0))})
        pair = self.sockade.data_dir / "tls" / "server.pem"
        floor = build("floor", folder)
        self.ports, self.processes = {"sockade": self.sockade.port}, {"sockade": self.sockade.process}
        programs: dict[str, list[str | Path]] = {
            "floor (C, OpenSSL)": [floor],
            "prototype": [sys.executable, HERE / "servers" / "prototype_server.py"],
            "websockets": [sys.executable, HERE / "servers" / "websockets_server.py"],
        }
        for number, (name, words) in enumerate(programs.items()):
            port = 20_000 + os.getpid() % 20_000 + number
            self.ports[name] = port
            self.processes[name] = subprocess.Popen(pinned(0, *words, str(port), pair, pair))
        self.sockade.add_user("ada")

    def measure(self, name: str, work: str, seconds: float) -> float:
        """Return the server's CPU nanoseconds for one unit of work."""
        token = self.sockade.token("ada") if name == "sockade" else ""
        # What to do, where, with how many, how long, how many back to back, at which path, nothing to the sender.
        depth = DEPTH if work == "burst" else 1
        kind = "fanout" if work == "burst" else work
        words = [kind, self.ports[name], self.processes[name].pid, CLIENTS, seconds, depth, WORK[work], 0]
        command = pinned(1, self.driver, *map(str, words), *([token] if token else []))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{name}, {work}: {done.stderr}")
        found = json.loads(done.stdout)
        return float(found["server_ns"]) / max(found["units"], 1)

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()


def main() -> int:
    rounds, seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5, float(sys.argv[2]) if len(sys.argv) > 2 else 2
    folder = Path(tempfile.mkdtemp())
    bench = Bench(folder)
    try:
        subprocess.run(["sleep", "1"], check=True)  # until every server listens
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for work in WORK:
                for name in bench.ports:
                    found.setdefault((name, work), []).append(bench.measure(name, work, seconds))
    finally:
        bench.close()
        shutil.rmtree(folder)
    print(f"{'CPU a unit, ratio to the floor':<32}" + "".join(f"{work:>12}" for work in WORK))
    for name in ("floor (C, OpenSSL)", "prototype", "sockade", "websockets"):
        ratios = []
        for work in WORK:
            each = zip(found[name, work], found["floor (C, OpenSSL)", work], strict=True)
            ratios.append(statistics.median(mine / floor for mine, floor in each))
        print(f"{name:<32}" + "".join(f"{ratio:>12.2f}" for ratio in ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
