"""The server API: what a backend with the API key may do to channels and clients, in the shapes of Centrifugo's.

The key is compared before anything else of a request is looked at. What a request asks for in vain is told in the
answer (`error` with a code, HTTP 200); what is no request of this API is a refusal like everywhere (problem+json).
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from sockade.api.endpoint import Done, Endpoint
from sockade.errors import StorageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.messaging.broker import NO_LIMIT, Position
from sockade.messaging.client import VERSION
from sockade.messaging.control import UnknownChannelError
from sockade.messaging.node import to_pub
from sockade.messaging.publishing import HISTORY_PUBLICATIONS, stats_of
from sockade.protocol import server_api as said
from sockade.protocol.codec import DecodeError, convert
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import MESSAGES, Empty, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockade.api.endpoint import Call, Desk
    from sockade.clock import Clock
    from sockade.guard.handshake import Head
    from sockade.identity.api_keys import ApiKey
    from sockade.messaging.control import Control
    from sockade.settings import LimitSettings

BATCH = "batch"
HANDSHAKES_PER_MINUTE = 6_000
"""Connections that a backend may begin: many languages make a new one for each request."""
# RFC 9110 §15.5.2: a 401 names a scheme.
CHALLENGE = (("WWW-Authenticate", "apikey"),)

Outcome = said.Result | ErrorCode


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What `info` says of this node besides its counts; `started_at` is monotonic."""

    uid: str
    name: str
    started_at: float


def server_api_routes(desk: Desk, key: ApiKey, control: Control | None, node: NodeFacts) -> Sequence[Route]:
    """Return the routes; without `control`, where no channel is declared, every method answers "not available"."""
    api = ServerApi(key, control, node, desk.clock, desk.settings.limits)
    return [Route("/api/{method}", Endpoint(desk, {"POST": api.handle}, screen=api.refuse))]


class ServerApi:
    """The methods, and who may call them."""

    def __init__(
        self, key: ApiKey, control: Control | None, node: NodeFacts, clock: Clock, limits: LimitSettings
    ) -> None:
        self._key = key
        self._control = control
        self._node = node
        self._clock = clock
        self._limits = limits

    async def handle(self, call: Call) -> Done | Refuse:
        """Answer one HTTP request."""
        method = call.request.path_params["method"]
        if method != BATCH and method not in said.METHODS:
            return Refuse(Reason.NOT_FOUND, "no such method")
        value = call.json()
        if isinstance(value, Refuse):
            return value
        if method != BATCH:
            return Done(answer(await self.do(method, value)))
        try:
            batch = convert(value, said.Batch)
        except DecodeError:
            # A client of Centrifugo's looks for `replies` and for nothing else in what comes with 200.
            return Refuse(Reason.BAD_REQUEST, "not a batch")
        return Done(answer({"replies": await self.do_all(batch)}))

    def refuse(self, call: Call) -> Refuse | None:
        """Refuse a request without the key, which stays the same while the server runs.

        The key opens however many wrong ones came from the same address: 256 bits are not guessed, and a program that
        shares the address must not keep the backend out. Only who is wrong too often is no longer told so.
        """
        shown = shown_keys(call.head)
        if len(shown) == 1 and self._key.matches(shown[0]):
            return None
        attempts, now = call.desk.attempts, call.desk.clock.monotonic()
        refusal = attempts.judge_guess(call.address, now)
        if refusal is not None:
            return refusal
        attempts.failed(call.address, now)
        if not shown:
            return Refuse(Reason.CREDENTIAL_MISSING, "no API key", headers=CHALLENGE)
        return Refuse(Reason.API_KEY, "not the API key", headers=CHALLENGE)

    # Requests.

    async def do_all(self, batch: said.Batch) -> list[dict[str, Any]]:
        """Do the commands of a batch, one after the other or all at once; the answers have the commands' order."""
        if batch.parallel:
            return list(await asyncio.gather(*map(self.do_command, batch.commands)))
        return [await self.do_command(command) for command in batch.commands]

    async def do_command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do one command of a batch; its result stands under its method."""
        method = next(iter(command), "")
        if len(command) != 1 or method not in said.METHODS:
            return {"error": failure(ErrorCode.METHOD_NOT_FOUND)}
        reply = await self.do(method, command[method])
        return {"error": reply.error} if reply.error is not None else {method: reply.result}

    async def do(self, method: str, value: Any) -> said.Reply:
        """Do one request, and answer whatever comes of it."""
        outcome: Outcome
        try:
            body = convert(value, said.METHODS[method])
            if self._control is None or not said.is_offered(body):
                outcome = ErrorCode.NOT_AVAILABLE
            else:
                outcome = await self.dispatch(self._control, body)
        except DecodeError:
            outcome = ErrorCode.BAD_REQUEST
        except UnknownChannelError:
            outcome = ErrorCode.UNKNOWN_CHANNEL
        except StorageError:
            outcome = ErrorCode.INTERNAL
        return reply_of(outcome)

    async def dispatch(self, control: Control, body: said.Body) -> Outcome:
        """Return what a request brings. Raises UnknownChannelError and StorageError."""
        match body:
            case said.Publish():
                return await self.publish(control, body.channel, body)
            case said.Broadcast():
                return await self.broadcast(control, body)
            case said.Subscribe():
                info = msgspec.json.encode(body.info) if body.info is not None else None
                await control.subscribe(body.user, body.channel, client=body.client, data=body.data, info=info)
                return Empty()
            case said.Unsubscribe():
                control.find(body.channel)
                control.unsubscribe(body.user, body.channel, client=body.client)
                return Empty()
            case said.Disconnect():
                return disconnect(control, body)
            case said.Refresh():
                return self.refresh(control, body)
            case said.Presence():
                present = control.presence(body.channel)
                return ErrorCode.NOT_AVAILABLE if present is None else said.PresenceResult(present)
            case said.PresenceStats():
                return presence_stats(control, body.channel)
            case said.History():
                return await history(control, body)
            case said.HistoryRemove():
                if control.find(body.channel).channel.keep is None:
                    return ErrorCode.NOT_AVAILABLE
                await control.remove_history(body.channel)
                return Empty()
            case said.Channels():
                found = control.channels(body.pattern)
                return said.ChannelsResult({name: said.ChannelInfo(count) for name, count in found.items()})
            case said.Info():
                return self.info(control)
            case _:
                assert_never(body)

    async def publish(self, control: Control, channel: str, body: said.Publication) -> Outcome:
        """Publish in one channel; the answer comes when it is kept."""
        if isinstance(body.data, msgspec.UnsetType):
            return ErrorCode.BAD_REQUEST
        data = msgspec.json.encode(body.data)
        if len(data) > self._limits.message_bytes:
            # What no client could say no client need take: beyond the outbox it would close every subscriber.
            return ErrorCode.LIMIT_EXCEEDED
        published = await control.publish(
            channel,
            data,
            key=body.idempotency_key,
            tags=msgspec.json.encode(body.tags) if body.tags else None,
            skip_history=body.skip_history,
        )
        return said.PublishResult(published.position.offset, published.position.epoch)

    async def broadcast(self, control: Control, body: said.Broadcast) -> Outcome:
        """Publish in several channels at once; each has an answer of its own."""

        async def one(channel: str) -> said.Reply:
            try:
                return reply_of(await self.publish(control, channel, body))
            except UnknownChannelError:
                return reply_of(ErrorCode.UNKNOWN_CHANNEL)
            except StorageError:
                return reply_of(ErrorCode.INTERNAL)

        return said.BroadcastResult(list(await asyncio.gather(*map(one, body.channels))))

    def refresh(self, control: Control, body: said.Refresh) -> Outcome:
        """Let a user's connections end at a time, or as expired now."""
        seconds = body.expire_at - self._clock.wall() if body.expire_at else None
        expired = body.expired or (seconds is not None and seconds <= 0)
        control.refresh(body.user, client=body.client, expired=expired, seconds=seconds)
        return Empty()

    def info(self, control: Control) -> Outcome:
        """Tell what this node has."""
        counts, node = control.info(), self._node
        return said.InfoResult(
            [
                said.NodeResult(
                    uid=node.uid,
                    name=node.name,
                    version=VERSION,
                    num_clients=counts.clients,
                    num_users=counts.users,
                    num_subs=counts.subscriptions,
                    num_channels=counts.channels,
                    uptime=math.floor(self._clock.monotonic() - node.started_at),
                )
            ]
        )


