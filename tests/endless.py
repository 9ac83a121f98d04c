"""Tells that something does not come to an end, for what grows with the square of its input looks like that."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 30
"""Far more than anything takes that does come to an end."""


@contextmanager
def ends() -> Iterator[None]:
    """Fail what takes longer than anything that ends."""

    def fail(*_: object) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
