"""One admitted connection: what the application holds, its outbox, its deadlines.

It neither parses nor encrypts: the transport does. It decides nothing about who may connect: that is done when it
comes to be. It always holds that callbacks run one at a time, and that nothing is sent after `close`.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from sockade.errors import UsageError
from sockade.guard.messages import TOO_FAST, TOO_MANY_INVALID, Close, Reject, decide
from sockade.messaging.callbacks import END, FAILURES
from sockade.messaging.frames import frame, is_close_code
from sockade.messaging.inbox import Inbox
from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sockade.guard.handshake import Refuse
    from sockade.guard.identity import ConnectionId, Identity
    from sockade.messaging.client import Client
    from sockade.messaging.endpoint import Endpoint
    from sockade.messaging.hub import Hub
    from sockade.messaging.transport import Transport
    from sockade.protocol.reasons import Reason

INBOX_MESSAGES = 16
"""Messages that may wait for a slow callback before the peer is held back."""
EXPIRY_NOTICE_SECONDS = 60
REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame carries 125 bytes, two of which are the code."""
NOT_PLAIN = "clients of the channel protocol hear channels: use app.publish or app.send"
NOT_HEARD = frozenset((CloseCode.POLICY_VIOLATION, CloseCode.CREDENTIAL_EXPIRED, CloseCode.FORBIDDEN))
"""Whoever is closed with one of these has lost what they were admitted by: what waits of them goes nowhere."""


