"""What a client says on the channel protocol: commands, decoded strictly into typed values.

The protocol is Centrifuge's client protocol in its JSON form. Fields of features that are not offered (`flag`,
`delta`, `tf` and their like) are known and ignored; any other unknown field is an error. One message carries one or
more commands, separated by line feeds.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sockade.protocol.codec import DecodeError, convert

CHANNEL_CHARACTERS = 255
COMMANDS_A_MESSAGE = 128
"""Room for `connect` and all the subscriptions of a connection, which the JavaScript SDK sends in one message when it
comes back: beyond this the close is final. Each of them is judged by itself all the same."""

Channel = Annotated[str, msgspec.Meta(min_length=1, max_length=CHANNEL_CHARACTERS)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Text = Annotated[str, msgspec.Meta(max_length=255)]
Token = Annotated[str, msgspec.Meta(max_length=8_192)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A value in which every field is known."""


class StreamPosition(Strict, frozen=True):
    """Where a client stands in a channel's stream."""

    offset: Offset = 0
    epoch: Text = ""


class Subscribe(Strict, frozen=True):
    """Hear a channel; `recover` asks for what was missed since (offset, epoch)."""

    channel: Channel
    token: Token = ""
    recover: bool = False
    epoch: Text = ""
    offset: Offset = 0
    data: Any = None
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    # Known, not offered: they change nothing.
    delta: str = ""
    tf: Any = None
    flag: int = 0
    type: int = 0


class ConnectSubscribe(Strict, frozen=True):
    """What `connect` says of a server-side subscription that the client had before."""

    token: Token = ""
    recover: bool = False
    epoch: Text = ""
    offset: Offset = 0
    data: Any = None
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: Any = None
    flag: int = 0


class Connect(Strict, frozen=True):
    """The first command."""

    token: Token = ""
    data: Any = None
    subs: dict[str, ConnectSubscribe] = {}
    name: Text = ""
    version: Text = ""
    headers: dict[str, str] = {}
    flag: int = 0
    profile: Any = None


class Unsubscribe(Strict, frozen=True):
    """Hear a channel no more."""

    channel: Channel


class Publish(Strict, frozen=True):
    """Say something in a channel."""

    channel: Channel
    data: Any


class Presence(Strict, frozen=True):
    """Ask who is in a channel."""

    channel: Channel


class PresenceStats(Strict, frozen=True):
    """Ask how many are in a channel."""

    channel: Channel


class History(Strict, frozen=True):
    """Ask for a channel's publications; limit 0 asks for the position alone."""

    channel: Channel
    limit: Annotated[int, msgspec.Meta(ge=-1, le=100_000)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class Ping(Strict, frozen=True):
    """Ask whether the server is there."""


class Send(Strict, frozen=True):
    """Tell the application something, without an answer."""

    data: Any = None


class Rpc(Strict, frozen=True):
    """Ask the application something."""

    method: Text = ""
    data: Any = None


class Refresh(Strict, frozen=True):
    """Go on with a new connection token."""

    token: Token


class SubRefresh(Strict, frozen=True):
    """Go on with a new subscription token."""

    channel: Channel
    token: Token


Body = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Ping
    | Send
    | Rpc
    | Refresh
    | SubRefresh
)


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command: an id, and exactly one body. Without an id nothing is answered; `send` has none."""

    id: Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)] = 0
    connect: Connect | None = None
    subscribe: Subscribe | None = None
    unsubscribe: Unsubscribe | None = None
    publish: Publish | None = None
    presence: Presence | None = None
    presence_stats: PresenceStats | None = None
    history: History | None = None
    ping: Ping | None = None
    send: Send | None = None
    rpc: Rpc | None = None
    refresh: Refresh | None = None
    sub_refresh: SubRefresh | None = None

    @property
    def body(self) -> Body | None:
        """The one body; None for an empty command, which is the answer to the server's ping."""
        for name in METHODS:
            body: Body | None = getattr(self, name)
            if body is not None:
                return body
        return None

    @property
    def method(self) -> str:
        """The name of the body; empty for an empty command."""
        return next((name for name in METHODS if getattr(self, name) is not None), "")


METHODS = tuple(field for field in Command.__struct_fields__ if field != "id")


def lines_of(message: str) -> list[str]:
    """Return the texts of the commands of one message.

    Raises:
        DecodeError: there is none, or there are too many.
    """
    lines = [line for line in message.split("\n") if line]
    if not 0 < len(lines) <= COMMANDS_A_MESSAGE:
        raise DecodeError("no command, or too many")
    return lines


def to_command(value: Any) -> Command:
    """Return a parsed value as a command.

    Raises:
        DecodeError: it is none.
    """
    return checked(convert(value, Command))


def checked(command: Command) -> Command:
    """Refuse a command with two bodies, and one that expects an answer and has no id."""
    bodies = sum(getattr(command, name) is not None for name in METHODS)
    if bodies > 1:
        raise DecodeError("more than one method")
    if command.id == 0 and bodies == 1 and command.send is None:
        raise DecodeError("a command needs an id")
    return command
