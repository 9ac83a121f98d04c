"""The channel protocol on one connection: what each command does.

The first command is `connect`; nothing is dispatched before it. Rights are asked at every command, so a right that
was taken away is gone at once. A malformed message ends the connection with 3501; a command that cannot be done gets
an error reply, and the connection goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sockade.errors import StorageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Secret
from sockade.guard.messages import MessageRules
from sockade.messaging.application import Endpoint
from sockade.messaging.broker import NO_LIMIT, Position
from sockade.messaging.frames import frame
from sockade.messaging.node import Subscription, to_pub
from sockade.messaging.recovery import Gap, Recovered, recover
from sockade.protocol import commands, replies
from sockade.protocol.codec import DecodeError
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import DISCONNECT_CODES, DisconnectCode, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sockade.guard.identity import Identity
    from sockade.messaging.broker import History
    from sockade.messaging.channels import Match
    from sockade.messaging.connection import Connection
    from sockade.messaging.node import Node

    Verify = Callable[[Credential], Awaitable[Identity | Refuse]]

PATH = "/connection/websocket"
VERSION = "sockade 0.1"
CONNECT_SECONDS = 5.0
"""How long a connection may stay silent before its `connect`."""
SUBSCRIPTIONS = 100
HISTORY_PUBLICATIONS = 1_000
"""Publications in one history reply; clients page on with `since`."""


class ChannelProtocol:
    """The callbacks of the endpoint that speaks the channel protocol."""

    def __init__(self, node: Node, verify: Verify) -> None:
        self._node = node
        self._verify = verify

    def endpoint(self) -> Endpoint:
        """Return the endpoint."""
        return Endpoint(
            PATH,
            MessageRules(),
            self.on_open,
            self.on_message,
            self.on_close,
            None,
            # An empty object is the protocol's own ping, which SDKs wait for and browsers can see.
            heartbeat=frame("{}"),
            codes=DISCONNECT_CODES,
        )

    async def on_open(self, connection: Connection) -> None:
        client = connection.state.client = Client(connection, self._node, self._verify)
        connection.state.silence = connection.hub.loop.call_later(CONNECT_SECONDS, client.expect_connect)

    async def on_message(self, connection: Connection, message: str) -> None:
        await connection.state.client.receive(message)

    async def on_close(self, connection: Connection) -> None:
        connection.state.silence.cancel()
        connection.state.client.leave()


class Client:
    """What the channel protocol knows of one connection."""

    def __init__(self, connection: Connection, node: Node, verify: Verify) -> None:
        self.connection = connection
        self.node = node
        self.verify = verify
        self.connected = False
        self.subscriptions: dict[str, Subscription] = {}

    def expect_connect(self) -> None:
        """Close a connection that has not said `connect`."""
        if not self.connected:
            self.disconnect(DisconnectCode.STALE)

    async def receive(self, message: str) -> None:
        """Do the commands of one message, one after the other."""
        try:
            found = commands.decode_commands(message)
        except DecodeError:
            self.disconnect(DisconnectCode.BAD_REQUEST)
            return
        for number, command in enumerate(found):
            if not self.connection.is_open:
                return
            if number and not self.connection.allow_one_more():
                self.answer(command, replies.error(ErrorCode.TOO_MANY_REQUESTS))
                continue
            await self.do(command)

    async def do(self, command: commands.Command) -> None:
        """Do one command and answer it."""
        body = command.body
        if body is None:
            self.connection.receive_pong()
            return
        if self.connected == isinstance(body, commands.Connect):
            self.disconnect(DisconnectCode.BAD_REQUEST)
            return
        try:
            result = await self.dispatch(body)
        except StorageError:
            result = replies.error(ErrorCode.INTERNAL)
        if result is not None:
            self.answer(command, result)

    async def dispatch(self, body: commands.Body) -> replies.Result | replies.Error | None:
        """Return the answer to a command; None where there is nothing to answer, or it has been."""
        match body:
            case commands.Connect():
                return await self.connect(body)
            case commands.Subscribe():
                return await self.subscribe(body)
            case commands.Unsubscribe():
                self.unsubscribe(body.channel)
                return replies.Empty()
            case commands.Publish():
                return await self.publish(body)
            case commands.History():
                return await self.history(body)
            case commands.Presence():
                return self.presence(body.channel)
            case commands.PresenceStats():
                return self.presence_stats(body.channel)
            case commands.Refresh():
                return await self.refresh(body)
            case commands.Ping():
                return replies.Empty()
            case commands.Send():
                return None
            case commands.Rpc():
                return replies.error(ErrorCode.METHOD_NOT_FOUND)
            case commands.SubRefresh():
                return replies.error(ErrorCode.NOT_AVAILABLE)

    # The connection.

    async def connect(self, body: commands.Connect) -> replies.Result | replies.Error | None:
        """Confirm who is here: a token must name whom the handshake has named already."""
        expires, ttl = False, 0
        if body.token:
            renewed = await self.prove(body.token)
            if not isinstance(renewed, int):
                return renewed
            expires, ttl = True, renewed
        self.connected = True
        seconds = self.connection.hub.limits.ping_seconds
        return replies.ConnectResult(
            client=self.connection.id,
            version=VERSION,
            expires=expires,
            ttl=ttl,
            # The SDKs wait for whole seconds, and a little longer.
            ping=max(1, round(seconds)),
            pong=True,
        )

    async def refresh(self, body: commands.Refresh) -> replies.Result | replies.Error | None:
        """Go on with a new token of the same user."""
        renewed = await self.prove(body.token)
        if not isinstance(renewed, int):
            if renewed is not None:
                self.disconnect(DisconnectCode.EXPIRED)
            return None
        return replies.RefreshResult(client=self.connection.id, version=VERSION, expires=True, ttl=renewed)

    async def prove(self, token: str) -> int | replies.Error | None:
        """Verify a connection token and renew the connection; return the seconds it lasts.

        An expired one is an error that makes SDKs fetch another. After anything else the connection is closed.
        """
        identity = await self.verify(Credential(Carrier.BEARER, Secret(token)))
        if isinstance(identity, Refuse):
            if identity.reason is Reason.TOKEN_EXPIRED:
                return replies.error(ErrorCode.TOKEN_EXPIRED)
            self.disconnect(DisconnectCode.INVALID_TOKEN)
            return None
        if identity.user != self.connection.identity.user:
            self.disconnect(DisconnectCode.INVALID_TOKEN)
            return None
        lifetime = identity.expires_at - self.connection.hub.clock.wall()
        self.connection.renew(identity, self.connection.hub.clock.monotonic() + lifetime)
        return max(1, int(lifetime))

    # Channels.

    def permitted(self, name: str) -> Match | None:
        """Return a channel that this client may hear; an unknown one and a forbidden one are both None."""
        match = self.node.channels.find(name)
        return match if match is not None and match.may_subscribe(self.connection.identity) else None

    async def subscribe(self, body: commands.Subscribe) -> replies.Result | replies.Error | None:
        """Let the client hear a channel, with what it missed where that can be recovered."""
        before = self.subscriptions.get(body.channel)
        if before is not None and not before.ended:
            return replies.error(ErrorCode.ALREADY_SUBSCRIBED)
        if len(self.subscriptions) >= SUBSCRIPTIONS:
            return replies.error(ErrorCode.LIMIT_EXCEEDED)
        match = self.permitted(body.channel)
        if match is None:
            return replies.error(ErrorCode.PERMISSION_DENIED)
        subscription = Subscription(self.connection, match, self.info)
        self.node.add(subscription)
        try:
            result = await self.join(subscription, body)
        except BaseException:
            self.node.remove(subscription)
            raise
        if result is None:
            self.node.remove(subscription)
            self.disconnect(DisconnectCode.INSUFFICIENT_STATE)
        else:
            self.subscriptions[body.channel] = subscription
        return result

    async def join(self, subscription: Subscription, body: commands.Subscribe) -> replies.SubscribeResult | None:
        """Read what was missed while live publications are held back, and merge; None where the two do not join."""
        if subscription.match.channel.keep is None:
            held = subscription.held or []
            self.node.go_live(subscription, None)
            return replies.SubscribeResult(publications=[to_pub(publication) for publication, _ in held])
        history = await self.missed(body)
        since = Position(body.offset, body.epoch)
        outcome = recover(since, history, subscription.held or [])
        if isinstance(outcome, Gap):
            return None
        self.node.go_live(subscription, outcome.position)
        missed = outcome.publications if isinstance(outcome, Recovered) and body.recover else None
        return replies.SubscribeResult(
            recoverable=True,
            positioned=True,
            epoch=outcome.position.epoch,
            # What was recovered leads on from the client's own offset; otherwise it begins at the top.
            offset=outcome.position.offset if missed is None else body.offset,
            publications=[to_pub(one) for one in missed or ()],
            recovered=missed is not None,
            was_recovering=body.recover,
        )

    async def missed(self, body: commands.Subscribe) -> History:
        """Read everything since the client's position, or the position alone for one that recovers nothing."""
        broker = self.node.broker
        if body.recover:
            return await broker.history(body.channel, since=body.offset, limit=NO_LIMIT)
        return await broker.history(body.channel, limit=0)

    def unsubscribe(self, name: str) -> None:
        """Let the client hear a channel no more; for one it did not hear there is nothing to do."""
        subscription = self.subscriptions.pop(name, None)
        if subscription is not None:
            self.node.remove(subscription)

    async def publish(self, body: commands.Publish) -> replies.Result | replies.Error:
        """Publish what the client says, once the channel's type and its rights allow it."""
        match = self.permitted(body.channel)
        if match is None or not match.may_publish(self.connection.identity):
            return replies.error(ErrorCode.PERMISSION_DENIED)
        if match.channel.message is not None:
            try:
                msgspec.convert(body.data, match.channel.message, strict=True)
            except msgspec.ValidationError:
                return replies.error(ErrorCode.BAD_REQUEST)
        await self.node.publish(match, msgspec.json.encode(body.data), info=self.info)
        return replies.Empty()

    async def history(self, body: commands.History) -> replies.Result | replies.Error:
        """Read a channel's publications, a page at a time."""
        match = self.permitted(body.channel)
        if match is None:
            return replies.error(ErrorCode.PERMISSION_DENIED)
        if match.channel.keep is None:
            return replies.error(ErrorCode.NOT_AVAILABLE)
        limit = HISTORY_PUBLICATIONS if body.limit == NO_LIMIT else min(body.limit, HISTORY_PUBLICATIONS)
        since = body.since.offset if body.since is not None else None
        found = await self.node.broker.history(body.channel, since=since, limit=limit, reverse=body.reverse)
        if body.since is not None and body.since.epoch not in ("", found.top.epoch):
            return replies.error(ErrorCode.UNRECOVERABLE_POSITION)
        return replies.HistoryResult([to_pub(one) for one in found.publications], found.top.epoch, found.top.offset)

    def presence(self, name: str) -> replies.Result | replies.Error:
        """Tell who is in a channel."""
        match = self.permitted(name)
        if match is None:
            return replies.error(ErrorCode.PERMISSION_DENIED)
        if not match.channel.presence:
            return replies.error(ErrorCode.NOT_AVAILABLE)
        return replies.PresenceResult(self.node.present(name))

    def presence_stats(self, name: str) -> replies.Result | replies.Error:
        """Tell how many are in a channel."""
        found = self.presence(name)
        if not isinstance(found, replies.PresenceResult):
            return found
        users = {info.user for info in found.presence.values()}
        return replies.PresenceStatsResult(len(found.presence), len(users))

    # Ends.

    def leave(self) -> None:
        """Leave every channel: the connection is gone."""
        for name in list(self.subscriptions):
            self.unsubscribe(name)

    def disconnect(self, code: DisconnectCode) -> None:
        """Close the connection with a code of the channel protocol."""
        self.connection.close(code, code.name.lower().replace("_", " "))

    @property
    def info(self) -> replies.ClientInfo:
        """Who this is, as others see it."""
        return replies.ClientInfo(self.connection.identity.user, self.connection.id)

    def answer(self, command: commands.Command, result: replies.Result | replies.Error) -> None:
        """Send the reply to a command."""
        if command.id:
            method = next(name for name in commands.METHODS if getattr(command, name) is not None)
            self.connection.send(replies.encode_reply(command.id, method, result).decode())
