"""Remembers which secrets were issued or found here lately, so that others' guesses do not keep them out.

It says nothing about whether one is still good, only that showing it is no guess. It is bounded, and holds digests.
"""

from __future__ import annotations

MAX_SECRETS = 40_000
"""About 8 MiB. Only who signed in gets an entry."""


class Recognized:
    """The digests of secrets, the one noted last at the end."""

    def __init__(self, limit: int = MAX_SECRETS) -> None:
        self._limit = limit
        self._digests: dict[str, None] = {}

    def __contains__(self, digest: str | None) -> bool:
        return digest in self._digests

    def note(self, digest: str) -> None:
        """Remember a secret; beyond the limit the one noted longest ago gives way."""
        self._digests.pop(digest, None)
        self._digests[digest] = None
        if len(self._digests) > self._limit:
            del self._digests[next(iter(self._digests))]
