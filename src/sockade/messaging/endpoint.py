"""What the server calls: an endpoint's callbacks, a procedure, and the files that say what their messages are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sockade.errors import UsageError
from sockade.guard.schemas import compile_schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from sockade.guard.messages import MessageRules
    from sockade.guard.schemas import Schema
    from sockade.messaging.connection import Connection
    from sockade.protocol.reasons import Reason

    OnConnection = Callable[[Connection], Awaitable[None]]
    OnMessage = Callable[[Connection, Any], Awaitable[None]]
    OnError = Callable[[Connection, BaseException], Awaitable[None]]


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
    pong: str | None = None
    """The message that answers it."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """What close codes become on this endpoint."""
    on_reject: Callable[[Connection, str | bytes, Reason], None] | None = None
    """Told of a message that goes nowhere, instead of the peer."""
    on_renew: Callable[[Connection], None] | None = None
    """Told when the rights of a connection may have changed."""
    on_lost: Callable[[Connection], None] | None = None
    """Told when a connection is gone, whatever its callbacks still wait for; `on_close` comes behind them."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """What answers calls by one name, and the type of what it takes."""

    function: Callable[[Connection, Any], Awaitable[Any]]
    takes: Any


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
