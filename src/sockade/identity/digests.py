"""Turns a secret into what is kept of it.

Session ids, refresh tokens, tickets and links carry 256 random bits, so one SHA-256 is enough: there is nothing to
guess, and a copy of the database opens nothing.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockade.guard.identity import Secret

SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")


def digest(secret: Secret) -> str | None:
    """Return the hexadecimal SHA-256 of a secret of ours, or None where it has not the shape of one."""
    value = secret.reveal()
    if SHAPE.fullmatch(value) is None:
        return None
    return sha256(value.encode("ascii")).hexdigest()


def digest_of(value: str) -> str:
    """Return the hexadecimal SHA-256 of a secret that was made here."""
    return sha256(value.encode("ascii")).hexdigest()
