"""Everyone on one endpoint, and what goes to all of them at the end of this tick.

A broadcast is noted once, not in the outbox of each receiver; the flush then writes the same bytes to everyone who
has nothing else waiting. Whoever has hears it through the outbox, so that what each connection was sent keeps its
order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.messaging.connection import Connection


class Room:
    """The open connections of one endpoint."""

    __slots__ = ("aside", "members", "unsent")

    def __init__(self) -> None:
        self.members: dict[Connection, Callable[[bytes], None]] = {}
        """Each with its `write`: sending looks at nothing else of those who have nothing else waiting."""
        self.aside: set[Connection] = set()
        """Whose outbox takes what is broadcast, because something precedes it."""
        self.unsent: list[tuple[bytes, Connection | None]] = []
        """The frames of this tick, each with the connection it does not go to."""

    def add(self, connection: Connection) -> None:
        """Let a connection hear what is broadcast from now on."""
        self.members[connection] = connection.write
        connection.heard = len(self.unsent)
        if connection.heard:
            self.aside.add(connection)

    def remove(self, connection: Connection) -> None:
        """Let a connection hear nothing more."""
        self.members.pop(connection, None)
        self.aside.discard(connection)

    def flush(self) -> None:
        """Send everyone what was broadcast: one write each."""
        unsent, self.unsent = self.unsent, []
        members = self.members
        aside = [one for one in self.aside.union(but for _, but in unsent if but is not None) if one in members]
        for connection in aside:
            members[connection] = later
        data = b"".join([data for data, _ in unsent])
        for write in tuple(members.values()):  # a write may end one
            write(data)
        for connection in aside:
            members[connection] = connection.write
            connection.hear(unsent)


def later(data: bytes) -> None:
    """Stand in for the `write` of a connection whose outbox takes what is broadcast."""
