"""Keeps the key set of one issuer that publishes it at a URL, whatever its server does.

At most one fetch starts in 30 s, whatever tokens ask for. Keys that were fetched stay when a fetch fails, for an hour;
without any the answer is BUSY, never admission. How a set is fetched is handed in (`identity.fetch`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sockade.errors import FetchError
from sockade.guard.handshake import Refuse
from sockade.identity.keysets import Keys, keys_of_set
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from sockade.clock import Clock
    from sockade.identity.keysets import VerifyingKey

    Fetch = Callable[[str], Awaitable[bytes]]

FETCH_SECONDS = 30.0
"""At least so long from one fetch to the next."""
REFRESH_SECONDS = 300.0
"""A key that its issuer took back is refused after this long at the latest."""
KEEP_SECONDS = 3_600.0
"""How long keys stay while fetches fail: longer than any token that is good now."""
UNAVAILABLE = Refuse(Reason.BUSY, "the issuer's key set cannot be fetched", retry_after=30)

logger = logging.getLogger("sockade.identity")


class KeySetCache:
    """The keys of one URL."""

    def __init__(self, url: str, algorithms: Collection[str], fetch: Fetch, clock: Clock) -> None:
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._fetch = fetch
        self._clock = clock
        self._keys: Keys = {}
        self._fetched_at = -float("inf")
        self._next_at = -float("inf")
        self._failed = True
        self._task: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> VerifyingKey | Refuse | None:
        """Return the key of an id, None where the issuer has none, or BUSY where that cannot be told."""
        self.refresh()
        if self._age() >= KEEP_SECONDS or kid not in self._keys:
            await self._ask()
        if self._age() >= KEEP_SECONDS:
            return UNAVAILABLE
        key = self._keys.get(kid)
        return UNAVAILABLE if key is None and self._failed else key

    def refresh(self) -> None:
        """Start a fetch where the keys are old, and do not wait for it."""
        if self._age() >= REFRESH_SECONDS:
            self._start()

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    async def _ask(self) -> None:
        """Fetch, or wait for the fetch under way; at most one in 30 s is started."""
        self._start()
        if self._task is not None:
            # Shielded: a client that leaves must not end the fetch that others wait for.
            await asyncio.shield(self._task)

    def _start(self) -> None:
        now = self._clock.monotonic()
        if self._task is None and now >= self._next_at:
            self._next_at = now + FETCH_SECONDS
            self._task = asyncio.get_running_loop().create_task(self._load())

    async def _load(self) -> None:
        try:
            self._keys = keys_of_set(await self._fetch(self._url), self._algorithms)
        except (FetchError, ValueError) as error:
            self._failed = True
            logger.warning("cannot fetch the key set %s: %s", self._url, error)
        except Exception:
            self._failed = True
            logger.exception("cannot fetch the key set %s", self._url)
        else:
            self._failed = False
            self._fetched_at = self._clock.monotonic()
        finally:
            self._task = None
