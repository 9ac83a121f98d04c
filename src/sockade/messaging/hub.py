"""The connections of this process: who is where, local delivery, the flush of each tick, and all their deadlines.

A message is framed once and the same bytes go into every outbox. Deadlines are looked at once a second, each
connection only when its next one is due, so that ten thousand idle connections cost a few hundred looks a second.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from sockade.guard.admit import Counts
from sockade.messaging.callbacks import run_callbacks
from sockade.messaging.frames import frame
from sockade.messaging.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sockade.clock import Clock
    from sockade.guard.identity import Identity, SessionId
    from sockade.guard.limiter import Limiter
    from sockade.messaging.connection import Connection
    from sockade.settings import LimitSettings

SWEEP_SECONDS = 1.0
CLOSES_A_SECOND = 1_000
"""How fast a drain closes: everyone at once would come back at once."""


class Hub:
    """All connections of one process. It lives on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: LimitSettings,
        idle_seconds: float,
        limiter: Limiter,
        report: Callable[[Connection, BaseException], None],
        closed: Callable[[Connection], None],
        seen: Callable[[SessionId], None],
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.monotonic = clock.monotonic
        self.limits = limits
        self.idle_seconds = idle_seconds
        self.limiter = limiter
        self.now = clock.monotonic()
        """Monotonic seconds, moved on by each sweep: precise enough for every deadline, and free to read."""
        self.connections: set[Connection] = set()
        self.report = report
        self._closed = closed
        self.seen = seen
        """Told of sessions whose connections are used, at most once for each look at their deadlines."""
        self._rooms: dict[str, Room] = {}
        self._users: defaultdict[str, set[Connection]] = defaultdict(set)
        self._sessions: defaultdict[str, set[Connection]] = defaultdict(set)
        self._dirty: list[Connection] = []
        self._dirty_rooms: list[Room] = []
        self.flush_due = False
        """Whether `flush` will be called in this tick anyway."""
        self._due: defaultdict[int, set[Connection]] = defaultdict(set)
        self._swept = int(self.now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = self._tasks.discard
        """Made once, and not for each connection."""

    def counts(self, user: str) -> Counts:
        """Return how many connections a user has, and how many there are."""
        mine = self._users.get(user)
        return Counts(user=len(mine) if mine else 0, total=len(self.connections))

    def register(self, connection: Connection) -> None:
        """Take a connection in, and start its callbacks."""
        self.connections.add(connection)
        connection.room.add(connection)
        self._index(connection)
        self.watch(connection, connection.check(self.monotonic()))
        task = connection.inbox.read(run_callbacks(connection, self.report))
        connection.task = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def unregister(self, connection: Connection) -> None:
        """Let a connection go."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._forget(connection)
        connection.room.remove(connection)
        self._unindex(connection)
        self._closed(connection)

    def identify(self, connection: Connection, identity: Identity) -> None:
        """Let a connection be somebody's: whoever ends that user's or session's connections finds it."""
        if connection in self.connections:
            self._unindex(connection)
            connection.identity = identity
            self._index(connection)

    def _index(self, connection: Connection) -> None:
        identity = connection.identity
        self._users[identity.user].add(connection)
        if identity.session is not None:
            self._sessions[identity.session].add(connection)

    def _unindex(self, connection: Connection) -> None:
        identity = connection.identity
        discard(self._users, identity.user, connection)
        if identity.session is not None:
            discard(self._sessions, identity.session, connection)

    # Delivery.

    def room(self, path: str) -> Room:
        """Return the room of an endpoint."""
        return self._rooms.get(path) or self._rooms.setdefault(path, Room())

    def broadcast(self, path: str, message: str | bytes, *, but: Connection | None = None) -> None:
        """Queue a message for every connection of an endpoint, save `but`."""
        room = self._rooms.get(path)
        if room is not None and room.members:
            if not room.unsent:
                self._dirty_rooms.append(room)
                if not self.flush_due:
                    self._flush_soon()
            room.unsent.append((frame(message), but))

    def flush_soon(self, connection: Connection) -> None:
        """Flush what is queued for a connection at the end of this tick, together with all else."""
        self._dirty.append(connection)
        if not self.flush_due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self.flush_due = True
        self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand everything that is queued to the transports, which run none of the application's code meanwhile.

        Connections come first: what they have in their outboxes was queued before what is left to their rooms.
        """
        self.flush_due = False
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()
        rooms, self._dirty_rooms = self._dirty_rooms, []
        for room in rooms:
            room.flush()

    # Deadlines.

    def watch(self, connection: Connection, at: float) -> None:
        """Look at a connection's deadlines at a monotonic time, unless that happens sooner anyway."""
        if at == math.inf:
            return
        second = max(math.ceil(at), self._swept + 1)
        if not self._swept < connection.check_at <= second:
            self._forget(connection)
            connection.check_at = second
            self._due[second].add(connection)

    def _forget(self, connection: Connection) -> None:
        """Take a connection's next look out: one that is gone must not be kept until it would have been due."""
        due = self._due.get(connection.check_at)
        if due is not None:
            due.discard(connection)
            if not due:
                del self._due[connection.check_at]

    def sweep(self) -> None:
        """Act on every deadline that is due. Called once a second."""
        self.now = self.clock.monotonic()
        for second in range(self._swept + 1, int(self.now) + 1):
            self._swept = second
            for connection in self._due.pop(second, ()):
                if connection in self.connections:
                    self.watch(connection, connection.check(self.now))

    # Endings.

    def end_sessions(self, sessions: Iterable[SessionId], code: int, reason: str) -> None:
        """Close every connection of some sessions."""
        for session in sessions:
            for connection in list(self._sessions.get(session, ())):
                connection.close(code, reason)

    def renew_session(self, identity: Identity, lifetime: float) -> None:
        """Let every connection of an identity's session go on with it for `lifetime` seconds from now."""
        expires_at = self.clock.monotonic() + lifetime
        for connection in list(self._sessions.get(identity.session or "", ())):
            connection.renew(identity, expires_at)

    async def drain(self, code: int, reason: str, seconds: float) -> None:
        """Close every connection, spread over a part of `seconds`, and wait for their callbacks; then cancel."""
        end = self.clock.monotonic() + seconds
        pause = SWEEP_SECONDS / 10
        waiting = list(self.connections)
        batch = max(int(CLOSES_A_SECOND * pause), math.ceil(len(waiting) / (seconds / 3 / pause)))
        while waiting:
            for connection in waiting[:batch]:
                connection.close(code, reason)
            del waiting[:batch]
            await asyncio.sleep(pause if waiting else 0)
        while self._tasks and (left := end - self.clock.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=min(left, SWEEP_SECONDS))
            self.sweep()
        for connection in list(self.connections):
            connection.drop("drain")
        for task in self._tasks:
            task.cancel()


def discard(index: defaultdict[str, set[Connection]], key: str, connection: Connection) -> None:
    """Take a connection out of an index, and the key with the last one."""
    members = index[key]
    members.discard(connection)
    if not members:
        del index[key]
