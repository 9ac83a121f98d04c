"""Subscribing and unsubscribing on the channel protocol: rights, what was missed, and how the two join.

From the moment a subscriber is known its channel's live publications are held back, until the history has been read
and both are merged. Between the merge and the reply nothing is awaited, so nothing overtakes the reply.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from sockade.errors import StorageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.guard.messages import SUBSCRIPTIONS
from sockade.messaging.broker import Position, weight
from sockade.messaging.node import RENEWAL_GRACE_SECONDS, Subscription, to_pub, ttl_until
from sockade.messaging.recovery import Gap, Recovered, recover, recover_latest
from sockade.protocol import commands, replies
from sockade.protocol.reasons import Reason
from sockade.protocol.replies import DisconnectCode, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from sockade.guard.identity import Grant, Identity
    from sockade.messaging.broker import History, Publication
    from sockade.messaging.channels import Match
    from sockade.messaging.client import Client

    Wanted = commands.Subscribe | commands.ConnectSubscribe

RECOVERED_PUBLICATIONS = 10_000
"""What one reply can bring back; whoever missed more begins anew."""
NOTHING = commands.ConnectSubscribe()


async def subscribe(client: Client, body: commands.Subscribe) -> replies.SubscribeResult | replies.Error | None:
    """Let the client hear a channel, with what it missed where that can be recovered."""
    if is_subscribed(client, body.channel):
        return replies.error(ErrorCode.ALREADY_SUBSCRIBED)
    if len(client.subscriptions) >= SUBSCRIPTIONS and body.channel not in client.subscriptions:
        return replies.error(ErrorCode.LIMIT_EXCEEDED)
    entered = await enter(client, body.channel, body.token)
    if isinstance(entered, replies.Error):
        return entered
    match, grant = entered
    subscription = Subscription(client.connection, match, info_of(client.connection.identity, client, grant))
    if grant is not None:
        subscription.grant, subscription.ends_at = grant, monotonic_end(client, grant)
    with coming(client, subscription):
        data = await ask_application(client, match)
        async with client.entering:
            if is_subscribed(client, match.name):
                return replies.error(ErrorCode.ALREADY_SUBSCRIBED)
            with held_back(client, subscription):
                history = await read_missed(client, match, body)
                # All this took its time, in which the connection may have ended, and the right may have been lost.
                if not client.connection.is_open or not may_stay(client, subscription):
                    return replies.error(ErrorCode.PERMISSION_DENIED)
                result = join(client, subscription, history, body, data)
    if result is None:
        client.disconnect(DisconnectCode.INSUFFICIENT_STATE)
    return result


async def enter(client: Client, name: str, token: str) -> tuple[Match, Grant | None] | replies.Error:
    """Return the channel that a client may hear, by right or by a token for it, with that token's grant."""
    match = client.node.channels.find(name)
    identity = client.connection.identity
    if match is not None and token and match.channel.token:
        grant = await client.services.verify_grant(Secret(token), identity.user, name)
        if not isinstance(grant, Refuse):
            return match, grant
        if grant.reason is Reason.TOKEN_EXPIRED:
            return replies.error(ErrorCode.TOKEN_EXPIRED)
    elif match is not None and match.may_subscribe(identity):
        return match, None
    return replies.error(ErrorCode.PERMISSION_DENIED)


async def ask_application(client: Client, match: Match) -> Any:
    """Return what the application has to say to a new subscriber; RejectedError keeps it out."""
    hook = match.channel.on_subscribe
    return await hook(client.connection, **match.variables) if hook is not None else None


def is_subscribed(client: Client, name: str) -> bool:
    """Tell whether a client hears a channel."""
    return name in client.subscriptions


@contextmanager
def coming(client: Client, *subscriptions: Subscription) -> Iterator[None]:
    """Let whoever ends subscriptions find those too that do not hear yet: they take their time."""
    client.coming.update(subscriptions)
    try:
        yield
    finally:
        client.coming.difference_update(subscriptions)


@contextmanager
def held_back(client: Client, subscription: Subscription) -> Iterator[None]:
    """Let live publications wait for a new subscriber, until it hears live; who does not come to that is forgotten."""
    client.node.add(subscription)
    try:
        yield
    finally:
        if subscription.held is not None:
            client.node.remove(subscription)


