"""Blocks: publications of a channel that lie together in one row, since rows cost more than what is in them.

A block holds what one commit had for one channel, up to `BLOCK` publications whose offsets follow each other; the row
has the last one's offset. On the disk it is MessagePack.
"""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sockade.brokers.page import page
from sockade.messaging.broker import History, Position, Publication

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterator, Sequence

    Blocks = Generator[list[Publication], None, None]

Kept = tuple[bytes, float, float, bytes | None, bytes | None]
"""One publication in a block: data, when it was published, when it is over (both POSIX seconds), info, tags."""

BLOCK = 64
"""Publications in one block: who wants one of them reads them all."""
BLOCK_BYTES = 65_536
"""Of their data; a larger publication has a block to itself."""

READ_STREAM = "SELECT epoch, top, floor FROM streams WHERE channel = ? AND until > ?"
OLDEST_FIRST = "SELECT last, content FROM blocks WHERE channel = ? AND last > ? AND expires_at > ? ORDER BY last"
NEWEST_FIRST = """
SELECT last, content FROM blocks WHERE channel = ? AND last > ? AND last < ? AND expires_at > ? ORDER BY last DESC
"""

_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(list[Kept]).decode


def divide(kept: Sequence[Kept]) -> Iterator[Sequence[Kept]]:
    """Divide publications into blocks."""
    begin = size = 0
    for at, one in enumerate(kept):
        size += len(one[0])
        if at > begin and (at - begin == BLOCK or size > BLOCK_BYTES):
            yield kept[begin:at]
            begin, size = at, len(one[0])
    if kept:
        yield kept[begin:]


def encode(block: Sequence[Kept]) -> bytearray:
    """Return a block as it is on the disk."""
    # Not bytes: sqlite3 looks for an adapter of those at each value.
    content = bytearray()
    _encode_into(block, content)
    return content


class Question(NamedTuple):
    """What a reader wants to know, as `Broker.history` says it."""

    channel: str
    since: int | None
    limit: int
    budget: int
    reverse: bool


def read(connection: sqlite3.Connection, question: Question, now: float) -> History | None:
    """Return a stream's publications that are not over and its top, of one moment; None before its first look."""
    channel, since, limit, budget, reverse = question
    connection.execute("BEGIN")
    try:
        stream = connection.execute(READ_STREAM, (channel, now)).fetchone()
        if stream is None:
            return None
        epoch, top, floor = stream
        # An offset beyond the top may be larger than an integer in SQLite.
        if reverse:
            before = top + 1 if since is None else min(since, top + 1)
            blocks = _newest_first(connection, channel, floor, before, now)
        else:
            blocks = _oldest_first(connection, channel, max(floor, min(since or 0, top)), now)
        # A look that is not ended would keep the log from being copied.
        with closing(blocks):
            found = page(chain.from_iterable(blocks), limit, budget)
        return History(found, Position(top, epoch))
    finally:
        # Whatever could not be read may have ended it already.
        if connection.in_transaction:
            connection.execute("COMMIT")


def _oldest_first(connection: sqlite3.Connection, channel: str, after: int, now: float) -> Blocks:
    for last, content in connection.execute(OLDEST_FIRST, (channel, after, now)):
        yield [one for one in _publications(last, content, now) if one.offset > after]


def _newest_first(connection: sqlite3.Connection, channel: str, after: int, before: int, now: float) -> Blocks:
    for last, content in connection.execute(NEWEST_FIRST, (channel, after, before + BLOCK, now)):
        yield [one for one in reversed(_publications(last, content, now)) if after < one.offset < before]


def _publications(last: int, content: bytes, now: float) -> list[Publication]:
    """Return what is in a block and not over."""
    block = _decode(content)
    return [
        Publication(offset, data, time, info, tags)
        for offset, (data, time, expires_at, info, tags) in enumerate(block, last - len(block) + 1)
        if expires_at > now
    ]
