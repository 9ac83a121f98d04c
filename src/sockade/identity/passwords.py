"""Decides whether a password is the user's, and makes what is kept of one: Argon2id in worker threads.

At most two hashes are computed at a time, so sign-ins cannot starve the connections that are open; the others wait a
moment and are then refused as busy. A user who does not exist costs the same as a wrong password. A place is given
back when its computation ends, even when the client has long gone.
"""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from sockade.guard.handshake import Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.guard.identity import Secret

Result = TypeVar("Result")

MIN_CHARACTERS = 12
MAX_CHARACTERS = 128
DECOMPOSED = 4
"""How many characters one of NFC is made of at most (UAX #15)."""
AT_ONCE = 2
PATIENCE_SECONDS = 1.0
BUSY = Refuse(Reason.BUSY, "too many passwords are being checked", retry_after=1)


def argon2id() -> argon2.PasswordHasher:
    """Return Argon2id with 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet)."""
    return argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16)


def password_problem(password: Secret) -> str | None:
    """Return one sentence on why this cannot be a password, or None. Length is in characters of the NFC form."""
    length = f"A password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters."
    # Before it is normalized: that sorts combining marks, whose time grows with the square of their number.
    if len(password.reveal()) > DECOMPOSED * MAX_CHARACTERS:
        return length
    value = normal_form(password)
    if not MIN_CHARACTERS <= len(value) <= MAX_CHARACTERS:
        return length
    try:
        value.encode()
    except UnicodeEncodeError:
        return "A password is text in UTF-8."
    return None


def normal_form(password: Secret) -> str:
    """Return the NFC form: keyboards differ in how they compose the same letter (RFC 8265 §4.2.1)."""
    return unicodedata.normalize("NFC", password.reveal())


class Passwords:
    """Hashes and verifies passwords; one for the process, closed at the end."""

    def __init__(
        self,
        hasher: argon2.PasswordHasher | None = None,
        *,
        at_once: int = AT_ONCE,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._hasher = hasher or argon2id()
        self._patience = patience_seconds
        self._places = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        # Made with the same parameters, so that an unknown user costs what a wrong password costs.
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: Secret) -> str | Refuse:
        """Return the PHC string of a password that `password_problem` accepts; BUSY when no place comes free."""
        value = normal_form(password)
        return await self._compute(lambda: self._hasher.hash(value))

    async def verify(self, password: Secret, stored: str | None) -> bool | Refuse:
        """Tell whether a password is the one that was hashed; with nothing stored it takes as long and is False."""
        if password_problem(password) is not None:
            return False
        value = normal_form(password)
        right = await self._compute(lambda: self._matches(stored or self._nobody, value))
        return right if isinstance(right, Refuse) else right and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Stop the worker threads, when what they compute is done."""
        self._threads.shutdown(cancel_futures=True)

    def _matches(self, stored: str, value: str) -> bool:
        try:
            return self._hasher.verify(stored, value)
        except (VerificationError, InvalidHashError):
            return False

    async def _compute(self, work: Callable[[], Result]) -> Result | Refuse:
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            return BUSY
        loop = asyncio.get_running_loop()

        def give_back(_: Future[Result]) -> None:
            # The loop may be gone when a last computation ends after it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._places.release)

        future = self._threads.submit(work)
        # On the thread's own future: the awaiting task may be cancelled while the thread still computes.
        future.add_done_callback(give_back)
        return await asyncio.wrap_future(future)