async def read_missed(client: Client, match: Match, wanted: Wanted, budget: int | None = None) -> History | None:
    """Read what a subscriber may have missed, or the position alone; None where nothing is kept.

    Where that is more than `budget`, by default what one reply may hold, no more is read, and what was read does not
    lead to the top: not recovered.
    """
    if match.channel.keep is None:
        return None
    broker, budget = client.node.broker, reply_bytes(client) if budget is None else budget
    if budget <= 0 or not (wanted.recover or match.channel.cache):
        return await broker.history(match.name, limit=0)
    if match.channel.cache:
        return await broker.history(match.name, limit=1, budget=budget, reverse=True)
    return await broker.history(match.name, since=wanted.offset, limit=RECOVERED_PUBLICATIONS, budget=budget)


def join(
    client: Client, subscription: Subscription, history: History | None, wanted: Wanted, data: Any = None
) -> replies.SubscribeResult | None:
    """Merge what was missed with what came meanwhile and let the client hear; None where the two do not join."""
    ttl = ttl_of(client, subscription)
    if history is None:
        held = subscription.held or []
        take_in(client, subscription, None)
        publications = [to_pub(publication) for publication, _ in held]
        return replies.SubscribeResult(expires=ttl > 0, ttl=ttl, publications=publications, data=data)
    since = Position(wanted.offset, wanted.epoch)
    merge = recover_latest if subscription.match.channel.cache else recover
    outcome = merge(since, history, subscription.held or [])
    if isinstance(outcome, Gap) or subscription.overflowed:
        return None
    # Whoever comes gets the latest publication, where that is all that counts.
    asked = wanted.recover or subscription.match.channel.cache
    missed = outcome.publications if isinstance(outcome, Recovered) and asked else None
    if missed is not None and not fits(client, missed):
        missed = None
    take_in(client, subscription, outcome.position)
    return replies.SubscribeResult(
        expires=ttl > 0,
        ttl=ttl,
        recoverable=True,
        positioned=True,
        epoch=outcome.position.epoch,
        # What was recovered leads on from the client's own offset; otherwise it begins at the top.
        offset=outcome.position.offset if not missed else missed[0].offset - 1,
        publications=[to_pub(one) for one in missed or ()],
        recovered=missed is not None and wanted.recover,
        was_recovering=wanted.recover,
        data=data,
    )


def fits(client: Client, missed: tuple[Publication, ...]) -> bool:
    """Tell whether what was missed may go out in one reply: more would make the client a slow consumer at once."""
    return sum(map(weight, missed)) <= reply_bytes(client)


def reply_bytes(client: Client) -> int:
    """Return how many bytes of publications one reply may hold."""
    return client.connection.hub.limits.outbox_bytes // 2


def take_in(client: Client, subscription: Subscription, position: Position | None) -> None:
    """Let a subscription live."""
    client.subscriptions[subscription.match.name] = subscription
    client.node.go_live(subscription, position)


def unsubscribe(client: Client, name: str) -> None:
    """Let the client hear a channel no more; for one it did not hear there is nothing to do."""
    subscription = client.subscriptions.pop(name, None)
    if subscription is not None:
        client.node.remove(subscription)


async def refresh(client: Client, body: commands.SubRefresh) -> replies.Result | replies.Error:
    """Go on with a new subscription token."""
    subscription = client.subscriptions.get(body.channel)
    if subscription is None or not subscription.match.channel.token:
        return replies.error(ErrorCode.PERMISSION_DENIED)
    grant = await client.services.verify_grant(Secret(body.token), client.connection.identity.user, body.channel)
    if isinstance(grant, Refuse):
        expired = grant.reason is Reason.TOKEN_EXPIRED
        return replies.error(ErrorCode.TOKEN_EXPIRED if expired else ErrorCode.PERMISSION_DENIED)
    if subscription.ended:  # meanwhile
        return replies.error(ErrorCode.PERMISSION_DENIED)
    subscription.grant, subscription.ends_at = grant, monotonic_end(client, grant)
    client.node.end_later(subscription)
    return replies.RefreshResult(expires=True, ttl=ttl_of(client, subscription))


