"""`sockade` with the checks of every message switched off, to see what they cost. Never part of the product."""

from __future__ import annotations

import sys
from typing import Any

from sockade.cli.main import main
from sockade.messaging import connection


def allow(message: Any, *_: Any) -> Any:
    return message


# A name that is gone must end this server: a measurement without effect would look like checks without cost.
assert callable(connection.decide)
connection.decide = allow
sys.exit(main())
