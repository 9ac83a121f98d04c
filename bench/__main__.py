"""Measures, prints the tables and keeps the results: `make bench`, or `python -m bench --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from bench import install, machine, peers, profiler, report, work
from bench.measure import Bench, Options, say
from bench.results import Results

RESULTS = install.FOLDER / "results.json"
OTHER_DESCRIPTORS = 500


def main() -> int:
    words = arguments()
    # Whoever ends the benchmark ends its servers as well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    names = [one.name for one in work.SIDE_BY_SIDE] + [*work.ONCE, "profile"]
    only = frozenset(words.only.split(",")) if words.only else frozenset(names)
    if unknown := only - set(names):
        print(f"No work is called {', '.join(sorted(unknown))}. There are: {', '.join(names)}.", file=sys.stderr)
        return 2
    chosen = frozenset(words.servers.split(",")) if words.servers else frozenset()
    known = {peer.name for peer in peers.EVERYONE}
    if unknown := chosen - known:
        print(f"No server is called {', '.join(sorted(unknown))}. There are: {'; '.join(known)}.", file=sys.stderr)
        return 2
    room = machine.raise_descriptors() - OTHER_DESCRIPTORS
    options = Options(words.rounds, words.seconds, words.clients, min(words.many, room), only, chosen)
    try:
        results = measure(options)
    except install.AbsentError as error:
        print(f"The benchmark cannot run: {error}.", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    results.save(words.out)
    print("\n\n".join(table.text() for table in report.tables(results)))
    return 0


def measure(options: Options) -> Results:
    """Do everything that is asked for. Raises AbsentError where nothing can be measured at all."""
    results = Results(machine=machine.facts(), options={"rounds": options.rounds, "seconds": options.seconds})
    results.options |= {"clients": options.clients, "many": options.many}
    prepare(results, options)
    start = time.monotonic()
    results.options["load"] = round(os.getloadavg()[0], 1)
    with Bench(options, results) as bench:
        work.side_by_side(bench, [one for one in work.SIDE_BY_SIDE if one.name in options.only])
        for name, once in work.ONCE.items():
            if name in options.only:
                say(name)
                once(bench)
        if "profile" in options.only:
            say("profile")
            results.profile = profiler.profile(bench)
    results.options["took_seconds"] = round(time.monotonic() - start)
    return results


def prepare(results: Results, options: Options) -> None:
    """Install everyone; who cannot be installed is absent."""
    reasons: dict[object, str | dict[str, str]] = {}
    for peer in peers.EVERYONE:
        if options.servers and peer.name not in options.servers:
            continue
        if peer.prepare not in reasons:
            try:
                reasons[peer.prepare] = peer.prepare()
            except install.AbsentError as error:
                reasons[peer.prepare] = str(error)
        found = reasons[peer.prepare]
        if isinstance(found, str):
            results.absent[peer.name] = found
        else:
            results.versions |= {name: found[name] for name in install.SHOWN if name in found}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description="Sockade beside other servers.")
    parser.add_argument("--only", metavar="WORK,...", default="", help="these works alone")
    parser.add_argument("--servers", metavar="NAME,...", default="", help="these servers alone")
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="rounds of what is done side by side")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="how long each is measured in a round")
    parser.add_argument("--clients", type=int, default=Options.clients, help="clients of most works")
    parser.add_argument("--many", type=int, default=Options.many, help="the most connections of one process")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are kept, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
