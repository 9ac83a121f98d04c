"""The application's side: which endpoints, channels and procedures there are, and what it may do once they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from sockade.errors import UsageError
from sockade.guard.messages import MessageRules
from sockade.guard.rates import Rate
from sockade.guard.text import clean
from sockade.messaging.channel_protocol import PATH as CHANNELS
from sockade.messaging.channels import UNNAMEABLE, Channels, declared_by
from sockade.messaging.endpoint import Endpoint, Procedure, read_schema
from sockade.messaging.handlers import Call, annotation, check, methods
from sockade.messaging.shapes import check_type
from sockade.messaging.types import History

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sockade.messaging.connection import Connection
    from sockade.messaging.control import Control
    from sockade.messaging.hub import Hub

    OnSend = Callable[[Connection, Any], Awaitable[None]]
    Listener = Callable[[Any, str], None]
    Grants = Callable[[str, str, float | None, bytes | None], str]

C = TypeVar("C")
L = TypeVar("L", bound="Listener")
F = TypeVar("F", bound="Callable[..., Awaitable[Any]]")
CALLBACKS = {
    "on_open": Call(("connection",)),
    "on_message": Call(("connection", "message")),
    "on_close": Call(("connection",)),
    "on_error": Call(("connection", "error")),
}
ANSWER = Call(("connection", "data"))
HEAR = Call(("data", "user"), awaited=False)


class Sockade:
    """An application: endpoints, each with four optional callbacks, and channels.

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
        self.procedures: dict[str, Procedure] = {}
        self.send_handler: OnSend | None = None
        self.listeners: dict[str, Listener] = {}
        self._hub: Hub | None = None
        self._control: Control | None = None
        self._grants: Grants | None = None
        self._complete = False

    # What is declared before the server runs.

    def endpoint(
        self, path: str, *, message: type[Any] | None = None, schema: Path | str | None = None, binary: bool = False
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
            UsageError: the path is malformed or taken, no callback is defined or one cannot be called, both `message`
                and `schema` are given, or the schema cannot be read or is refused.
        """
        self._refuse_late_declarations()
        if not isinstance(path, str):
            raise UsageError('an endpoint is declared with its path: write @app.endpoint("/")')
        if path == CHANNELS:
            raise UsageError(f"the channel protocol is spoken at {path!r}: declare channels instead")
        if not path.startswith("/") or "?" in path or "#" in path or not path.isascii():
            raise UsageError(f"endpoint path {path!r} must begin with / and hold no query, fragment or non-ASCII text")
        if path in self.endpoints:
            raise UsageError(f"there is an endpoint at {path!r} already")
        if message is not None and schema is not None:
            raise UsageError(f"the endpoint at {path!r} has both message and schema: one says what a message is")
        check_type(f"message of the endpoint at {path!r}", message)
        rules = MessageRules(binary=binary, shape=message, schema=None if schema is None else read_schema(Path(schema)))

        def register(handler: C) -> C:
            instance = handler() if isinstance(handler, type) else handler
            callbacks = methods(f"the endpoint at {path!r}", instance, CALLBACKS)
            if not any(callbacks.values()):
                raise UsageError(f"the endpoint at {path!r} defines none of {', '.join(CALLBACKS)}")
            self.endpoints[path] = Endpoint(path, rules, **callbacks)
            return handler

        return register

    def channel(
        self,
        pattern: str,
        *,
        history: History | None = None,
        presence: bool = False,
        join_leave: bool | Literal["user"] = False,
        personal: bool = False,
        token: bool = False,
        messages_per_second: float | None = None,
        message_burst: int = 10,
    ) -> Callable[[C], C]:
        """Declare the channels whose names fit a pattern, such as `room:{name}`.

        The decorated class says who may do what: `may_subscribe(self, identity, name)`, by default everyone who is
        admitted; `may_publish(self, identity, name)`, by default nobody; `may_see_presence` and `may_see_history`, by
        default whoever may subscribe. `message` is the type of what is published, a subclass of `Message`. Two hooks
        are awaited if they are there: `on_subscribe(self, connection, name)`, whose answer goes to the subscriber,
        and `on_publish(self, connection, message, name)`, whose answer is published in the message's place unless
        it is None. Either raises RejectedError to refuse.

        Args:
            history: what is kept for those who were away.
            presence: whether clients may ask who is there.
            join_leave: whether they are told of everyone who comes and goes; `"user"`: once for all tabs of a user.
            personal: the channel of one user, whom the variable `user` names: each connection of that user is
                subscribed by the server, and nobody else may hear it.
            token: whether a subscription token for the channel is as good as a right.
            messages_per_second: what one user may publish in one channel, after a burst of `message_burst`.

        Raises:
            UsageError: the pattern is malformed or taken, an argument is not one of those above, or a method is
                misspelt or cannot be called.
        """
        self._refuse_late_declarations()
        if not isinstance(pattern, str):
            raise UsageError('a channel is declared with its pattern: write @app.channel("room:{name}")')
        if not isinstance(history, History | None):
            raise UsageError(f"history of the channel {pattern!r} is not a History(size, ttl)")
        if join_leave not in (True, False, "user"):
            raise UsageError(f'join_leave of the channel {pattern!r} is not True, False or "user"')
        if not isinstance(messages_per_second, int | float | None):
            raise UsageError(f"messages_per_second of the channel {pattern!r} is no number")
        if not isinstance(message_burst, int):
            raise UsageError(f"message_burst of the channel {pattern!r} is no whole number")
        if messages_per_second is not None and (messages_per_second <= 0 or message_burst < 1):
            raise UsageError(f"the channel {pattern!r} would let nobody publish: its rate and its burst are too small")

        def register(handler: C) -> C:
            instance = handler() if isinstance(handler, type) else handler
            self.channels.add(
                declared_by(
                    pattern,
                    instance,
                    history=history,
                    presence=presence,
                    announced="user" if join_leave == "user" else "connection" if join_leave else "off",
                    personal=personal,
                    token=token,
                    rate=Rate(messages_per_second, message_burst) if messages_per_second is not None else None,
                )
            )
            return handler

        return register

    def rpc(self, name: str) -> Callable[[F], F]:
        """Answer calls of clients of the channel protocol by `async def answer(connection, data)`.

        The annotation of the second parameter is the type that the data must have; without one it may be any JSON.
        What is returned is the answer; RejectedError becomes an error reply.

        Raises:
            UsageError: the name is taken or none that clients can say, or the function cannot be called so.
        """

        self._refuse_late_declarations()
        if not isinstance(name, str):
            raise UsageError('a procedure is declared with its name: write @app.rpc("name")')
        if clean(name) != name:
            raise UsageError(f"no client could call the procedure {name!r}: {UNNAMEABLE}")

        def register(function: F) -> F:
            if name in self.procedures:
                raise UsageError(f"the procedure {name!r} is there already")
            check(f"the procedure {name!r}", function, ANSWER)
            takes = annotation(function, 1)
            check_type(f"what the procedure {name!r} takes", takes)
            self.procedures[name] = Procedure(function, takes)
            return function

        return register

    def listen(self, channel: str) -> Callable[[L], L]:
        """Have `def heard(data, user)` called with everything that is published in one channel, and who published it.

        It is called on this node after the publication is kept; `user` is empty for what no client has published.
        It must not wait. What it raises is logged, and costs nobody anything.

        Raises:
            UsageError: somebody listens to it already, or the function cannot be called so.
        """

        self._refuse_late_declarations()
        if not isinstance(channel, str):
            raise UsageError('a channel is listened to by its name: write @app.listen("news")')
        if "{" in channel:
            raise UsageError('one channel is listened to, and not all that fit a pattern: write @app.listen("news")')

        def register(function: L) -> L:
            if channel in self.listeners:
                raise UsageError(f"there is something that listens to {channel!r} already")
            check(f"what listens to {channel!r}", function, HEAR)
            self.listeners[channel] = function
            return function

        return register

    def on_send(self, function: F) -> F:
        """Let `async def take(connection, data)` have what clients send without expecting an answer.

        Raises:
            UsageError: something takes them already, or the function cannot be called so.
        """
        self._refuse_late_declarations()
        if self.send_handler is not None:
            raise UsageError("there is something that takes messages already")
        check("what takes messages", function, ANSWER)
        self.send_handler = function
        return function

    # What it does while the server runs.

    async def publish(self, channel: str, data: object, *, key: str = "") -> None:
        """Publish in a channel as the application itself, which needs no right.

        Args:
            data: anything that can be JSON.
            key: an idempotency key: the same one twice is one publication.

        Raises:
            UsageError: no such channel is declared, or the server does not run.
            StorageError: it was not published.
        """
        await self._running.publish(channel, msgspec.json.encode(data), key=key)

    async def subscribe(self, user: str, channel: str, *, data: object = None) -> int:
        """Subscribe every connected client of a user to a channel; return how many did not hear it before.

        Raises:
            UsageError: no such channel is declared, or the server does not run.
            StorageError: the channel's position could not be read.
        """
        return await self._running.subscribe(user, channel, data=data)

    def unsubscribe(self, user: str, channel: str) -> int:
        """End a user's subscriptions of a channel at once; return how many. Whether they may come back, rights say."""
        return self._running.unsubscribe(user, channel)

    def disconnect(self, user: str) -> int:
        """Close every channel connection of a user, who is told not to come back by itself; return how many."""
        return self._running.disconnect(user)

    def send(self, user: str, data: object) -> int:
        """Send something to every connected client of a user, outside all channels; return to how many."""
        return self._running.message(user, data)

    def subscription_token(self, user: str, channel: str, *, seconds: float | None = None, info: object = None) -> str:
        """Return a token with which a user may subscribe to a channel that is declared with `token=True`.

        Args:
            seconds: how long it lasts, at most and by default as long as access tokens do.
            info: JSON that others are shown beside the user in this channel.

        Raises:
            UsageError: the server does not run.
        """
        if self._grants is None:
            raise UsageError("the server does not run yet")
        return self._grants(user, channel, seconds, msgspec.json.encode(info) if info is not None else None)

    def broadcast(self, path: str, message: str | bytes, *, but: Connection | None = None) -> None:
        """Send a message to every connection of an endpoint, save `but`. Before the server runs there are none."""
        if path == CHANNELS:
            raise UsageError("clients of the channel protocol hear channels: use app.publish or app.send")
        if self._hub is not None:
            self._hub.broadcast(path, message, but=but)

    @property
    def speaks_channels(self) -> bool:
        """Whether there is anything for which clients need the channel protocol."""
        return bool(self.channels.declared or self.procedures or self.send_handler)

    def complete(self) -> None:
        """Take no more declarations: the server is put together from those there are."""
        self._complete = True

    def bind(self, hub: Hub, control: Control | None = None, grants: Grants | None = None) -> None:
        """Tie the application to the connections and channels of a running server."""
        self._hub = hub
        self._control = control
        self._grants = grants

    def _refuse_late_declarations(self) -> None:
        """Refuse what is declared too late."""
        if self._complete:
            raise UsageError("the server runs: whatever there is must be declared before")

    @property
    def _running(self) -> Control:
        if self._control is None:
            raise UsageError("no channel is declared, or the server does not run yet")
        return self._control
