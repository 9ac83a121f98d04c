"""How large the tests of load are: smaller in CI for time, the numbers of the cases with `make security FULL=1`."""

from __future__ import annotations

import os
from typing import NamedTuple

FULL = os.environ.get("FULL", "") not in ("", "0")


class Number(NamedTuple):
    """What a case asks for, and how much of it this run does; printed it says both."""

    run: int
    whole: int

    def __str__(self) -> str:
        return f"{self.run:,}" if self.run == self.whole else f"{self.run:,} of {self.whole:,}"


def number(small: int, whole: int) -> Number:
    """Return the number of a case, or a smaller one unless everything was asked for."""
    return Number(whole if FULL else small, whole)
