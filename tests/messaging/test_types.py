"""What is written down wrongly is refused where it is written."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from sockade.errors import UsageError
from sockade.messaging.types import History, days


@pytest.mark.parametrize(
    ("size", "ttl"),
    [
        (0, 60),
        (-1, 60),
        (1.5, 60),
        ("10", 60),
        (True, 60),
        (None, 60),
        (10, 0),
        (10, -1.0),
        (10, math.nan),
        (10, -math.inf),
        (10, timedelta(hours=1)),
        (10, "60"),
        (10, True),
        (10, None),
    ],
)
def test_a_history_is_so_many_and_so_many_seconds(size: Any, ttl: Any) -> None:
    with pytest.raises(UsageError, match="whole number of at least 1, and a time in seconds"):
        History(size, ttl)


@pytest.mark.parametrize("ttl", [1, 0.5, days(90), math.inf])
def test_a_history_lasts_as_long_as_it_says(ttl: float) -> None:
    assert History(1, ttl).ttl == ttl
