"""What the server says on the channel protocol: replies to commands, and pushes nobody asked for.

Zero values and empty fields are left out. Application data travels as it was published: JSON that is not parsed
again on its way out.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorCode(IntEnum):
    """Errors in replies."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112


MESSAGES = {
    ErrorCode.INTERNAL: "internal server error",
    ErrorCode.UNAUTHORIZED: "unauthorized",
    ErrorCode.UNKNOWN_CHANNEL: "unknown channel",
    ErrorCode.PERMISSION_DENIED: "permission denied",
    ErrorCode.METHOD_NOT_FOUND: "method not found",
    ErrorCode.ALREADY_SUBSCRIBED: "already subscribed",
    ErrorCode.LIMIT_EXCEEDED: "limit exceeded",
    ErrorCode.BAD_REQUEST: "bad request",
    ErrorCode.NOT_AVAILABLE: "not available",
    ErrorCode.TOKEN_EXPIRED: "token expired",
    ErrorCode.EXPIRED: "expired",
    ErrorCode.TOO_MANY_REQUESTS: "too many requests",
    ErrorCode.UNRECOVERABLE_POSITION: "unrecoverable position",
}
TEMPORARY = frozenset({ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS})


class DisconnectCode(IntEnum):
    """Close codes: below 3500 the client connects again, from there on it does not."""

    NORMAL = 3000
    SHUTDOWN = 3001
    INTERNAL = 3004
    EXPIRED = 3005
    SUBSCRIPTION_EXPIRED = 3006
    SLOW = 3008
    WRITE_ERROR = 3009
    INSUFFICIENT_STATE = 3010
    FORCE_RECONNECT = 3011
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    STATE_INVALIDATED = 3014
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    FORCE_DISCONNECT = 3503
    CONNECTION_LIMIT = 3504
    CHANNEL_LIMIT = 3505
    WRONG_PROTOCOL = 3506
    PERMISSION_DENIED = 3507
    NOT_AVAILABLE = 3508
    TOO_MANY_ERRORS = 3509

    @property
    def reconnects(self) -> bool:
        """Whether clients connect again."""
        return self < DisconnectCode.INVALID_TOKEN


# What a close code of plain endpoints is here.
DISCONNECT_CODES: Mapping[int, DisconnectCode] = MappingProxyType(
    {
        CloseCode.NORMAL: DisconnectCode.FORCE_DISCONNECT,
        CloseCode.GOING_AWAY: DisconnectCode.SHUTDOWN,
        CloseCode.SERVICE_RESTART: DisconnectCode.SHUTDOWN,
        CloseCode.UNSUPPORTED_DATA: DisconnectCode.BAD_REQUEST,
        CloseCode.POLICY_VIOLATION: DisconnectCode.TOO_MANY_REQUESTS,
        CloseCode.INTERNAL_ERROR: DisconnectCode.INTERNAL,
        CloseCode.TRY_AGAIN_LATER: DisconnectCode.TOO_MANY_REQUESTS,
        CloseCode.CREDENTIAL_EXPIRED: DisconnectCode.EXPIRED,
        CloseCode.FORBIDDEN: DisconnectCode.PERMISSION_DENIED,
        CloseCode.IDLE: DisconnectCode.STALE,
    }
)


class UnsubscribeCode(IntEnum):
    """Why the server ended a subscription: below 2500 for good, from there on the client subscribes again."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500
    EXPIRED = 2501
    STATE_INVALIDATED = 2502

    @property
    def text(self) -> str:
        """The reason that goes with it."""
        return "unsubscribed" if self is UnsubscribeCode.SERVER else self.name.lower().replace("_", " ")


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value whose empty fields are left out."""


class Error(Value, frozen=True):
    """What went wrong with a command."""

    code: int
    message: str = ""
    temporary: bool = False


class ClientInfo(Value, frozen=True):
    """Who is behind a publication, a join or a presence; the server alone says so."""

    user: str = ""
    client: str = ""
    conn_info: msgspec.Raw | None = None
    chan_info: msgspec.Raw | None = None


class Pub(Value, frozen=True):
    """A publication."""

    data: msgspec.Raw
    info: msgspec.Raw | None = None
    offset: int = 0
    tags: msgspec.Raw | None = None
    time: int = 0
    """Milliseconds since 1970."""


class SubscribeResult(Value, frozen=True):
    """A subscription, with what was missed where that could be recovered."""

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Pub] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Any = None
    was_recovering: bool = False


class ConnectResult(Value, frozen=True):
    """An accepted connection."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Any = None
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class Empty(Value, frozen=True):
    """Done, and nothing to say of it."""


class HistoryResult(Value, frozen=True):
    """Publications and the stream's top."""

    publications: list[Pub] = []
    epoch: str = ""
    offset: int = 0


class PresenceResult(Value, frozen=True):
    """Who is in a channel, by connection."""

    presence: dict[str, ClientInfo] = {}


class PresenceStatsResult(Value, frozen=True):
    """How many are in a channel."""

    num_clients: int = 0
    num_users: int = 0


class RpcResult(Value, frozen=True):
    """What the application answered."""

    data: Any = None


class RefreshResult(Value, frozen=True):
    """A credential that was renewed; `client` and `version` only for the connection's own."""

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


Result = (
    ConnectResult
    | SubscribeResult
    | HistoryResult
    | PresenceResult
    | PresenceStatsResult
    | RpcResult
    | RefreshResult
    | Empty
)

_encode = msgspec.json.Encoder().encode


def on_one_line(value: object) -> bytes:
    """Return a value as JSON without a line feed: that is what parts the objects of a message.

    Only what an application hands over as JSON already, a `msgspec.Raw`, can bring one.
    """
    data = _encode(value)
    return data if b"\n" not in data else msgspec.json.format(data, indent=-1)


def error(code: ErrorCode) -> Error:
    """Return the error of a code."""
    return Error(code, MESSAGES[code], code in TEMPORARY)


def encode_reply(id_: int, method: str, result: Result | Error) -> bytes:
    """Return one reply as JSON."""
    return on_one_line({"id": id_, "error" if isinstance(result, Error) else method: result})


def encode_push(kind: str, content: Any, channel: str = "") -> bytes:
    """Return one push as JSON; a push about the connection itself names no channel."""
    return on_one_line({"push": {"channel": channel, kind: content} if channel else {kind: content}})
