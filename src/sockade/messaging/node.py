"""The channels of this process: who hears what, who is present, and delivery of what the broker calls back.

A publication is encoded and framed once, and the same bytes go to every subscriber. Each subscriber knows its
position in a stream; whatever does not continue it is dropped when it is old, and ends the subscription, or the
connection where the server subscribed it, with "insufficient state" when something is missing.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import weakref
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from sockade.errors import StorageError
from sockade.messaging.broker import Draft, Position, Publication, Published
from sockade.messaging.callbacks import FAILURES
from sockade.messaging.frames import frame
from sockade.messaging.recovery import Step, step
from sockade.protocol.replies import ClientInfo, DisconnectCode, Pub, UnsubscribeCode, encode_push

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockade.clock import Clock
    from sockade.guard.identity import Grant
    from sockade.messaging.broker import Broker
    from sockade.messaging.channels import Channels, Match
    from sockade.messaging.client import Client
    from sockade.messaging.connection import Connection
    from sockade.messaging.promise import Promise

HELD_PUBLICATIONS = 1_000
"""Live publications held back for one subscriber while its history is read; beyond that it starts anew."""
RENEWAL_GRACE_SECONDS = 2.0
"""How long what rests on a token renewed in band outlives it: SDKs fetch the next one when it ends."""
POSITION_CHECK_SECONDS = 40.0
"""How often subscribers' positions are compared with the top of their stream, which finds what a broker lost."""
DELIVERY_SECONDS = 1.0
"""How long a publication may be on its way from the stream to the subscribers."""

logger = logging.getLogger("sockade.channels")


def ttl_until(ends_at: float, now: float) -> int:
    """Return the whole seconds after which an SDK shall renew what ends at `ends_at` (both in monotonic seconds)."""
    return max(1, int(ends_at - now - RENEWAL_GRACE_SECONDS))


@dataclass(slots=True, eq=False, weakref_slot=True)
class Subscription:
    """One connection's place in one channel."""

    connection: Connection
    match: Match
    info: ClientInfo
    by_server: bool = False
    """The server subscribed the connection, which did not ask."""
    claimed: bool = False
    """It did so because the connection's token names the channel."""
    grant: Grant | None = None
    """What it rests on, where that is a subscription token."""
    ends_at: float = math.inf
    """When it ends unless that token is renewed, in monotonic seconds."""
    position: Position | None = None
    """Where the subscriber stands; None where the channel keeps no history."""
    held: list[tuple[Publication, Position]] | None = field(default_factory=list)
    """What came while the history was read; None once the subscriber hears live."""
    overflowed: bool = False
    """More came meanwhile than is held back."""
    ended: bool = False


class Members:
    """The subscribers of one channel in this process."""

    __slots__ = ("check_at", "subscriptions", "users")

    def __init__(self, check_at: float) -> None:
        self.subscriptions: dict[Connection, Subscription] = {}
        self.users: Counter[str] = Counter()
        """How many connections each present user has here."""
        self.check_at = check_at


