"""The channel protocol on one connection: whose it is, and which command goes where.

The first command is `connect`; nothing is dispatched before it. Rights are asked at every command, so a right that
was taken away is gone at once. A malformed message ends the connection with 3501; a command that cannot be done gets
an error reply, and the connection goes on.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockade.errors import RejectedError, StorageError
from sockade.guard.commands import Unclean, read_commands
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Secret
from sockade.messaging import publishing, subscribing
from sockade.messaging.node import RENEWAL_GRACE_SECONDS, ttl_until
from sockade.protocol import commands, replies
from sockade.protocol.codec import DecodeError
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import DisconnectCode, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sockade.guard.identity import Grant, Identity
    from sockade.messaging.broker import Published
    from sockade.messaging.channels import Match
    from sockade.messaging.connection import Connection
    from sockade.messaging.endpoint import Procedure
    from sockade.messaging.node import Node, Subscription
    from sockade.messaging.promise import Promise

    Answer = replies.Result | replies.Error | None
    Verify = Callable[[Credential], Awaitable[Identity | Refuse]]
    VerifyGrant = Callable[[Secret, str, str], Awaitable[Grant | Refuse]]
    OnSend = Callable[[Connection, object], Awaitable[None]]

VERSION = "sockade 0.1"


@dataclass(frozen=True, slots=True)
class Services:
    """What the clients of one server share."""

    node: Node
    verify: Verify
    verify_grant: VerifyGrant
    procedures: Mapping[str, Procedure]
    on_send: OnSend | None = None


class Client:
    """What the channel protocol knows of one connection."""

    def __init__(self, connection: Connection, services: Services) -> None:
        self.connection = connection
        self.services = services
        self.node = services.node
        self.connected = False
        self.subscriptions: dict[str, Subscription] = {}
        self.coming: set[Subscription] = set()
        """Those it is seen to whether the client may hear them, and from where on."""
        self.entering = asyncio.Lock()
        """Held by whoever lets the client hear a channel, for the client may ask while the server decides so."""
        self.unanswered = 0
        """Publishes that wait for the disk."""
        self._room: asyncio.Future[None] | None = None
        self.silence: asyncio.TimerHandle | None = None

    def open(self, silence: asyncio.TimerHandle) -> None:
        """Begin: `silence` is what ends a connection that does not say `connect`."""
        self.silence = silence
        if self.connection.confirm is None:
            self._be_known()

    def _be_known(self) -> None:
        """Let whoever ends this user's connections find this one, from when it is known whose it is."""
        self.node.clients[self.connection.identity.user].add(self)

    def expect_connect(self) -> None:
        """Close a connection that has not said `connect`."""
        if not self.connected:
            self.disconnect(DisconnectCode.STALE)

    async def receive(self, message: str) -> None:
        """Do the commands of one message, one after the other."""
        try:
            found = read_commands(message)
        except DecodeError:
            self.disconnect(DisconnectCode.BAD_REQUEST)
            return
        for number, command in enumerate(found):
            # Whoever does not take the answers gets none to further commands, and is not read for long either.
            await self.connection.until_taken()
            if not self.connection.is_open:
                return
            if not self._may_do(command, counted=not number):
                self.answer(command, replies.error(ErrorCode.TOO_MANY_REQUESTS))
            elif isinstance(command, Unclean):
                self.connection.count_violation()
                self.answer(command, replies.error(ErrorCode.BAD_REQUEST))
            else:
                await self.do(command)

    def _may_do(self, command: commands.Command | Unclean, *, counted: bool) -> bool:
        """Count a command like a message, as the first one of a message is already; a subscription by itself.

        A client that comes back subscribes to all its channels at once, and is to lose nothing by it.
        """
        subscribes = isinstance(command, commands.Command) and isinstance(command.body, commands.Subscribe)
        if subscribes and self.connection.allow_subscription(counted=counted):
            return True
        return counted or self.connection.allow_one_more()

    def reject(self, message: str, reason: Reason) -> None:
        """Answer the commands of a message that goes nowhere: without an answer an SDK would wait for one."""
        code = ErrorCode.TOO_MANY_REQUESTS if reason is Reason.RATE else ErrorCode.BAD_REQUEST
        try:
            found = read_commands(message)
        except DecodeError:
            return
        for command in found:
            self.answer(command, replies.error(code))

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
            result = await self.dispatch(command, body)
        except StorageError:
            result = replies.error(ErrorCode.INTERNAL)
        except RejectedError as error:
            result = replies.Error(error.code, str(error), error.code in replies.TEMPORARY)
        if result is not None:
            self.answer(command, result)

    async def dispatch(self, command: commands.Command, body: commands.Body) -> Answer:
        """Return the answer to a command; None where there is nothing to answer, or it comes later."""
        match body:
            case commands.Publish():
                return await publishing.publish(self, command, body)
            case commands.Connect():
                return await self.connect(body)
            case commands.Subscribe():
                return await subscribing.subscribe(self, body)
            case commands.Unsubscribe():
                subscribing.unsubscribe(self, body.channel)
                return replies.Empty()
            case commands.History():
                return await publishing.history(self, body)
            case commands.Presence():
                return publishing.presence(self, body.channel)
            case commands.PresenceStats():
                return publishing.presence_stats(self, body.channel)
            case commands.Refresh():
                return await self.refresh(body)
            case commands.SubRefresh():
                return await subscribing.refresh(self, body)
            case commands.Rpc():
                return await publishing.call(self, body)
            case commands.Send():
                if self.services.on_send is not None:
                    await self.services.on_send(self.connection, body.data)
                return None
            case commands.Ping():
                return replies.Empty()

    # The connection.

    async def connect(self, body: commands.Connect) -> Answer:
        """Confirm who is here: a token must name whom the handshake has named already, or else names who it is."""
        expires, ttl = False, 0
        if body.token or self.connection.confirm is not None:
            renewed = await self.prove(body.token)
            if not isinstance(renewed, int):
                return renewed
            expires, ttl = True, renewed
            self._be_known()
        subscribed = await subscribing.subscribe_by_server(self, body.subs)
        if subscribed is None or not self.connection.is_open:
            return None
        self.connected = True
        return replies.ConnectResult(
            client=self.connection.id,
            version=VERSION,
            expires=expires,
            ttl=ttl,
            subs=subscribed,
            # The SDKs wait for whole seconds, and a little longer.
            ping=max(1, round(self.connection.hub.limits.ping_seconds)),
            pong=True,
        )

    async def refresh(self, body: commands.Refresh) -> Answer:
        """Go on with a new token of the same user."""
        renewed = await self.prove(body.token)
        if not isinstance(renewed, int):
            if renewed is not None:
                self.disconnect(DisconnectCode.EXPIRED)
            return None
        return replies.RefreshResult(client=self.connection.id, version=VERSION, expires=True, ttl=renewed)

    async def prove(self, token: str) -> int | replies.Error | None:
        """Verify a connection token and renew the connection; return the seconds after which the SDK shall renew it.

        An expired one is an error that makes SDKs fetch another. After anything else the connection is closed.
        """
        connection = self.connection
        identity = await self.services.verify(Credential(Carrier.BEARER, Secret(token)))
        if not isinstance(identity, Refuse) and connection.confirm is not None:
            identity = connection.confirm(identity)
        if isinstance(identity, Refuse):
            if identity.reason is Reason.TOKEN_EXPIRED:
                return replies.error(ErrorCode.TOKEN_EXPIRED)
            self.disconnect(REFUSED.get(identity.reason, DisconnectCode.INVALID_TOKEN))
            return None
        if identity.user != connection.identity.user:
            self.disconnect(DisconnectCode.INVALID_TOKEN)
            return None
        clock = connection.hub.clock
        now, lifetime = clock.monotonic(), identity.expires_at - clock.wall()
        connection.renew(identity, now + lifetime + RENEWAL_GRACE_SECONDS)
        return ttl_until(connection.expires_at, now)

    def renewed(self) -> None:
        """Let the rights of now hold: a channel that the client may not hear any more is heard no more."""
        for subscription in list(self.subscriptions.values()):
            if not subscribing.may_stay(self, subscription):
                self.node.lose(subscription, replies.UnsubscribeCode.SERVER)

    # Rights.

    def permitted(self, name: str) -> Match | None:
        """Return a channel that this client may hear; an unknown one and a forbidden one are both None.

        Whoever was subscribed with a token for it may hear it as long as that lasts.
        """
        subscription = self.subscriptions.get(name)
        if subscription is not None and subscribing.may_stay(self, subscription):
            return subscription.match
        match = self.node.channels.find(name)
        return match if match is not None and match.may_subscribe(self.connection.identity) else None

    # Ends.

    def leave(self) -> None:
        """Leave every channel: the connection is gone."""
        if self.silence is not None:
            self.silence.cancel()
        for name in list(self.subscriptions):
            subscribing.unsubscribe(self, name)
        clients = self.node.clients.get(self.connection.identity.user)
        if clients is not None:
            clients.discard(self)
            if not clients:
                del self.node.clients[self.connection.identity.user]

    def disconnect(self, code: DisconnectCode) -> None:
        """Close the connection with a code of the channel protocol."""
        self.connection.close(code, code.name.lower().replace("_", " "))

    def answer_later(self, command: commands.Command, published: Promise[Published]) -> None:
        """Answer a publish when it is kept."""
        self.unanswered += 1
        published.then(functools.partial(self._answer_published, command))

    def _answer_published(self, command: commands.Command, answer: Published | StorageError) -> None:
        self.unanswered -= 1
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
        self.answer(command, publishing.outcome(answer))

    async def wait_for_room(self) -> None:
        """Wait until one of the publishes is answered."""
        self._room = asyncio.get_running_loop().create_future()
        await self._room

    def answer(self, command: commands.Command | Unclean, result: replies.Result | replies.Error) -> None:
        """Send the reply to a command."""
        if command.id:
            self.connection.push(replies.encode_reply(command.id, command.method, result))


REFUSED: Mapping[Reason, DisconnectCode] = {
    Reason.USER_CONNECTIONS: DisconnectCode.CONNECTION_LIMIT,
    Reason.SERVER_FULL: DisconnectCode.TOO_MANY_REQUESTS,
    Reason.RATE: DisconnectCode.TOO_MANY_REQUESTS,
    Reason.BUSY: DisconnectCode.INTERNAL,
}
"""Which code a refusal of a first message is; any other is an invalid token."""
