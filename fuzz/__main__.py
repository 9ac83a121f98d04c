"""Run the fuzzers from the command line; exit status 1 at the first input that one of them finds."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from fuzz import commands, configuration, credentials, heads
from fuzz.inputs import Found

FUZZERS = {"heads": heads, "credentials": credentials, "configuration": configuration, "commands": commands}
COUNT = 100_000


def main() -> int:
    """Run each fuzzer that was named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FUZZERS, []], metavar="NAME", help=", ".join(FUZZERS))
    parser.add_argument("--count", type=int, default=COUNT, help="inputs for each")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed makes the same inputs")
    options = parser.parse_args()
    for name in options.names or FUZZERS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                deep = asyncio.run(FUZZERS[name].run(Random(options.seed), options.count, Path(folder)))
            except Found as found:
                print(f"{name}: seed {options.seed}: {found}")
                return 1
        seconds = time.monotonic() - began
        print(f"{name}: {options.count:,} inputs in {seconds:.0f} s (seed {options.seed}), ", end="")
        print(f"{deep:,} of them understood; 0 uncaught exceptions", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