class Node:
    """Channels, their subscribers and who is present, on one event loop."""

    def __init__(
        self,
        broker: Broker,
        channels: Channels,
        clock: Clock,
        listeners: Mapping[str, Callable[[Any, str], None]] = MappingProxyType({}),
    ) -> None:
        """`listeners` hear what is published in a channel, with the user who published it."""
        self.broker = broker
        self._listeners = listeners
        self.channels = channels
        self.clock = clock
        self.members: dict[str, Members] = {}
        self.clients: defaultdict[str, set[Client]] = defaultdict(set)
        """Connected clients of the channel protocol, by user."""
        self._ending: list[tuple[float, int, weakref.ref[Subscription]]] = []
        self._numbers = count()
        self._tops: list[tuple[float, str, Position]] = []
        """The tops of streams, and when they were looked at."""
        self._looks: dict[str, asyncio.Task[None]] = {}
        """Those under way, by channel."""

    async def start(self) -> None:
        """Begin to deliver."""
        await self.broker.start(self.deliver)

    # Subscribers.

    def add(self, subscription: Subscription) -> None:
        """Hold back a channel's live publications for a new subscriber, until `go_live`."""
        name = subscription.match.name
        members = self.members.get(name)
        if members is None:
            members = self.members[name] = Members(self.clock.monotonic() + POSITION_CHECK_SECONDS)
        members.subscriptions[subscription.connection] = subscription

    def go_live(self, subscription: Subscription, position: Position | None) -> None:
        """Let a subscriber hear what comes after a position, and others of its coming."""
        subscription.position, subscription.held = position, None
        self.end_later(subscription)
        users = self.members[subscription.match.name].users
        user = subscription.connection.identity.user
        users[user] += 1
        announced = subscription.match.channel.announced
        if announced == "connection" or (announced == "user" and users[user] == 1):
            self._announce("join", subscription)

    def end_later(self, subscription: Subscription) -> None:
        """See to it that a subscription ends with its token."""
        if subscription.ends_at != math.inf:
            # What is over before its token must not be kept until then.
            heapq.heappush(self._ending, (subscription.ends_at, next(self._numbers), weakref.ref(subscription)))

    def remove(self, subscription: Subscription) -> None:
        """Let a subscriber hear no more."""
        name = subscription.match.name
        members = self.members.get(name)
        if members is None or members.subscriptions.get(subscription.connection) is not subscription:
            return
        subscription.ended = True
        del members.subscriptions[subscription.connection]
        if not members.subscriptions:
            del self.members[name]
        if subscription.held is not None:
            return
        user = subscription.info.user
        members.users[user] -= 1
        if not members.users[user]:
            del members.users[user]
        announced = subscription.match.channel.announced
        if announced == "connection" or (announced == "user" and user not in members.users):
            self._announce("leave", subscription)

    def present(self, name: str) -> dict[str, ClientInfo]:
        """Return who is in a channel, by connection; the process's own knowledge, so no ghosts outlive it."""
        members = self.members.get(name)
        if members is None:
            return {}
        return {sub.connection.id: sub.info for sub in members.subscriptions.values() if sub.held is None}

    def _announce(self, kind: str, subscription: Subscription) -> None:
        members = self.members.get(subscription.match.name)
        if members is None:
            return
        push = encode_push(kind, {"info": subscription.info}, subscription.match.name)
        data = frame(push.decode())
        for member in members.subscriptions.values():
            if member is not subscription and member.held is None and member.connection.is_open:
                member.connection.queue(data)

    # Publications.

    def publish(
        self,
        match: Match,
        data: bytes,
        *,
        info: ClientInfo | None = None,
        key: str = "",
        tags: bytes | None = None,
        keep: bool = True,
    ) -> Promise[Published]:
        """Publish JSON in a channel; what is returned is there when the broker's durability is reached.

        Awaiting it raises StorageError where it was not published.
        """
        encoded = msgspec.json.encode(info) if info is not None else None
        draft = Draft(data, self.clock.wall(), encoded, tags)
        return self.broker.publish(match.name, draft, match.channel.keep if keep else None, key)

    def deliver(self, channel: str, publication: Publication, position: Position) -> None:
        """Give a publication to every subscriber of this process: what the broker calls back. It raises nothing.

        Whoever does not hear it, because something failed before their turn, finds a gap at the next one if the channel
        keeps a history.
        """
        try:
            self._deliver(channel, publication, position)
        except FAILURES:
            logger.exception("a publication could not be delivered to everyone")

    def _deliver(self, channel: str, publication: Publication, position: Position) -> None:
        if channel in self._listeners:
            self._tell(self._listeners[channel], publication)
        members = self.members.get(channel)
        if members is None:
            return
        data = frame(encode_push("pub", to_pub(publication), channel).decode())
        lost: list[Subscription] = []
        for member in members.subscriptions.values():
            if member.held is not None:
                hold(member, publication, position)
            elif self._continues(member, position, lost) and member.connection.is_open:
                member.connection.queue(data)
        for member in lost:
            self.begin_anew(member)

    def _tell(self, listener: Callable[[Any, str], None], publication: Publication) -> None:
        info = msgspec.json.decode(publication.info, type=ClientInfo) if publication.info is not None else None
        try:
            listener(msgspec.json.decode(publication.data), info.user if info is not None else "")
        except FAILURES:
            logger.exception("a listener failed")

    def _continues(self, member: Subscription, position: Position, lost: list[Subscription]) -> bool:
        """Tell whether a publication is the next for a subscriber, and move its position on."""
        if member.position is None or position.offset == 0:
            return True
        what = step(member.position, position)
        if what is Step.GAP and member.match.channel.cache:
            # Whoever wants the latest one alone misses nothing by a gap.
            what = Step.NEXT
        if what is Step.NEXT:
            member.position = position
        elif what is Step.GAP:
            lost.append(member)
        return what is Step.NEXT

    def end_revoked(self) -> None:
        """End the subscriptions whose tokens were revoked."""
        everyone = [one for members in self.members.values() for one in members.subscriptions.values()]
        for subscription in everyone:
            if subscription.grant is not None and subscription.held is None and not subscription.grant.holds():
                self.lose(subscription, UnsubscribeCode.EXPIRED)

    def lose(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        """End a subscription from the server's side; from 2500 on the client subscribes again by itself."""
        name, client = subscription.match.name, subscription.connection.client
        self.remove(subscription)
        if client is not None and client.subscriptions.get(name) is subscription:
            del client.subscriptions[name]
        push = encode_push("unsubscribe", {"code": int(code), "reason": code.text}, name)
        subscription.connection.push(push)

    def begin_anew(self, subscription: Subscription) -> None:
        """Let a subscriber who missed something come back with its position."""
        client = subscription.connection.client
        if subscription.by_server and client is not None:
            # SDKs subscribe again to what they asked for themselves; of anything else they would hear no more.
            client.disconnect(DisconnectCode.INSUFFICIENT_STATE)
        else:
            self.lose(subscription, UnsubscribeCode.INSUFFICIENT_STATE)

    # What is due, once a second.

    def sweep(self) -> None:
        """End the subscriptions whose tokens ended, and those that stand below the top of their stream."""
        now = self.clock.monotonic()
        while self._ending and self._ending[0][0] <= now:
            subscription = heapq.heappop(self._ending)[2]()
            # One that was renewed meanwhile stands in the heap again, with its new end.
            if subscription is not None and not subscription.ended and subscription.ends_at <= now:
                self.lose(subscription, UnsubscribeCode.EXPIRED)
        self._compare(now)

    async def look_at_tops(self) -> None:
        """Read where the streams are whose subscribers were not compared with them for a while."""
        now = self.clock.monotonic()
        due = [name for name, members in self.members.items() if members.check_at <= now]
        for name in due:
            self.members[name].check_at = now + POSITION_CHECK_SECONDS
            if name not in self._looks:
                self._looks[name] = asyncio.create_task(self._look_at_top(name))
        if self._looks:
            # A disk that hangs holds up no look at what is kept elsewhere.
            await asyncio.wait(list(self._looks.values()), timeout=DELIVERY_SECONDS)

    async def _look_at_top(self, name: str) -> None:
        """Note where a stream's top is, to compare with in a second."""
        try:
            match = self.channels.find(name)
            if match is not None and match.channel.keep is not None and not match.channel.cache:
                top = (await self.broker.history(name, limit=0)).top
                self._tops.append((self.clock.monotonic(), name, top))
        except StorageError:
            pass
        finally:
            del self._looks[name]

    def _compare(self, now: float) -> None:
        """End the subscriptions that stand below what was the top of their stream a second ago.

        Whoever reads a stream may see a publication a moment before it is delivered; by now it has been, or it was
        lost on its way.
        """
        tops = [(name, top) for at, name, top in self._tops if at + DELIVERY_SECONDS <= now]
        self._tops = [one for one in self._tops if one[0] + DELIVERY_SECONDS > now]
        for name, top in tops:
            members = self.members.get(name)
            for member in list(members.subscriptions.values()) if members is not None else ():
                at = member.position
                if at is not None and (at.epoch != top.epoch or at.offset < top.offset):
                    logger.warning("a subscriber of %r stood at %d of %d", name, at.offset, top.offset)
                    self.begin_anew(member)


def hold(member: Subscription, publication: Publication, position: Position) -> None:
    """Hold a publication back for a subscriber whose history is read."""
    if position.offset == 0 and member.match.channel.keep is not None:
        return  # It is in no history, so whoever does not hear live yet does not hear it.
    if member.held is not None and len(member.held) < HELD_PUBLICATIONS:
        member.held.append((publication, position))
    else:
        member.overflowed = True


def to_pub(publication: Publication) -> Pub:
    """Return a publication as clients read it."""
    return Pub(
        data=msgspec.Raw(publication.data),
        info=msgspec.Raw(publication.info) if publication.info is not None else None,
        offset=publication.offset,
        tags=msgspec.Raw(publication.tags) if publication.tags is not None else None,
        time=round(publication.time * 1000),
    )
