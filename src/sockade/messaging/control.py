"""What the application and the server API may do to channels and clients: no right is asked, for they are in charge.

Whoever asks has been permitted already, by an API key or by being the application. A user may have several
connections; where `client` is given, only the one with that id is meant.
"""

from __future__ import annotations

import asyncio
import fnmatch
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sockade.errors import UsageError
from sockade.guard.identity import Grant
from sockade.guard.text import clean
from sockade.messaging.broker import NO_LIMIT, History, Position
from sockade.messaging.channels import UNNAMEABLE
from sockade.messaging.node import RENEWAL_GRACE_SECONDS, ttl_until
from sockade.messaging.subscribing import is_subscribed, subscribe_later
from sockade.protocol.replies import DisconnectCode, UnsubscribeCode, encode_push

if TYPE_CHECKING:
    from collections.abc import Collection

    from sockade.messaging.broker import Published
    from sockade.messaging.channels import Match
    from sockade.messaging.client import Client
    from sockade.messaging.node import Node
    from sockade.protocol.replies import ClientInfo


class UnknownChannelError(UsageError):
    """No declaration fits the name, or no client could say it."""

    def __init__(self, name: str) -> None:
        said = "" if clean(name) == name else f", and no client could name it: {UNNAMEABLE}"
        super().__init__(f"no channel {name!r} is declared{said}")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What one node has."""

    clients: int
    users: int
    channels: int
    subscriptions: int


class Control:
    """Channels and clients of one node, for whoever is in charge of them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # Channels.

    async def publish(
        self, channel: str, data: bytes, *, key: str = "", tags: bytes | None = None, skip_history: bool = False
    ) -> Published:
        """Publish JSON in a channel.

        Args:
            key: an idempotency key: the same one twice within five minutes is one publication.
            tags: JSON of an object of texts, which travels beside the data.
            skip_history: deliver it only; its position is then that of nothing.

        Raises:
            UnknownChannelError: no such channel is declared.
            StorageError: it was not published.
        """
        return await self._node.publish(self.find(channel), data, key=key, tags=tags, keep=not skip_history)

    async def history(
        self, channel: str, *, since: Position | None = None, limit: int = NO_LIMIT, reverse: bool = False
    ) -> History | None:
        """Read a channel's publications; None where it keeps none, or `since` is of another incarnation.

        Raises:
            UnknownChannelError: no such channel is declared.
            StorageError: it could not be read.
        """
        if self.find(channel).channel.keep is None:
            return None
        offset = since.offset if since is not None else None
        found = await self._node.broker.history(channel, since=offset, limit=limit, reverse=reverse)
        return found if since is None or since.epoch in ("", found.top.epoch) else None

    async def remove_history(self, channel: str) -> None:
        """Forget a channel's publications; its position stays. Raises what `history` raises."""
        self.find(channel)
        await self._node.broker.remove_history(channel)

    def presence(self, channel: str) -> dict[str, ClientInfo] | None:
        """Return who is in a channel, by connection; None where it has no presence. Raises UnknownChannelError."""
        match = self.find(channel)
        return self._node.present(channel) if match.channel.presence else None

    def channels(self, pattern: str = "") -> dict[str, int]:
        """Return the channels that have subscribers, with how many; `pattern` is a shell pattern such as `room:*`."""
        return {
            name: len(members.subscriptions)
            for name, members in self._node.members.items()
            if not pattern or fnmatch.fnmatchcase(name, pattern)
        }

    def find(self, channel: str) -> Match:
        """Return a declared channel. Raises UnknownChannelError."""
        match = self._node.channels.find(channel)
        # What is said under a name that clients cannot say would be acknowledged, and heard by nobody.
        if match is None or clean(channel) != channel:
            raise UnknownChannelError(channel)
        return match

    # Clients.

    async def subscribe(
        self, user: str, channel: str, *, client: str = "", data: Any = None, info: bytes | None = None
    ) -> int:
        """Subscribe a user's connected clients to a channel; return how many did not hear it before.

        Args:
            data: what they are told with it.
            info: JSON that others are shown beside the user in this channel.

        Raises:
            UnknownChannelError: no such channel is declared.
            StorageError: its position could not be read.
        """
        match = self.find(channel)
        grant = Grant(user, channel, math.inf, info) if info is not None else None
        data = msgspec.Raw(msgspec.json.encode(data)) if data is not None else None
        found = self.clients(user, client)
        return sum(await asyncio.gather(*(subscribe_later(one, match, data, grant) for one in found)))

    def unsubscribe(self, user: str, channel: str, *, client: str = "") -> int:
        """End a user's subscriptions of a channel at once, for good; return how many."""
        count = 0
        for one in self._clients(user, client):
            found = [coming for coming in one.coming if coming.match.name == channel and not coming.ended]
            for coming in found:
                coming.ended = True
            if is_subscribed(one, channel):
                found.append(one.subscriptions[channel])
                self._node.lose(one.subscriptions[channel], UnsubscribeCode.SERVER)
            count += bool(found)
        return count

    def disconnect(
        self,
        user: str,
        *,
        client: str = "",
        keep: Collection[str] = (),
        code: int = DisconnectCode.FORCE_DISCONNECT,
        reason: str = "",
    ) -> int:
        """Close a user's channel connections, save those whose ids are in `keep`; return how many.

        Below 3500, and from 4000 to 4499, the clients connect again.
        """
        known = self._clients(user, client)
        found = [one for one in known if one.connection.id not in keep]
        for one in found:
            one.connection.close(code, reason or "disconnected")
        return len(found)

    def message(self, user: str, data: Any, *, client: str = "") -> int:
        """Send something to a user's clients, outside every channel; return to how many."""
        push = encode_push("message", {"data": data})
        return sum(one.connection.push(push) for one in self.clients(user, client))

    def refresh(self, user: str, *, client: str = "", expired: bool = False, seconds: float | None = None) -> int:
        """End a user's channel connections as expired, or in `seconds` unless they are renewed; return how many.

        No connection is made to last longer than its credential allows.
        """
        found = self.clients(user, client)
        for one in found:
            connection, now = one.connection, self._node.clock.monotonic()
            if expired:
                one.disconnect(DisconnectCode.EXPIRED)
            elif seconds is not None:
                ends_at = min(connection.expires_at, now + seconds + RENEWAL_GRACE_SECONDS)
                connection.renew(connection.identity, ends_at)
                content = {"expires": True, "ttl": ttl_until(ends_at, now)}
                connection.push(encode_push("refresh", content))
        return len(found)

    def clients(self, user: str, client: str = "") -> list[Client]:
        """Return a user's connected clients, or the one of that id."""
        return [one for one in self._clients(user, client) if one.connected]

    def _clients(self, user: str, client: str) -> list[Client]:
        """Return a user's clients, those too that have not said `connect`; or the one of that id."""
        mine = self._node.clients.get(user, ())
        return [one for one in mine if not client or one.connection.id == client]

    def info(self) -> NodeInfo:
        """Return what this node has."""
        connected = [sum(one.connected for one in mine) for mine in self._node.clients.values()]
        members = self._node.members.values()
        return NodeInfo(
            clients=sum(connected),
            users=sum(map(bool, connected)),
            channels=len(members),
            subscriptions=sum(len(one.subscriptions) for one in members),
        )
