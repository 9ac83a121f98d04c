"""Drives one server with one kind of work, and keeps what the driver found."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from bench import install, machine
from bench.results import Results, Row
from bench.servers import Running, Server

if TYPE_CHECKING:
    from bench.peers import Peer

DRIVER_SECONDS = 600
TURNS = 10
"""So many turns has each server in a round of what is done side by side."""
# One server that fails must not cost what was measured of the others.
FAILURES = (install.AbsentError, OSError, TimeoutError, WebSocketException)


@dataclass
class Options:
    """What can be asked for on the command line."""

    rounds: int = 3
    seconds: float = 1.0
    clients: int = 300
    many: int = 10_000
    only: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Task:
    """What one driver does: the name of the work, whom it asks, and the driver's options."""

    name: str
    peer: Peer
    words: dict[str, Any]


@dataclass
class Bench:
    """One benchmark: its options, its servers, and the results so far."""

    options: Options
    results: Results = field(default_factory=Results)

    def __enter__(self) -> Bench:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.driver = install.c_program("driver")
        (self.folder / "servers").mkdir()
        self.running = Running(self.folder / "servers", certificate(self.folder / "ca"), self.results.absent)
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()
        shutil.rmtree(self.folder)

    def wants(self, peer: Peer) -> bool:
        return not self.options.servers or peer.name in self.options.servers

    def drive(self, name: str, peer: Peer, number: int, *, fresh: bool = False, **words: Any) -> list[Row]:
        """Let the driver work on a peer's server; what it found becomes rows of the results under a name.

        `words` are the driver's options. With `fresh` the server has done nothing before. A server that is absent, or
        fails, yields no rows; the reason is kept.
        """
        if not self.wants(peer):
            return []
        try:
            server = self.running.fresh(peer) if fresh else self.running.get(peer)
        except install.AbsentError as error:
            self.results.absent[peer.name] = str(error)
            return []
        if server is None:
            return []
        try:
            rows = self.rows(server, {**peer.options, **words})
        except FAILURES as error:
            self.results.absent[f"{peer.name}, {name}"] = str(error) or type(error).__name__
            return []
        finally:
            if fresh:
                server.stop()
        rows = [{**words, **row, "work": name, "server": peer.name, "round": number} for row in rows]
        self.results.rows += rows
        return rows

    def in_turn(self, tasks: list[Task], number: int, *, fresh: bool = False) -> None:
        """Let tasks be done in short turns, A B C, A B C, each with the connections it opened at first.

        With `fresh` each task has a server of its own, which has done nothing before. Who is to `rest` does so at last.

        Each turn of a task becomes a row, to be compared with the same turn of the others: seconds later the machine is
        no longer what it was. Who fails takes no further part; the reason is kept.
        """
        with ExitStack() as stack:
            working: list[tuple[Task, TurnedDriver]] = []
            for task in tasks:
                if not self.wants(task.peer):
                    continue
                try:
                    server = self.running.fresh(task.peer) if fresh else self.running.get(task.peer)
                    if server is None:
                        continue
                    if fresh:
                        stack.callback(server.stop)
                    driver = TurnedDriver(self.command(server, {**task.peer.options, **task.words}, TURNS + 1), server)
                except FAILURES as error:
                    self._note(task, error)
                else:
                    working.append((task, stack.enter_context(driver)))
            for turn in range(-1, TURNS):
                rows = self._turn(working)
                if turn >= 0:  # in the first, all opened and got warm
                    self.results.rows += [row | {"round": number, "turn": turn} for row in rows]
            resting = [one for one in working if one[0].words.get("rest")]
            self.results.rows += [row | {"work": "rest", "round": number} for row in self._turn(resting)]

    def _turn(self, working: list[tuple[Task, TurnedDriver]]) -> list[Row]:
        """Let each work once and return the rows; who fails is taken out, and noted."""
        rows = []
        for task, driver in list(working):
            try:
                rows.append({**task.words, **driver.turn(), "work": task.name, "server": task.peer.name})
            except FAILURES as error:
                self._note(task, error)
                working.remove((task, driver))
        return rows

    def _note(self, task: Task, error: Exception) -> None:
        self.results.absent[f"{task.peer.name}, {task.name}"] = str(error) or type(error).__name__

    def command(self, server: Server, words: dict[str, Any], turns: int = 0) -> list[str | Path]:
        """Return the words that start the driver for a server, in so many turns if it is told a number."""
        told = {"port": server.port, "pid": server.pid, "clients": self.options.clients, "turns": turns, **words}
        told.setdefault("seconds", self.options.seconds / (TURNS if turns else 1))
        told["clients"] = min(told["clients"], self.options.many)
        return machine.pinned(machine.DRIVER_CORE, self.driver, *(f"{name}={it}" for name, it in told.items()))

    def rows(self, server: Server, words: dict[str, Any]) -> list[Row]:
        """Run the driver against a server and return its rows. Raises AbsentError if either fails."""
        words = dict(words)
        probe = Probe(server) if words.pop("stalls", False) else None
        command, environment = self.command(server, words), driver_environment(server)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise install.AbsentError("the driver did not end") from None
        if done.returncode:
            raise install.AbsentError(install.told(done.stderr.partition("\n")[0]))
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        if probe is not None:
            rows[-1].update(probe.stop(rows[-1]))
        return rows


class TurnedDriver:
    """The driver at one server, which works when it is told to and keeps its connections between."""

    def __init__(self, command: list[str | Path], server: Server) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=driver_environment(server),
        )
        self._late = Timer(DRIVER_SECONDS, self._process.kill)

    def __enter__(self) -> TurnedDriver:
        self._late.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._late.cancel()

    def turn(self) -> Row:
        """Let it work once, and return what it found. Raises AbsentError where it failed."""
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        assert pipes.stderr is not None
        with suppress(BrokenPipeError):  # where it has failed, it says why
            pipes.stdin.write("\n")
            pipes.stdin.flush()
        line = pipes.stdout.readline()
        if not line:
            raise install.AbsentError(install.told(pipes.stderr.read().partition("\n")[0]))
        row: Row = json.loads(line)
        return row


def driver_environment(server: Server) -> dict[str, str]:
    return {**os.environ, "DRIVER_TOKEN": server.token()}


class Probe:
    """Asks the application of the benchmark how long the loop's longest turns were while it was open."""

    def __init__(self, server: Server) -> None:
        context = ssl.create_default_context(cafile=str(server.folder / "data" / "ca.pem"))
        headers = {"Authorization": f"Bearer {server.token()}"}
        url = f"wss://localhost:{server.port}/stalls"
        self.client = connect(url, ssl=context, additional_headers=headers, compression=None)
        self.client.send("from now on")
        self.client.recv()

    def stop(self, row: Row) -> Row:
        """Return the longest turns within what the driver measured: opening and closing everyone are not in it."""
        self.client.send("until now")
        turns = [turn for turn in json.loads(self.client.recv()) if row["from_ns"] < turn[0] <= row["until_ns"]]
        self.client.close()
        wall, cpu = (max((turn[number] for turn in turns), default=0) / 1e6 for number in (1, 2))
        return {"stall_wall_ms": wall, "stall_cpu_ms": cpu}


def certificate(folder: Path) -> Path:
    """Make the certificate that every server but Sockade itself uses: Sockade's own kind."""
    words = [sys.executable, "-m", "sockade", "cert", "renew", "--data-dir", str(folder)]
    folder.mkdir(mode=0o700)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=folder)
    if done.returncode:
        raise install.AbsentError(f"no certificate: {install.told(done.stderr)}")
    return folder / "tls" / "server.pem"


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
