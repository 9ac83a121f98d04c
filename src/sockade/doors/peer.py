"""One accepted socket, as whoever has it at the moment sees it: the listener, the HTTP door, admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket

    from sockade.doors.listener import Listener
    from sockade.guard.handshake import Head, Refuse
    from sockade.guard.identity import ConnectionId


class Peer:
    """One accepted socket, from the accept until it is gone."""

    __slots__ = (
        "_listener",
        "accepted_at",
        "address",
        "client",
        "dropped",
        "id",
        "is_proxy",
        "key",
        "silent",
        "task",
        "transport",
    )

    def __init__(
        self,
        listener: Listener,
        id: ConnectionId,  # noqa: A002 - the word for it
        address: str,
        accepted_at: float,
        *,
        is_proxy: bool,
    ) -> None:
        self._listener = listener
        self.id = id
        self.address = address
        self.client = address
        """For whom the peer speaks: itself, or the client of its latest request if it is a trusted proxy."""
        self.is_proxy = is_proxy
        self.key: str | None = None
        """What it is counted under; None as long as a proxy has not said for whom it speaks."""
        self.accepted_at = accepted_at
        self.silent: socket.socket | None = None
        """The socket, as long as nothing but its ClientHello is awaited."""
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.dropped = False

    def asks(self, head: Head) -> Refuse | None:
        """Note that this peer has shown a request, and judge for whom it speaks."""
        return self._listener.judge_request(self, head)

    def admitted(self) -> None:
        """Note that this peer is a connection now: it no longer makes room for others."""
        self._listener.settle(self)

    def gone(self) -> None:
        """Note that the socket is closed."""
        self._listener.release(self)

    def drop(self) -> None:
        """End it at once, whatever it is at."""
        self.dropped = True
        if self.silent is not None:
            self._listener.hang_up(self, self.silent)
        if self.task is not None:
            self.task.cancel()
        if self.transport is not None:
            self.transport.abort()
