"""What a backend says on the server API, and what it is answered: the shapes of Centrifugo's HTTP API.

Every field that its SDKs know is known here. What is not offered and would change the meaning of a request (binary
data, sessions, options for one subscription, versions) is an error and never ignored; `delta` changes nothing but the
size of what is sent, and is. Any other unknown field is an error.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sockade.protocol.commands import Channel, Offset, StreamPosition, Text
from sockade.protocol.replies import DISCONNECT_CODES, ClientInfo, DisconnectCode, Empty, ErrorCode, Pub

if TYPE_CHECKING:
    from collections.abc import Mapping

User = Annotated[str, Meta(min_length=1, max_length=255)]
Expression = Annotated[str, Meta(max_length=255)]
ClosingReason = Annotated[str, Meta(max_length=123)]
"""RFC 6455 §5.5.1: a reason has at most 123 bytes."""
CODES = 3_000
COMMANDS = 1_000
"""Commands of one batch, and channels of one broadcast."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked for, every field known."""


NOT_OFFERED = ("b64data", "b64info", "session", "override", "recover_since", "version", "version_epoch")
"""Fields that must be empty: to leave one out of account would do something else than was asked for."""


def is_offered(request: Request) -> bool:
    """Tell whether a request asks for nothing that is not offered."""
    return not any(getattr(request, name, None) for name in NOT_OFFERED)


class Publication(Request, frozen=True, kw_only=True):
    """What is published, and how."""

    data: Any | UnsetType = UNSET
    skip_history: bool = False
    tags: dict[str, str] = {}
    idempotency_key: Text = ""
    delta: bool = False
    b64data: str = ""
    version: int = 0
    version_epoch: str = ""


class Publish(Publication, frozen=True, kw_only=True):
    """Say something in a channel."""

    channel: Channel


class Broadcast(Publication, frozen=True, kw_only=True):
    """Say the same in several channels."""

    channels: Annotated[list[Channel], Meta(min_length=1, max_length=COMMANDS)]


class OfUser(Request, frozen=True, kw_only=True):
    """A user's connections, or the one with an id."""

    user: User
    client: Text = ""
    session: str = ""


class Subscribe(OfUser, frozen=True, kw_only=True):
    """Let a user's connections hear a channel."""

    channel: Channel
    info: Any = None
    data: Any = None
    b64info: str = ""
    b64data: str = ""
    recover_since: StreamPosition | None = None
    override: dict[str, Any] | None = None


class Unsubscribe(OfUser, frozen=True, kw_only=True):
    """Let a user's connections hear a channel no more."""

    channel: Channel


class Closing(Request, frozen=True, kw_only=True):
    """With what a connection is closed."""

    code: Annotated[int, Meta(ge=0, le=4_999)] = 0
    reason: ClosingReason = ""


class Disconnect(OfUser, frozen=True, kw_only=True):
    """Close a user's connections, save those whose ids `whitelist` has."""

    whitelist: list[Text] = []
    disconnect: Closing | None = None


class Refresh(OfUser, frozen=True, kw_only=True):
    """Say until when a user's connections last, in POSIX seconds."""

    expired: bool = False
    expire_at: Offset = 0


class Presence(Request, frozen=True, kw_only=True):
    """Ask who is in a channel."""

    channel: Channel


class PresenceStats(Request, frozen=True, kw_only=True):
    """Ask how many are in a channel."""

    channel: Channel


class History(Request, frozen=True, kw_only=True):
    """Ask for a channel's publications; limit 0 asks for the position alone."""

    channel: Channel
    limit: Annotated[int, Meta(ge=-1, le=100_000)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class HistoryRemove(Request, frozen=True, kw_only=True):
    """Forget a channel's publications."""

    channel: Channel


class Channels(Request, frozen=True, kw_only=True):
    """Ask which channels have subscribers."""

    pattern: Expression = ""


class Info(Request, frozen=True, kw_only=True):
    """Ask what the node has."""


class Batch(Request, frozen=True, kw_only=True):
    """Several commands, each an object with its method as the only key."""

    commands: Annotated[list[dict[str, Any]], Meta(max_length=COMMANDS)]
    parallel: bool = False


Body = (
    Publish
    | Broadcast
    | Subscribe
    | Unsubscribe
    | Disconnect
    | Refresh
    | Presence
    | PresenceStats
    | History
    | HistoryRemove
    | Channels
    | Info
)

METHODS: Mapping[str, type[Body]] = MappingProxyType(
    {
        "publish": Publish,
        "broadcast": Broadcast,
        "subscribe": Subscribe,
        "unsubscribe": Unsubscribe,
        "disconnect": Disconnect,
        "refresh": Refresh,
        "presence": Presence,
        "presence_stats": PresenceStats,
        "history": History,
        "history_remove": HistoryRemove,
        "channels": Channels,
        "info": Info,
    }
)
"""Everything but `batch`, which is made of these."""


# What is answered. Fields of results are always there: a client that asks how many gets a number.


class PublishResult(msgspec.Struct, frozen=True):
    """Where a publication stands; 0 and nothing where the channel keeps no history."""

    offset: int
    epoch: str


class BroadcastResult(msgspec.Struct, frozen=True):
    """What became of each publication, in the order of the channels."""

    responses: list[Reply]


class PresenceResult(msgspec.Struct, frozen=True):
    """Who is in a channel, by connection."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(msgspec.Struct, frozen=True):
    """How many are in a channel."""

    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct, frozen=True):
    """Publications and the stream's top."""

    publications: list[Pub]
    epoch: str
    offset: int


class ChannelInfo(msgspec.Struct, frozen=True):
    """How many subscribers a channel has."""

    num_clients: int


class ChannelsResult(msgspec.Struct, frozen=True):
    """Channels with subscribers."""

    channels: dict[str, ChannelInfo]


class NodeResult(msgspec.Struct, frozen=True):
    """What a node has; `uptime` is in seconds."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int


class InfoResult(msgspec.Struct, frozen=True):
    """All nodes."""

    nodes: list[NodeResult]


Result = (
    PublishResult
    | BroadcastResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | ChannelsResult
    | InfoResult
    | Empty
)


class Failure(msgspec.Struct, frozen=True):
    """Why nothing was done."""

    code: ErrorCode
    message: str


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one request: one of both."""

    result: Result | None = None
    error: Failure | None = None


def closing_code(body: Disconnect) -> int | None:
    """Return the close code that a request asks for; None where it is none to close with.

    RFC 6455 §7.4.2: 3000 to 4999. Those that mean something else on plain endpoints are translated on their way out
    and would arrive as another.
    """
    code = body.disconnect.code if body.disconnect is not None else 0
    if not code:
        return DisconnectCode.FORCE_DISCONNECT
    return code if code >= CODES and code not in DISCONNECT_CODES else None
