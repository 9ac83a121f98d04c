"""The application's side: which endpoints there are and which callbacks each has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sockade.errors import UsageError
from sockade.guard.messages import MessageRules
from sockade.guard.schemas import compile_schema
from sockade.messaging.channels import Channels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from sockade.guard.schemas import Schema
    from sockade.messaging.channels import History
    from sockade.messaging.connection import Connection
    from sockade.messaging.hub import Hub
    from sockade.messaging.node import Node

    OnConnection = Callable[[Connection], Awaitable[None]]
    OnMessage = Callable[[Connection, Any], Awaitable[None]]
    OnError = Callable[[Connection, Exception], Awaitable[None]]

C = TypeVar("C")
CALLBACKS = ("on_open", "on_message", "on_close", "on_error")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and the callbacks behind it, each of them optional."""

    path: str
    rules: MessageRules
    on_open: OnConnection | None
    on_message: OnMessage | None
    on_close: OnConnection | None
    on_error: OnError | None
    heartbeat: bytes | None = None
    """A frame that asks the peer for an answer, in the place of a WebSocket ping."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """What close codes become on this endpoint."""


class Sockade:
    """An application: endpoints, each with four optional callbacks.

        app = Sockade()

        @app.endpoint("/")
        class Chat:
            async def on_message(self, connection: Connection, message: str) -> None:
                connection.broadcast(message)

    The callbacks of one connection run one at a time and in order. An exception in one reaches `on_error` and closes
    that connection alone with 1011. One instance of the class serves all connections of its endpoint.
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.channels = Channels()
        self._hub: Hub | None = None
        self._node: Node | None = None

    def endpoint(
        self, path: str, *, message: type[Any] | None = None, schema: Path | None = None, binary: bool = False
    ) -> Callable[[C], C]:
        """Serve plain messages at a path.

        Args:
            path: an absolute path without query, such as `/` or `/prices`.
            message: the type a text must be JSON of, such as a `msgspec.Struct`; `on_message` then gets its
                instances, and a text of another shape is rejected. Without it `on_message` gets the text.
            schema: a file with the JSON Schema that a text must be JSON by, instead of a type; `on_message` then gets
                the decoded value. It needs the extra `schema`.
            binary: whether binary messages are accepted too; without it they close the connection with 1003.

        Raises:
            UsageError: the path is malformed or taken, no callback is defined, both `message` and `schema` are
                given, or the schema cannot be read or is refused.
        """
        if not path.startswith("/") or "?" in path or "#" in path or not path.isascii():
            raise UsageError(f"endpoint path {path!r} must begin with / and hold no query, fragment or non-ASCII text")
        if path in self.endpoints:
            raise UsageError(f"there is an endpoint at {path!r} already")
        if message is not None and schema is not None:
            raise UsageError(f"the endpoint at {path!r} has both message and schema: one says what a message is")
        rules = MessageRules(binary=binary, shape=message, schema=None if schema is None else read_schema(schema))

        def register(handler: C) -> C:
            instance = handler() if isinstance(handler, type) else handler
            callbacks: dict[str, Any] = {name: getattr(instance, name, None) for name in CALLBACKS}
            if not any(callbacks.values()):
                raise UsageError(f"the endpoint at {path!r} defines none of {', '.join(CALLBACKS)}")
            self.endpoints[path] = Endpoint(path, rules, **callbacks)
            return handler

        return register

    def channel(
        self, pattern: str, *, history: History | None = None, presence: bool = False, join_leave: bool = False
    ) -> Callable[[C], C]:
        """Declare the channels whose names fit a pattern, such as `room:{name}`.

        The decorated class says who may do what: `may_subscribe(self, identity, name)`, by default everyone who is
        admitted, and `may_publish(self, identity, name)`, by default nobody; `message` is the type of what is
        published, a subclass of `Message`.

        Args:
            history: what is kept for those who were away; acknowledged publications are on the disk.
            presence: whether clients may ask who is there.
            join_leave: whether they are told of everyone who comes and goes.

        Raises:
            UsageError: the pattern is malformed.
        """

        def register(handler: C) -> C:
            instance = handler() if isinstance(handler, type) else handler
            self.channels.declare(pattern, instance, history=history, presence=presence, join_leave=join_leave)
            return handler

        return register

    async def publish(self, channel: str, data: object, *, key: str = "") -> None:
        """Publish in a channel as the application itself, which needs no right.

        Args:
            data: anything that can be JSON.
            key: an idempotency key: the same one twice is one publication.

        Raises:
            UsageError: no such channel is declared, or the server does not run.
            StorageError: it was not published.
        """
        match = self.channels.find(channel)
        if match is None or self._node is None:
            raise UsageError(f"no channel {channel!r} is declared, or the server does not run yet")
        await self._node.publish(match, msgspec.json.encode(data), key=key)

    def broadcast(self, path: str, message: str | bytes, *, but: Connection | None = None) -> None:
        """Send a message to every connection of an endpoint, save `but`. Before the server runs there are none."""
        if self._hub is not None:
            self._hub.broadcast(path, message, but=but)

    def bind(self, hub: Hub, node: Node | None = None) -> None:
        """Tie the application to the connections and channels of a running server."""
        self._hub = hub
        self._node = node


def read_schema(path: Path) -> Schema:
    """Return the JSON Schema that a file holds.

    Raises:
        UsageError: it cannot be read or is refused.
    """
    try:
        return compile_schema(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the schema {path} cannot be read: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
