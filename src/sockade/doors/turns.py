"""The turns of those who sent something: many are read, then all of them are heard, then all of them are answered.

Reading, hearing and answering are each much code: the kernel, TLS, the interpreter. Doing one of them for many
connections in a row finds that code in the processor's caches; doing all of it for one connection after the other
costs up to half as much again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockade.doors.websocket import WebSocketDoor
    from sockade.messaging.hub import Hub

TOGETHER = 64
"""How many are read at most before they are heard, so that what waits is bounded."""


class Turns:
    """Who waits to be heard, in the order they came; whom one turn was not enough comes behind all others."""

    __slots__ = ("_due", "_hub", "_more", "_waiting")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: list[WebSocketDoor] = []
        self._more: list[WebSocketDoor] = []
        self._due = False

    def add(self, door: WebSocketDoor) -> None:
        """Give a turn to a door that was just read, as soon as others were read as well."""
        waiting = self._waiting
        waiting.append(door)
        if not self._due:
            self._soon()
        if len(waiting) >= TOGETHER:
            self._hear_waiting()

    def again(self, door: WebSocketDoor) -> None:
        """Give one more turn to a door, when those who came meanwhile were heard and answered."""
        self._more.append(door)
        if not self._due:
            self._soon()

    def _soon(self) -> None:
        self._due = True
        self._hub.loop.call_soon(self._round)

    def _round(self) -> None:
        self._due = False
        more, self._more = self._more, []
        if self._waiting:
            self._hear_waiting()
        if more:
            self._hear(more)

    def _hear_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._hear(waiting)

    def _hear(self, doors: list[WebSocketDoor]) -> None:
        """Let each door have a turn, and send what that brought."""
        hub = self._hub
        hub.flush_due = True
        for door in doors:
            try:
                door.take_turn()
            except Exception as error:  # noqa: BLE001 - whatever it is: the others have their turn
                door.broken(error)
        hub.flush()
