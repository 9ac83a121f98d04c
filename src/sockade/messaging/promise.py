"""The answer to what a broker was asked, before it is there."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sockade.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

_NOTHING: Final[Any] = object()

logger = logging.getLogger("sockade.channels")


class Promise(Generic[T]):
    """An answer that is heard by who awaits it, or is called with it.

    It is a future without a turn of the loop: whoever answers calls the listener at once.
    """

    __slots__ = ("_answer", "_hear")

    def __init__(self, answer: T | StorageError = _NOTHING) -> None:
        self._answer = answer
        self._hear: Callable[[T | StorageError], object] | None = None

    def then(self, hear: Callable[[T | StorageError], object]) -> None:
        """Call `hear` with the answer: now if it is there."""
        if self._answer is not _NOTHING:
            hear(self._answer)
        elif self._hear is None:
            self._hear = hear
        else:
            self._hear = functools.partial(_both, self._hear, hear)

    def resolve(self, answer: T | StorageError) -> None:
        """Answer. What the listener raises is logged: others wait for their answers."""
        self._answer = answer
        hear, self._hear = self._hear, None
        if hear is not None:
            try:
                hear(answer)
            except Exception:
                logger.exception("an answer could not be heard")

    def __await__(self) -> Generator[Any, None, T]:
        """Return the answer, or raise it where it is a StorageError."""
        if self._answer is _NOTHING:
            future = asyncio.get_running_loop().create_future()
            self.then(functools.partial(_wake, future))
            yield from future
        if isinstance(self._answer, StorageError):
            raise self._answer
        return self._answer


def _both(first: Callable[[Any], object], second: Callable[[Any], object], answer: object) -> None:
    try:
        first(answer)
    finally:
        second(answer)


def _wake(future: asyncio.Future[None], _: object) -> None:
    # Who waited may have been cancelled meanwhile.
    if not future.done():
        future.set_result(None)