def may_stay(client: Client, subscription: Subscription) -> bool:
    """Tell whether a subscription still has what it rests on: a token's or the server's word that lasts, or a right."""
    identity, match = client.connection.identity, subscription.match
    if subscription.ended:
        return False
    if subscription.claimed:
        return match.name in identity.channels or match.may_subscribe(identity)
    if subscription.by_server:
        return True
    if subscription.grant is not None:
        return subscription.ends_at > client.node.clock.monotonic() and subscription.grant.holds()
    return match.may_subscribe(identity)


def monotonic_end(client: Client, grant: Grant) -> float:
    """Return when what rests on a grant ends, in monotonic seconds."""
    clock = client.node.clock
    return clock.monotonic() + grant.expires_at - clock.wall() + RENEWAL_GRACE_SECONDS


def ttl_of(client: Client, subscription: Subscription) -> int:
    """Return the whole seconds after which a subscription's token shall be renewed; 0 where it has none."""
    if subscription.ends_at == math.inf:
        return 0
    return ttl_until(subscription.ends_at, client.node.clock.monotonic())


def info_of(identity: Identity, client: Client, grant: Grant | None = None) -> replies.ClientInfo:
    """Return who a client is, as others see it."""
    return replies.ClientInfo(
        identity.user,
        client.connection.id,
        conn_info=msgspec.Raw(identity.info) if identity.info is not None else None,
        chan_info=msgspec.Raw(grant.info) if grant is not None and grant.info is not None else None,
    )


# By the server.


async def subscribe_by_server(
    client: Client, wanted: Mapping[str, commands.ConnectSubscribe]
) -> dict[str, replies.SubscribeResult] | None:
    """Subscribe a new client to its personal channels and those that its token names; None where that failed.

    What the client says it had before counts only for channels that it is subscribed to anyway.
    """
    identity = client.connection.identity
    personal = {match.name: match for match in client.node.channels.personal_of(identity.user)}
    matches = personal | {
        name: match
        for name in identity.channels[:SUBSCRIPTIONS]
        if (match := client.node.channels.find(name)) is not None
    }
    subscriptions = {
        name: Subscription(
            client.connection, match, info_of(identity, client), by_server=True, claimed=name not in personal
        )
        for name, match in matches.items()
    }
    with coming(client, *subscriptions.values()), ExitStack() as stack:
        for subscription in subscriptions.values():
            stack.enter_context(held_back(client, subscription))
        histories, budget = [], reply_bytes(client)
        for name, match in matches.items():
            history = await read_missed(client, match, wanted.get(name, NOTHING), budget)
            histories.append(history)
            # All of it goes out in one reply.
            budget -= sum(map(weight, history.publications)) if history is not None else 0
        results = {
            name: join(client, subscription, history, wanted.get(name, NOTHING))
            for (name, subscription), history in zip(subscriptions.items(), histories, strict=True)
            # The connection may have ended meanwhile, or its token been renewed.
            if client.connection.is_open and may_stay(client, subscription)
        }
    found = {name: result for name, result in results.items() if result is not None}
    if len(found) < len(results):
        client.disconnect(DisconnectCode.INSUFFICIENT_STATE)
        return None
    return found


async def subscribe_later(client: Client, match: Match, data: Any = None, grant: Grant | None = None) -> bool:
    """Subscribe a connected client to a channel that it did not ask for, and tell it; False where it hears it.

    Of `grant` only what it shows of the client counts: the server's word has no end.

    Raises:
        StorageError: the channel's position could not be read.
    """
    identity = client.connection.identity
    subscription = Subscription(client.connection, match, info_of(identity, client, grant), by_server=True)
    with coming(client, subscription):
        async with client.entering:
            if is_subscribed(client, match.name):
                return False
            with held_back(client, subscription):
                history = await read_missed(client, match, NOTHING)
                if not client.connection.is_open or not may_stay(client, subscription):
                    return False
                result = join(client, subscription, history, NOTHING, data)
    if result is None:
        raise StorageError("what was read of the channel and what came meanwhile do not join")
    push = {"recoverable": result.recoverable, "positioned": result.positioned, "epoch": result.epoch}
    content = {key: value for key, value in (push | {"offset": result.offset}).items() if value}
    if data is not None:
        content["data"] = data
    client.connection.push(replies.encode_push("subscribe", content, match.name))
    for publication in result.publications:
        client.connection.push(replies.encode_push("pub", publication, match.name))
    return True
