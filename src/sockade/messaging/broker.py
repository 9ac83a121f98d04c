"""The contract between a node and what keeps channels and ties nodes together.

A channel with history is a stream: its publications have offsets 1, 2, 3, … within an epoch, a random string that
names this incarnation of the stream. `Position` is where one stands in it.

What every broker guarantees:

- **Atomicity.** `publish` appends and publishes in one step: no publication is delivered that is not in the history,
  and none gets an offset and is then not delivered. The idempotency key belongs to the same step: either the
  publication and its key are kept, or neither. What `history` returns and the top it returns are of one moment.
- **Durability.** Where `Keep.durable` is set, `publish` returns, and the publication is delivered, only when it
  survives the loss of power: position, epoch and key as well. Otherwise, and where nothing is kept, all of it may end
  with the process (or the server) that keeps it; the stream then begins anew with another epoch, never with an old one.
- **Beginning.** A stream begins with the first look at it, or the first publication. Clients choose names and look at
  them, so a look leaves nothing that lasts: as long as nothing was published, the epoch is kept in memory alone, for
  `LOOK_SECONDS` from the last look. A node looks at the streams of its subscribers every 40 s, so for as long as one
  of them stays, the epoch that it was told is the stream's, and the first publication is offset 1 of it. A durable
  broker that is closed hands these epochs on to the next process. Who is away for longer, or when the process dies,
  finds another epoch where nothing had been published: an honest no to its recovery, for what happened under the old
  one is not known any more, though it was nothing. Where the latest publication alone counts nobody looks, and no
  subscriber minds another epoch.
- **Time.** Publications are over by the time of day, which their publishers and readers go by. Looks and keys last for
  their seconds, though the clock is set meanwhile.
- **Order.** Publications of a channel are delivered in the order of their offsets, on every node the same, each at most
  once; a node that missed one sees the gap in the offsets. What one publisher publishes one after the other, waiting
  for each or not, keeps its order. Between channels no order is promised. `publish` returns after its delivery here.
- **Failure.** When `publish` raises `StorageError`, nothing was appended and nothing is delivered: not now, and not
  after a restart. A broker that cannot tell whether an append happened finds out before it answers, and takes no
  further one until then; `failure` says why. A publisher who hears nothing at all (the process died) knows nothing:
  with an idempotency key it may ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from sockade.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockade.messaging.promise import Promise

    Deliver = Callable[[str, "Publication", "Position"], None]

META_SECONDS = 30 * 86_400.0
"""How long offset and epoch outlive the time of the last publication to be over; reading does not keep them."""
LOOK_SECONDS = 120.0
"""How long the epoch of a stream in which nothing was published outlives the last look at it: three looks of a node."""
IDEMPOTENCY_SECONDS = 300.0
"""How long a repeated publish with the same idempotency key is recognized."""
NO_LIMIT = -1
HISTORY_BYTES = 524_288
"""What one look at a history brings at most, by `weight`: half of an outbox by default."""
OVERHEAD_BYTES = 80
"""What a publication takes in a reply beside data, info and tags: names, offset and time."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where one stands in a stream. Offset 0 is before its first publication."""

    offset: int
    epoch: str


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What is to be published: JSON texts in UTF-8, and when, in POSIX seconds."""

    data: bytes
    time: float
    info: bytes | None = None
    tags: bytes | None = None


class Publication(msgspec.Struct, frozen=True, gc=False):
    """What was published; offset 0 where the channel keeps no history."""

    offset: int
    data: bytes
    time: float
    info: bytes | None = None
    tags: bytes | None = None


def weight(publication: Publication) -> int:
    """Return the bytes that a publication takes in a reply, at most."""
    info, tags = publication.info, publication.tags
    return OVERHEAD_BYTES + len(publication.data) + (len(info) if info else 0) + (len(tags) if tags else 0)


def check_names(channel: str, key: str = "") -> None:
    """Let pass only what every broker can keep.

    Raises:
        StorageError: the channel or the key is of another type than text, or has half of a surrogate pair.
    """
    try:
        (channel + key).encode()
    except (TypeError, AttributeError, UnicodeEncodeError):
        raise StorageError("a channel and an idempotency key are texts that can be UTF-8") from None


@dataclass(frozen=True, slots=True)
class Keep:
    """How much history a channel keeps: at most `size` publications, none older than `seconds`."""

    size: int
    seconds: float
    durable: bool = True
    """Whether an acknowledgement waits for the disk. A channel's own never changes while the broker runs."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """The answer to `publish`. A repeated one was published before under its key, and was not delivered again."""

    position: Position
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """Publications of a stream, and the position of its top when they were read."""

    publications: Sequence[Publication]
    top: Position


class Broker(Protocol):
    """Keeps channels. It lives on one event loop; `deliver` is called on it."""

    @property
    def failure(self) -> str:
        """Return why publications cannot be kept or read at present, for `/readyz`; empty while they can."""
        ...

    async def start(self, deliver: Deliver) -> None:
        """Begin to deliver publications of this and of other nodes."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, and stop."""
        ...

    def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
        """Append to the history, if any is kept, and publish.

        It is under way when this returns, in the order of the calls. Who does not wait for one before the next has
        many in each commit, which costs far less.

        Args:
            channel: its name, a text that can be UTF-8.
            keep: the channel's history; without one the position is (0, "").
            key: an idempotency key, a text that can be UTF-8: a publish with the same key on the same channel within
                `IDEMPOTENCY_SECONDS` delivers nothing and gets the first one's answer.

        Raises:
            StorageError: it was not published; here when the broker is closed, or channel or key is no such text, so
                that it fails nobody else's publish; otherwise by the promise.
        """
        ...

    async def history(
        self,
        channel: str,
        *,
        since: int | None = None,
        limit: int = NO_LIMIT,
        budget: int = HISTORY_BYTES,
        reverse: bool = False,
    ) -> History:
        """Read a stream, which begins with the first look at it.

        Args:
            since: only publications with a larger offset, or with `reverse` a smaller one.
            limit: at most so many; 0 for the position alone.
            budget: at most so many bytes, by `weight`, but always one publication, so that whoever goes on with `since`
                gets to the end. No more is read than that and what lies together with it.
            reverse: newest first.

        Raises:
            StorageError: it could not be read.
        """
        ...

    async def remove_history(self, channel: str) -> None:
        """Forget the publications of a stream. Its top and epoch stay. Raises what `publish` raises."""
        ...
