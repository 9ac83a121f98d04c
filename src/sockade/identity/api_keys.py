"""Keeps the key of the server API: whoever has it is in charge of channels and clients.

It is one line in a file that its owner alone can read. What is kept of it in memory is a digest.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from sockade.errors import StartError
from sockade.identity.keys import locked, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from sockade.guard.identity import Secret


class ApiKey:
    """The key that requests are compared with."""

    __slots__ = ("_digest",)

    def __init__(self, value: bytes) -> None:
        self._digest = sha256(value).digest()

    def matches(self, shown: Secret) -> bool:
        """Tell whether this is what was shown, in a time that says nothing of where the two differ."""
        # Headers are decoded as Latin-1 (RFC 9110 §5.5). Digests have one length, whatever was shown.
        return compare_digest(self._digest, sha256(shown.reveal().encode("latin-1")).digest())


def read_api_key(path: Path) -> ApiKey | None:
    """Return the key in a file; None where there is no file. Whether it may be used, `sockade.exposure` says.

    Raises:
        StartError: the file cannot be read.
    """
    try:
        return ApiKey(path.read_bytes().strip())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"The API key ({path}) cannot be read: {error.strerror}.") from error


def make_api_key(path: Path, secret: str) -> bool:
    """Write a new key, unless there is one; tell whether it was written. Raises `StartError`."""
    with locked(path.parent):
        if path.exists():
            return False
        write_private(path, f"{secret}\n".encode("ascii"))
        return True
