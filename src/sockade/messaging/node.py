"""The channels of this process: who hears what, who is present, and delivery of what the broker calls back.

A publication is encoded and framed once, and the same bytes go to every subscriber. Each subscriber knows its
position in a stream; whatever does not continue it is dropped when it is old, and ends the subscription with
"insufficient state" when something is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from sockade.messaging.broker import Draft, Position, Publication, Published
from sockade.messaging.frames import frame
from sockade.messaging.recovery import Step, step
from sockade.protocol.replies import ClientInfo, Pub, UnsubscribeCode, encode_push

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.messaging.broker import Broker
    from sockade.messaging.channels import Channels, Match
    from sockade.messaging.connection import Connection

HELD_PUBLICATIONS = 1_000
"""Live publications held back for one subscriber while its history is read; beyond that it starts anew."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One connection's place in one channel."""

    connection: Connection
    match: Match
    info: ClientInfo
    position: Position | None = None
    """Where the subscriber stands; None where the channel keeps no history."""
    held: list[tuple[Publication, Position]] | None = field(default_factory=list)
    """What came while the history was read; None once the subscriber hears live."""
    ended: bool = False


class Node:
    """Channels, their subscribers and who is present, on one event loop."""

    def __init__(self, broker: Broker, channels: Channels, clock: Clock) -> None:
        self.broker = broker
        self.channels = channels
        self.clock = clock
        self._subscribers: dict[str, dict[Connection, Subscription]] = {}

    async def start(self) -> None:
        """Begin to deliver."""
        await self.broker.start(self.deliver)

    # Subscribers.

    def add(self, subscription: Subscription) -> None:
        """Hold back a channel's live publications for a new subscriber, until `go_live`."""
        self._subscribers.setdefault(subscription.match.name, {})[subscription.connection] = subscription

    def go_live(self, subscription: Subscription, position: Position | None) -> None:
        """Let a subscriber hear what comes after a position, and others of its coming."""
        subscription.position, subscription.held = position, None
        if subscription.match.channel.join_leave:
            self._announce("join", subscription)

    def remove(self, subscription: Subscription) -> None:
        """Let a subscriber hear no more."""
        name = subscription.match.name
        members = self._subscribers.get(name, {})
        if members.get(subscription.connection) is not subscription:
            return
        subscription.ended = True
        del members[subscription.connection]
        if not members:
            del self._subscribers[name]
        if subscription.match.channel.join_leave and subscription.held is None:
            self._announce("leave", subscription)

    def present(self, name: str) -> dict[str, ClientInfo]:
        """Return who is in a channel, by connection; the process's own knowledge, so no ghosts outlive it."""
        members = self._subscribers.get(name, {})
        return {sub.connection.id: sub.info for sub in members.values() if sub.held is None}

    def _announce(self, kind: str, subscription: Subscription) -> None:
        push = encode_push(kind, {"info": subscription.info}, subscription.match.name)
        data = frame(push.decode())
        for member in self._subscribers.get(subscription.match.name, {}).values():
            if member is not subscription and member.held is None and member.connection.is_open:
                member.connection.queue(data)

    # Publications.

    async def publish(self, match: Match, data: bytes, *, info: ClientInfo | None = None, key: str = "") -> Published:
        """Publish JSON in a channel; returns when the broker's durability is reached.

        Raises:
            StorageError: it was not published.
        """
        encoded = msgspec.json.encode(info) if info is not None else None
        return await self.broker.publish(match.name, Draft(data, self.clock.wall(), encoded), match.channel.keep, key)

    def deliver(self, channel: str, publication: Publication, position: Position) -> None:
        """Give a publication to every subscriber of this process: what the broker calls back."""
        members = self._subscribers.get(channel)
        if not members:
            return
        data = frame(encode_push("pub", to_pub(publication), channel).decode())
        lost: list[Subscription] = []
        for member in members.values():
            if member.held is not None:
                member.held.append((publication, position))
            elif self._continues(member, position, lost) and member.connection.is_open:
                member.connection.queue(data)
        for member in lost:
            self.lose(member, UnsubscribeCode.INSUFFICIENT_STATE)

    def _continues(self, member: Subscription, position: Position, lost: list[Subscription]) -> bool:
        """Tell whether a publication is the next for a subscriber, and move its position on."""
        if member.position is None or position.offset == 0:
            return True
        what = step(member.position, position)
        if what is Step.NEXT:
            member.position = position
        elif what is Step.GAP:
            lost.append(member)
        return what is Step.NEXT

    def lose(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """End a subscription from the server's side; from 2500 on the client subscribes again by itself."""
        self.remove(subscription)
        reason = "insufficient state" if code is UnsubscribeCode.INSUFFICIENT_STATE else "unsubscribed"
        push = encode_push("unsubscribe", {"code": int(code), "reason": reason}, subscription.match.name)
        subscription.connection.send(push.decode())


def to_pub(publication: Publication) -> Pub:
    """Return a publication as clients read it."""
    return Pub(
        data=msgspec.Raw(publication.data),
        info=msgspec.Raw(publication.info) if publication.info is not None else None,
        offset=publication.offset,
        tags=msgspec.Raw(publication.tags) if publication.tags is not None else None,
        time=round(publication.time * 1000),
    )