def disconnect(control: Control, body: said.Disconnect) -> Outcome:
    """Close a user's connections."""
    code = said.closing_code(body)
    if code is None:
        return ErrorCode.BAD_REQUEST
    reason = body.disconnect.reason if body.disconnect is not None else ""
    control.disconnect(body.user, client=body.client, keep=body.whitelist, code=code, reason=reason)
    return Empty()


def presence_stats(control: Control, channel: str) -> Outcome:
    """Tell how many are in a channel."""
    present = control.presence(channel)
    if present is None:
        return ErrorCode.NOT_AVAILABLE
    stats = stats_of(present)
    return said.PresenceStatsResult(stats.num_clients, stats.num_users)


async def history(control: Control, body: said.History) -> Outcome:
    """Read a channel's publications, a page at a time."""
    if control.find(body.channel).channel.keep is None:
        return ErrorCode.NOT_AVAILABLE
    found = await control.history(
        body.channel,
        since=Position(body.since.offset, body.since.epoch) if body.since is not None else None,
        limit=HISTORY_PUBLICATIONS if body.limit == NO_LIMIT else min(body.limit, HISTORY_PUBLICATIONS),
        reverse=body.reverse,
    )
    if found is None:
        return ErrorCode.UNRECOVERABLE_POSITION
    return said.HistoryResult([to_pub(one) for one in found.publications], found.top.epoch, found.top.offset)


def shown_keys(head: Head) -> list[Secret]:
    """Return the keys that a request shows: `X-API-Key`, or `Authorization: apikey`; another scheme is an empty one."""
    found = list(head.all("x-api-key"))
    for value in head.all("authorization"):
        scheme, _, shown = value.partition(" ")
        found.append(shown.strip() if scheme.lower() == "apikey" else "")
    return [Secret(shown) for shown in found]


def failure(code: ErrorCode) -> said.Failure:
    """Return the error of a code."""
    return said.Failure(code, MESSAGES[code])


def reply_of(outcome: Outcome) -> said.Reply:
    """Return the answer to one request."""
    if isinstance(outcome, ErrorCode):
        return said.Reply(error=failure(outcome))
    return said.Reply(result=outcome)


def answer(content: object) -> Response:
    """Return a value as the JSON of an HTTP response."""
    return Response(msgspec.json.encode(content), media_type="application/json")


def admin_limits(limits: LimitSettings, body_bytes: int) -> LimitSettings:
    """Return the limits of the admin listener: a backend has one address, however many its workers and requests are."""
    return limits.model_copy(
        update={
            "body_bytes": body_bytes,
            "connections_per_address": limits.unauthenticated,
            "handshakes_per_minute": HANDSHAKES_PER_MINUTE,
        }
    )
