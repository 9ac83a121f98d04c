"""Everyone on one endpoint, and what goes to all of them at the end of this tick.

A broadcast is noted once, not in the outbox of each receiver; the flush then writes the same bytes to everyone who
has nothing else waiting. Whoever has hears it through the outbox, so that what each connection was sent keeps its
order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockade.messaging.connection import Connection


class Room:
    """The open connections of one endpoint."""

    __slots__ = ("members", "unsent")

    def __init__(self) -> None:
        self.members: set[Connection] = set()
        self.unsent: list[tuple[bytes, Connection | None]] = []
        """The frames of this tick, each with the connection it does not go to."""

    def add(self, connection: Connection) -> None:
        """Let a connection hear what is broadcast from now on."""
        self.members.add(connection)
        connection.heard = len(self.unsent)
        connection.settle()

    def flush(self) -> None:
        """Send everyone what was broadcast: one write each."""
        unsent, self.unsent = self.unsent, []
        for _, but in unsent:
            if but in self.members:
                but.aside = True
        data = b"".join([data for data, _ in unsent])
        aside = []
        for connection in tuple(self.members):  # a write may end one
            if connection.aside:
                aside.append(connection)
            else:
                write = connection.write  # CPython 3.11 is slow to call what a slot holds in one step
                write(data)
        for connection in aside:
            connection.catch_up(unsent)
            connection.heard = 0
            connection.settle()
            connection.flush()
