"""What a client does in channels besides hearing them: publish, look back, see who is there, call the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sockade.errors import StorageError
from sockade.messaging.broker import NO_LIMIT
from sockade.messaging.node import to_pub
from sockade.messaging.subscribing import info_of, reply_bytes
from sockade.protocol import commands, replies
from sockade.protocol.codec import DecodeError, convert
from sockade.protocol.replies import ErrorCode

if TYPE_CHECKING:
    from sockade.messaging.broker import Published
    from sockade.messaging.channels import Match
    from sockade.messaging.client import Client

UNANSWERED = 64
"""Publishes of one client that may wait for the disk; what it says beyond that waits as well."""
DONE = replies.Empty()
HISTORY_PUBLICATIONS = 1_000
"""Publications in one history reply, as far as they take no more than half an outbox; clients page on with `since`."""


async def publish(client: Client, command: commands.Command, body: commands.Publish) -> replies.Error | None:
    """Publish what the client says, once the channel's type and its rights allow it; the answer comes when it is kept.

    What the client says next need not wait for the disk, so that a commit takes many of its publications at once.
    """
    match = client.permitted(body.channel)
    identity = client.connection.identity
    if match is None or not match.may_publish(identity):
        return replies.error(ErrorCode.PERMISSION_DENIED)
    if not match.allows(identity.user, client.node.clock.monotonic()):
        return replies.error(ErrorCode.TOO_MANY_REQUESTS)
    try:
        data = await accepted(client, match, body.data)
    except DecodeError:
        return replies.error(ErrorCode.BAD_REQUEST)
    if match.channel.on_publish is not None and not may_still_publish(client, match):
        return replies.error(ErrorCode.PERMISSION_DENIED)
    encoded = msgspec.json.encode(data)
    if len(encoded) > client.connection.hub.limits.message_bytes:
        # A type adds its defaults, and a number can be written shorter than it is told: a few bytes become megabytes.
        return replies.error(ErrorCode.LIMIT_EXCEEDED)
    subscription = client.subscriptions.get(body.channel)
    info = subscription.info if subscription is not None else info_of(identity, client)
    client.answer_later(command, client.node.publish(match, encoded, info=info))
    if client.unanswered >= UNANSWERED:
        await client.wait_for_room()
    return None


def may_still_publish(client: Client, match: Match) -> bool:
    """Tell whether a client may publish after the application was asked, which may have taken its time."""
    return client.connection.is_open and match.may_publish(client.connection.identity)


async def accepted(client: Client, match: Match, data: Any) -> Any:
    """Return what is published of what a client says, once type, schema and application accept it.

    Raises:
        DecodeError: it is not what the channel carries.
        RejectedError: the application does not want it.
    """
    channel = match.channel
    if channel.schema is not None and not channel.schema.accepts(data):
        raise DecodeError("not what the schema asks for")
    typed = convert(data, channel.message) if channel.message is not None else data
    if channel.on_publish is None:
        return data if channel.exact else typed
    replaced = await channel.on_publish(client.connection, typed, **match.variables)
    return typed if replaced is None else replaced


async def history(client: Client, body: commands.History) -> replies.Result | replies.Error:
    """Read a channel's publications, a page at a time."""
    match = client.permitted(body.channel)
    if match is None or not match.may_see_history(client.connection.identity):
        return replies.error(ErrorCode.PERMISSION_DENIED)
    if match.channel.keep is None:
        return replies.error(ErrorCode.NOT_AVAILABLE)
    limit = HISTORY_PUBLICATIONS if body.limit == NO_LIMIT else min(body.limit, HISTORY_PUBLICATIONS)
    since = body.since.offset if body.since is not None else None
    found = await client.node.broker.history(
        body.channel, since=since, limit=limit, budget=reply_bytes(client), reverse=body.reverse
    )
    if body.since is not None and body.since.epoch not in ("", found.top.epoch):
        return replies.error(ErrorCode.UNRECOVERABLE_POSITION)
    return replies.HistoryResult([to_pub(one) for one in found.publications], found.top.epoch, found.top.offset)


def presence(client: Client, name: str) -> replies.Result | replies.Error:
    """Tell who is in a channel."""
    match = client.permitted(name)
    if match is None or not match.may_see_presence(client.connection.identity):
        return replies.error(ErrorCode.PERMISSION_DENIED)
    if not match.channel.presence:
        return replies.error(ErrorCode.NOT_AVAILABLE)
    return replies.PresenceResult(client.node.present(name))


def presence_stats(client: Client, name: str) -> replies.Result | replies.Error:
    """Tell how many are in a channel."""
    found = presence(client, name)
    if not isinstance(found, replies.PresenceResult):
        return found
    return stats_of(found.presence)


def stats_of(present: dict[str, replies.ClientInfo]) -> replies.PresenceStatsResult:
    """Count connections and users."""
    return replies.PresenceStatsResult(len(present), len({info.user for info in present.values()}))


async def call(client: Client, body: commands.Rpc) -> replies.Result | replies.Error:
    """Let the application answer."""
    procedure = client.services.procedures.get(body.method)
    if procedure is None:
        return replies.error(ErrorCode.METHOD_NOT_FOUND)
    try:
        data = convert(body.data, procedure.takes)
    except DecodeError:
        return replies.error(ErrorCode.BAD_REQUEST)
    return replies.RpcResult(await procedure.function(client.connection, data))


def outcome(answer: Published | StorageError) -> replies.Empty | replies.Error:
    """Return the reply to a publish."""
    return replies.error(ErrorCode.INTERNAL) if isinstance(answer, StorageError) else DONE
