"""The turns of those who sent something: many are read, then all of them are heard, then all of them are answered.

Reading, hearing and answering are each much code: the kernel, TLS, the interpreter. Doing one of them for many
connections in a row finds that code in the processor's caches; doing all of it for one connection after the other
costs half as much again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockade.doors.websocket import WebSocketDoor
    from sockade.messaging.hub import Hub

TOGETHER = 64
"""How many are read at most before they are heard: what waits is bounded, and what it needs is still in the caches."""


class Turns:
    """Who waits to be heard, in the order they came."""

    __slots__ = ("_hub", "_waiting")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: list[WebSocketDoor] = []

    def add(self, door: WebSocketDoor) -> None:
        """Give a turn to a door that was just read, as soon as others were read as well."""
        waiting = self._waiting
        if not waiting:
            self._hub.loop.call_soon(self._take)
        waiting.append(door)
        if len(waiting) >= TOGETHER:
            self._take()

    def again(self, door: WebSocketDoor) -> None:
        """Give a turn to a door in the loop's next round."""
        if not self._waiting:
            self._hub.loop.call_soon(self._take)
        self._waiting.append(door)

    def _take(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:  # they were too many to wait for the loop
            return
        hub = self._hub
        hub.flush_due = True  # below, with whatever is queued meanwhile
        for door in waiting:
            try:
                door.take_turn()
            except Exception as error:  # noqa: BLE001 - whatever it is: the others have their turn
                door.broken(error)
        hub.flush()
