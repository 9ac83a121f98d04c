"""What is to be done to the streams of a file: put together on the loop, done by the thread that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sockade.messaging.broker import Position, Published
from sockade.messaging.promise import Promise

if TYPE_CHECKING:
    from sockade.errors import StorageError
    from sockade.messaging.broker import Draft, Keep

T = TypeVar("T")


class Work(Promise[T]):
    """Something to be done to one stream; the thread that does it leaves what it came to in `result`."""

    __slots__ = ("channel", "result")
    result: T

    def __init__(self, channel: str) -> None:
        super().__init__()
        self.channel = channel

    def answer(self, error: StorageError | None) -> None:
        """Tell whoever waits what it came to, or why it was not done."""
        self.resolve(self.result if error is None else error)


class Append(Work[Published]):
    """One publish."""

    __slots__ = ("draft", "keep", "key")

    def __init__(self, channel: str, draft: Draft, keep: Keep | None, key: str) -> None:
        super().__init__(channel)
        self.draft, self.keep, self.key = draft, keep, key


class Begin(Work[Position]):
    """The first look at a stream: where it begins."""

    __slots__ = ("stands",)

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.stands = False
        """Whether it came to something although nothing can be written."""

    def answer(self, error: StorageError | None) -> None:
        """Tell where the stream begins, whatever became of what else was to be done."""
        super().answer(None if self.stands else error)


class Remove(Work[None]):
    """The end of what a stream keeps so far."""

    __slots__ = ()
