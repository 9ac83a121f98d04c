"""Calls an ASGI application without a server, and remembers what the audit log was told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp, Message

    from sockade.protocol.events import Event


@dataclass
class Answer:
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def cookie(self) -> str:
        """The value of the session cookie that was set."""
        header = self.header("set-cookie")
        assert header is not None
        return header.partition(";")[0].removeprefix("__Host-sockade=")


@dataclass
class Trail:
    """An audit log for tests."""

    lines: list[dict[str, str]] = field(default_factory=list)

    def record(self, event: Event, **fields: str) -> None:
        self.lines.append({"event": event.value, **fields})


@dataclass
class Client:
    """Sends requests to an application."""

    app: ASGIApp

    async def send(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        chunks: Sequence[bytes] = (),
        query: str = "",
        *,
        hang: bool = False,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> Answer:
        """Send a request; with `hang` the end of its body never comes, and `meanwhile` happens just before it does."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": ("192.0.2.1", 5),
            "server": ("localhost", 8443),
        }
        waiting: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
        if not hang:
            waiting.append({"type": "http.request", "body": b"", "more_body": False})
        sent: list[Message] = []

        async def receive() -> Message:
            if hang and not waiting:
                await asyncio.Event().wait()
            if meanwhile is not None and len(waiting) == 1:
                await meanwhile()
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = sent[0]
        pairs = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in start["headers"]]
        return Answer(start["status"], pairs, b"".join(message.get("body", b"") for message in sent[1:]))