class Connection:
    """One open WebSocket, as the application sees it."""

    __slots__ = (
        "_abort_at",
        "_active_at",
        "_partial_at",
        "_paused_at",
        "_ping_at",
        "_pong_by",
        "_progress",
        "_seen_at",
        "_state",
        "_taken",
        "_warn_at",
        "address",
        "check_at",
        "client",
        "close_code",
        "close_reason",
        "confirm",
        "controls",
        "endpoint",
        "expires_at",
        "flush_due",
        "heard",
        "hub",
        "id",
        "identity",
        "inbox",
        "is_open",
        "outbox",
        "reading_paused",
        "room",
        "standing",
        "task",
        "transport",
        "write",
    )

    def __init__(
        self,
        id: ConnectionId,  # noqa: A002 - the word for it
        identity: Identity,
        endpoint: Endpoint,
        address: str,
        transport: Transport,
        hub: Hub,
        expires_at: float,
        *,
        controls: bool = False,
    ) -> None:
        self.id = id
        """The id under which the log knows this connection."""
        self.identity = identity
        """Who is at the other end."""
        self.address = address
        self.endpoint = endpoint
        self.close_code: int | None = None
        """The close code the peer sent, or else the one it was sent; None if the connection just went away."""
        self.close_reason = ""
        self.is_open = True
        """False from the moment either side begins to close."""

        self.transport = transport
        self.write = transport.write
        self.hub = hub
        self.room = hub.room(endpoint.path)
        self.controls = controls
        self.confirm: Callable[[Identity], Identity | Refuse] | None = None
        """Admits who says who they are in their first message only; None once that is done, or was before the 101."""
        self.standing = hub.limiter.standing(identity.user or id, hub.now)
        self.inbox: Inbox[Any] = Inbox(hub.loop)
        self.task: asyncio.Task[None] | None = None
        self.outbox: list[bytes] = []
        self.flush_due = False
        self.heard = 0
        """How many of the messages that its room has yet to send are in the outbox already, or are none of its."""
        self.client: Client | None = None
        """Who is at the other end, where the channel protocol is spoken."""
        self._state: SimpleNamespace | None = None
        self.reading_paused = False

        # Deadlines, in monotonic seconds; infinite where nothing is awaited.
        now = hub.now
        self.expires_at = expires_at
        self._warn_at = expires_at - EXPIRY_NOTICE_SECONDS if controls else math.inf
        self._partial_at = math.inf
        self._active_at = now
        self._seen_at = now
        self._ping_at = now + hub.limits.ping_seconds
        self._pong_by = math.inf
        self._paused_at = math.inf
        self._progress = 0
        self._taken: asyncio.Future[None] | None = None
        self._abort_at = math.inf
        self.check_at = 0

    # What the application calls.

    @property
    def state(self) -> SimpleNamespace:
        """The application's own data about this connection, kept as attributes for as long as it lives."""
        if self._state is None:
            self._state = SimpleNamespace()
        return self._state

    def send(self, message: str | bytes) -> bool:
        """Queue a message for this connection; False if it is closing, when nothing can be sent any more.

        Raises:
            UsageError: the client speaks the channel protocol, and would take it for a broken reply.
        """
        if self.client is not None:
            raise UsageError(NOT_PLAIN)
        if self.is_open:
            self.queue(frame(message))
        return self.is_open

    def broadcast(self, message: str | bytes) -> None:
        """Queue a message for every other connection of this endpoint, which is one of plain messages."""
        if self.client is not None:
            raise UsageError(NOT_PLAIN)
        self.hub.broadcast(self.endpoint.path, message, but=self)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close after what is queued, with a close code of RFC 6455 §7.4 and a reason of at most 123 bytes.

        Raises:
            UsageError: the code is none that may be sent, or the reason is no text.
        """
        if not is_close_code(code):
            raise UsageError(f"no connection is closed with {code!r}: there are 1000 to 1014 and 3000 to 4999")
        if not isinstance(reason, str):
            raise UsageError(f"the reason of a close is a text, and not {reason!r}")
        if not self.is_open:
            return
        told = reason.encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")
        self.closing()
        if code in NOT_HEARD:
            self.inbox.items.clear()
        self.transport.close(self.endpoint.codes.get(code, code), told)

    # What the channel protocol calls.

    def push(self, message: bytes) -> bool:
        """Queue a message of the protocol's own, JSON; False if the connection is closing."""
        if self.is_open:
            self.queue(frame(message.decode()))
        return self.is_open

    # What the hub calls.

    def tell(self, **fact: object) -> None:
        """Send a control message, where the client asked for them by the subprotocol `sockade`."""
        if self.controls and self.is_open:
            self.queue(frame(msgspec.json.encode({"sockade": fact}).decode()))

    def renew(self, identity: Identity, expires_at: float) -> None:
        """Go on with a renewed credential: its rights hold from now on, and its end (monotonic seconds)."""
        self.hub.identify(self, identity)
        self.expires_at = expires_at
        self._warn_at = expires_at - EXPIRY_NOTICE_SECONDS if self.controls else math.inf
        self.hub.watch(self, self._next_deadline())
        if self.endpoint.on_renew is not None:
            try:
                self.endpoint.on_renew(self)
            except FAILURES as error:
                # What cannot be told to be permitted is not; and the session's other connections go on.
                self.hub.report(self, error)
                self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def queue(self, data: bytes) -> None:
        """Put one frame into the outbox, behind what its room has yet to send; it is flushed this tick."""
        if self.room.unsent:
            self.catch_up(self.room.unsent)
        self.outbox.append(data)
        if not self.flush_due:
            self.flush_due = True
            self.hub.flush_soon(self)

    def catch_up(self, unsent: Sequence[tuple[bytes, Connection | None]]) -> None:
        """Put into the outbox what its room has yet to send."""
        self.outbox += [data for data, but in unsent[self.heard :] if but is not self]
        self.heard = len(unsent)
        self.room.aside.add(self)

    def hear(self, unsent: Sequence[tuple[bytes, Connection | None]]) -> None:
        """Send what its room sends, behind what precedes it; from then on it comes directly, if nothing does."""
        self.catch_up(unsent)
        self.heard = 0
        if self._paused_at == math.inf:
            self.room.aside.discard(self)
        self.flush()

    def flush(self) -> None:
        """Hand the outbox to the transport in one write, or find out that the peer does not read."""
        self.flush_due = False
        outbox = self.outbox
        if not outbox:
            return
        if self._paused_at != math.inf:
            limits = self.hub.limits
            unsent = self.transport.unsent_bytes() + sum(map(len, outbox))
            if len(outbox) > limits.outbox_messages or unsent > limits.outbox_bytes:
                self.drop("slow_consumer")
            return
        data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
        outbox.clear()
        self.write(data)

    def drop(self, reason: str) -> None:
        """Abort without a closing handshake: the peer does not read, or does not answer."""
        self.is_open = False
        self._go_on()
        self.room.remove(self)
        self.outbox.clear()
        self.close_reason = self.close_reason or reason
        self.transport.abort()

    def check(self, now: float) -> float:
        """Act on every deadline that has passed, and return when to look again (monotonic seconds)."""
        limits = self.hub.limits
        if now >= self._abort_at or now >= self._pong_by:
            self.drop("no_pong" if self.is_open else "close_timeout")
            return math.inf
        if not self.is_open:
            return self._abort_at
        if self._active_at > self._seen_at and self.identity.session is not None:
            self._seen_at = self._active_at
            self.hub.seen(self.identity.session)
        if now >= self.expires_at:
            self.close(CloseCode.CREDENTIAL_EXPIRED, "credential expired")
        elif now >= self._warn_at:
            self._warn_at = math.inf
            self.tell(expires_in=round(self.expires_at - now))
        elif now >= self._active_at + self.hub.idle_seconds:
            self.close(CloseCode.IDLE, "idle")
        elif now >= self._partial_at + limits.message_seconds:
            self.close(CloseCode.POLICY_VIOLATION, "message took too long")
        elif self._is_stalled(now):
            self.drop("slow_consumer")
        elif now >= self._ping_at:
            self._ping_at = now + limits.ping_seconds
            if not self.reading_paused:
                self._pong_by = now + limits.pong_seconds
            # An SDK takes a server that is silent for gone, whether its own answers are read or not.
            if self.endpoint.heartbeat is not None:
                self.queue(self.endpoint.heartbeat)
            elif not self.reading_paused:
                self.transport.ping()
        return self._next_deadline()

    def _is_stalled(self, now: float) -> bool:
        """Tell whether a paused write has made no progress for too long."""
        if self._paused_at == math.inf:
            return False
        unsent = self.transport.unsent_bytes()
        if unsent < self._progress:
            self._paused_at = now
        self._progress = unsent
        return now >= self._paused_at + self.hub.limits.stall_seconds

    def _next_deadline(self) -> float:
        limits = self.hub.limits
        return min(
            self.expires_at,
            self._warn_at,
            self._active_at + self.hub.idle_seconds,
            self._partial_at + limits.message_seconds,
            self._paused_at + limits.stall_seconds / 2,
            self._ping_at,
            self._pong_by,
            self._abort_at,
        )

    # What the transport calls.

    def receive(self, message: str | bytes) -> None:
        """Take one whole message."""
        if not self.is_open:
            return
        hub, endpoint = self.hub, self.endpoint
        if endpoint.pong is not None and message == endpoint.pong:
            self.receive_pong()
            return
        self._active_at = hub.now
        try:
            decision = decide(message, endpoint.rules, self.standing, self.expires_at, hub.monotonic())
        except FAILURES as error:  # The application's type may have code of its own.
            hub.report(self, error)
            self.close(CloseCode.INTERNAL_ERROR, "internal error")
            return
        if decision is not message:  # which is the usual answer
            if isinstance(decision, Reject):
                self._reject(message, decision.reason)
                return
            if isinstance(decision, Close):
                self._close_for_cause(decision)
                return
        inbox = self.inbox
        inbox.put(decision)
        if len(inbox.items) >= INBOX_MESSAGES and not self.reading_paused:
            self.reading_paused = True
            # What is not read cannot be answered or completed: its deadlines wait as well.
            self._pong_by = self._partial_at = math.inf
            self.transport.pause_reading()

    def _reject(self, message: str | bytes, reason: Reason) -> None:
        if self.endpoint.on_reject is not None:
            self.endpoint.on_reject(self, message, reason)
        else:
            self.tell(rejected=reason)

    def caught_up(self) -> None:
        """Note that the callbacks have taken what waited; the peer may send again."""
        if self.reading_paused:
            self.reading_paused = False
            if self.is_open:
                self.transport.resume_reading()

    def receive_pong(self) -> None:
        """Note that the peer answers."""
        if self._pong_by != math.inf:
            self._pong_by = math.inf
        else:
            self.receive_ping()

    def receive_ping(self) -> None:
        """Count a control frame that nobody asked for like a message: it costs as much."""
        if self.is_open:
            self.allow_one_more()

    def allow_one_more(self) -> bool:
        """Count a further command of one message like a message; False over the rate."""
        taken = self.standing.take(0, self.hub.monotonic())
        if taken is False:
            self.count_violation(TOO_FAST)
        return bool(taken)

    def allow_subscription(self, *, counted: bool) -> bool:
        """Count a subscription as one, and give back what it was `counted` as a message; False where it stays one."""
        allowed = self.standing.subscribe(self.hub.monotonic())
        if allowed and counted:
            self.standing.give_back()
        return allowed

    def count_violation(self, too_many: Close = TOO_MANY_INVALID) -> None:
        """Count something that was rejected, and close when there was too much of it."""
        if not self.standing.violate(self.hub.monotonic()):
            self._close_for_cause(too_many)

    def _close_for_cause(self, decision: Close) -> None:
        if decision.strike:
            self.hub.limiter.strike(self.identity.user, self.address, self.hub.monotonic())
        self.close(decision.code, decision.reason)

    def partial(self, incomplete: bool) -> None:
        """Note whether a message is incomplete; its deadline runs from its first bytes."""
        self._partial_at = self.hub.now if incomplete else math.inf
        if incomplete:
            self.hub.watch(self, self._partial_at + self.hub.limits.message_seconds)

    def pause_writing(self) -> None:
        """Note that the peer does not take what is sent."""
        self._paused_at = self.hub.now
        self.room.aside.add(self)
        self._progress = self.transport.unsent_bytes()
        self.hub.watch(self, self._paused_at + self.hub.limits.stall_seconds / 2)

    def resume_writing(self) -> None:
        """Note that the peer takes what is sent again."""
        self._paused_at = math.inf
        if self.is_open:
            self.flush()
        self._go_on()

    async def until_taken(self) -> None:
        """Wait while the peer does not take what is sent, and is there."""
        while self._paused_at != math.inf and self.is_open:
            self._taken = self.hub.loop.create_future()
            await self._taken

    def _go_on(self) -> None:
        """Let go on who waited for the peer."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    def closing(self) -> None:
        """Note that either side begins to close; what is queued goes first, and then TCP is given a while to end."""
        if self.is_open:
            self.catch_up(self.room.unsent)
            self._paused_at = math.inf  # whatever the peer has taken so far
            self.flush()
            self.is_open = False
            self._go_on()
            self.room.remove(self)
            self._abort_at = self.hub.now + self.hub.limits.close_seconds
            self.hub.watch(self, self._abort_at)
            if self.reading_paused:
                # The end of a connection is only seen by reading; messages are ignored by now.
                self.transport.resume_reading()

    def lost(self, code: int | None, reason: str) -> None:
        """Note that the peer is gone: the last thing a connection hears."""
        self.is_open = False
        self._go_on()
        self.close_code = code
        self.close_reason = self.close_reason or reason
        self.outbox.clear()
        self._abort_at = self._pong_by = math.inf
        self.hub.unregister(self)
        try:
            if self.endpoint.on_lost is not None:
                self.endpoint.on_lost(self)
        finally:
            self.inbox.put(END)
