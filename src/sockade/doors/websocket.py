"""The WebSocket door: bytes in, whole messages out, and back. RFC 6455 itself is `websockets`' ServerProtocol.

It exists only after admission, and the protocol only once a frame comes that `Heads` does not know: to most connections
that is the one that ends them. It assembles messages within the limits on size, fragments and time, and hands them
to the connection; what the connection writes goes to the TLS transport as it is. What is read waits for its turn
(`Turns`): what one turn brings is answered in one write, as far as the answers are there by then.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from sockade.doors.heads import LONG, SHORT
from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.extensions import Extension

    from sockade.doors.heads import Heads
    from sockade.doors.turns import Turns
    from sockade.messaging.connection import Connection
    from sockade.settings import LimitSettings


READ_BYTES = 65_536
"""What one read takes at most."""
TURN_MESSAGES, TURN_BYTES = 32, 8_192
"""How many messages one turn takes, a burst that the default limits allow among them, and how many bytes may wait."""
PARSED_BYTES = 4_096
"""What the parser is given at once: a frame of six bytes costs it microseconds, and nobody else is heard meanwhile."""
TEXT, PONG = Opcode.TEXT, Opcode.PONG
"""Named here for what is done with every message: an enum looks its members up anew each time."""
PING = Frame(Opcode.PING, b"").serialize(mask=False)
"""It carries nothing, so the same bytes serve every peer."""

logger = logging.getLogger("sockade.websockets")
logger.setLevel(logging.WARNING)  # the protocol would say at each frame what the audit log says once


@dataclass(slots=True)
class Ledger:
    """What the connections share: turns, heads, one read buffer, and the bytes of incomplete messages they hold."""

    heads: Heads
    turns: Turns
    incomplete: int = 0
    memory: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, READ_BYTES))
    """Where the transport puts what it reads. Taken out before the next read, so one serves all.

    It maps no file: what is cut out of a mapping is bytes at once, and of a view only in a second step.
    """
    buffer: memoryview = field(init=False)
    """The same, for the transport to cut."""

    def __post_init__(self) -> None:
        self.buffer = memoryview(self.memory)


class WebSocketDoor(asyncio.BufferedProtocol):
    """One admitted WebSocket: the transport of its connection."""

    __slots__ = (
        "_at_head",
        "_begun",
        "_extensions",
        "_fragments",
        "_gone",
        "_held",
        "_ignored",
        "_ledger",
        "_limits",
        "_made",
        "_message_bytes",
        "_opcode",
        "_paused",
        "_stopped",
        "_transport",
        "_waiting",
        "connection",
        "write",
    )

    connection: Connection

    def __init__(
        self,
        transport: asyncio.Transport,
        extensions: Sequence[Extension],
        message_bytes: int,
        limits: LimitSettings,
        ledger: Ledger,
        gone: Callable[[], None],
    ) -> None:
        self._transport = transport
        # aiofastnet's leaves out the checks of thread and type: both are always right here.
        self.write: Callable[[bytes], None] = getattr(transport, "write_nocheck", transport.write)
        """Send frames that are already serialized."""
        self._extensions = extensions
        self._message_bytes = message_bytes
        self._made: ServerProtocol | None = None
        self._limits = limits
        self._ledger = ledger
        self._gone = gone
        self._opcode: Opcode | None = None
        self._fragments: list[bytes | bytearray | memoryview] | None = None
        self._held = 0
        self._ignored = 0
        """How many bytes have come that nobody hears any more: after the closing frame."""
        self._begun = b""
        """The beginning of a frame whose head is known; what comes next continues it."""
        self._waiting = b""
        """What was read and waits for its turn."""
        self._stopped = False
        """Whether nothing more is read until that is taken."""
        self._paused = False
        """Whether the connection wants nothing from the peer for now."""
        self._at_head = not extensions and self._has_full_limit()
        """Whether what comes next begins (or, after `_begun`, continues) a whole frame that is not compressed."""

    @property
    def _protocol(self) -> ServerProtocol:
        """What speaks RFC 6455 with this client, made when it is first needed."""
        if self._made is None:
            self._made = ServerProtocol(state=State.OPEN, max_size=self._message_bytes, logger=logger)
            self._made.extensions = list(self._extensions)
        return self._made

    def allow(self, message_bytes: int) -> None:
        """Take messages as long as this from now on."""
        self._message_bytes = message_bytes
        if self._made is not None:
            self._made.max_message_size = message_bytes

    # What the TLS transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._ledger.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._ledger.memory[:nbytes])

    def data_received(self, data: bytes) -> None:
        """Let bytes of the client wait for their turn."""
        if self._waiting:
            self._waiting += data
        else:
            self._waiting = data
            if not self._paused:
                self._ledger.turns.add(self)
        if len(self._waiting) >= TURN_BYTES:
            self._stop()

    def take_turn(self) -> None:
        """Take what waits, or as much of it as one turn may; the rest waits for the next."""
        data = self._waiting
        if not data or self._paused:
            return
        self._waiting = b""
        if self._begun:
            data, self._begun = self._begun + data, b""
        if self._at_head:
            data = self._take_known(data)
        if data:
            self._parse(data)
        if self._stopped and not self._paused:
            self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._ledger.turns.again(self)
        else:
            self._stopped = False
            self._resume_transport()

    def _take_all(self) -> None:
        """Take all that waits: nothing comes after it."""
        try:
            while self._waiting:
                self._paused = False
                self.take_turn()
        except Exception as error:  # noqa: BLE001 - whatever it is: the end must be noted
            self.broken(error)

    def broken(self, error: Exception) -> None:
        """End what cannot go on, as a transport does when its protocol fails."""
        self._waiting = b""
        context = {"message": "a connection broke", "exception": error, "protocol": self, "transport": self._transport}
        self.connection.hub.loop.call_exception_handler(context)
        self.abort()

    def _stop(self) -> None:
        """Read no more until what waits is taken: one who sends much at once must not keep the others waiting."""
        if not self._stopped:
            self._stopped = True
            self._pause_transport()

    def _take_known(self, data: bytes) -> bytes:
        """Take the whole messages and pongs whose heads are known, and return what is left to the parser."""
        heads = self._ledger.heads
        known = heads.known
        at, size, left = 0, len(data), TURN_MESSAGES
        while self._at_head and at < size:
            if not left or self._paused:
                self._waiting, size = data[at:], at
                self._stop()
                break
            left -= 1
            head = known.get(data[at : at + SHORT]) or known.get(data[at : at + LONG])
            if head is None and (head := heads.learn(data[at:])) is None:
                break
            opcode, mask_at, payload_at, end = head
            if at + end > size:
                if end <= TURN_BYTES:  # a larger one is the parser's: joining it piece by piece would copy much
                    self._begun, size = data[at:], at
                break
            payload = at + payload_at
            mask, at = data[at + mask_at : payload], at + end
            if opcode is PONG:
                self.connection.receive_pong()
            else:
                self._deliver(opcode, apply_mask(data[payload:at], mask))
        if self._held and at:
            self._release()
        if self._begun:
            self._hold(len(self._begun) - self._held)
        return data[at:size]

    def _parse(self, data: bytes) -> None:
        """Have the protocol take bytes apart until it finds frames in them; the rest waits for the next turn."""
        protocol = self._protocol
        size, events = 0, protocol.events_received()
        while not events and size < len(data):
            protocol.receive_data(data[size : size + PARSED_BYTES])
            events = protocol.events_received()
            size = min(size + PARSED_BYTES, len(data))
        if size < len(data):
            self._waiting = data[size:]
            self._stop()
        for frame in events:
            self._receive(frame)  # type: ignore[arg-type]  # after the handshake, events are frames
        is_between = self._is_between_frames()
        if protocol.close_expected():
            # What still comes is ignored, so nothing of it is held.
            self._fragments = None
            if self._held:
                self._release()
            self._ignore(size)
        elif self._fragments is not None or not events:
            self._hold(size)
        elif self._held or not is_between:
            # A message has come to its end; what follows it belongs to the next.
            self._release()
            self._hold(0 if is_between else max(len(protocol.reader.buffer), 1))
        self._at_head = (
            is_between
            and self._fragments is None
            and not self._extensions
            and protocol.state is State.OPEN
            and self._has_full_limit()
        )
        self._send_pending()

    def _ignore(self, size: int) -> None:
        """Look for the answer to the closing frame behind what may be under way, a message, and read nothing beyond.

        The deadline of the closing ends who sends more.
        """
        self._ignored += size
        if self._ignored > self._limits.message_bytes:
            self._waiting = b""
            self.pause_reading()

    def _has_full_limit(self) -> bool:
        """Tell whether the limit on messages is the one that heads are remembered under: strangers have a smaller."""
        return self._message_bytes == self._limits.message_bytes

    def _is_between_frames(self) -> bool:
        """Tell whether the parser waits for a frame to begin; where it waits in a way unknown to us, it does not."""
        waiting: object = self._protocol.parser
        while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
            waiting = inner
        return getattr(waiting, "__name__", "") == "at_eof"

    def eof_received(self) -> None:
        self._take_all()
        self.connection.flush()
        if self._made is not None:
            self._made.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_all()
        self._release()
        self._gone()
        protocol, closed = self._made, None
        if protocol is not None:
            protocol.receive_eof()
            closed = protocol.close_rcvd or protocol.close_sent
            # Nothing that refers to itself is left: TLS holds much memory, and the garbage collector may come late.
            protocol.parser.close()
            protocol.parser_exc = None
        self.connection.lost(closed.code if closed else None, closed.reason if closed else "")
        del self.connection

    def pause_writing(self) -> None:
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        self.connection.resume_writing()

    # What the connection calls, besides `write`.

    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def ping(self) -> None:
        if self._made is None or self._made.state is State.OPEN:
            self.write(PING)

    def close(self, code: int, reason: str) -> None:
        if not self._protocol.close_expected():
            self._at_head = False
            self._protocol.send_close(code, reason)
            self._send_pending()

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._paused = True
        self._pause_transport()

    def resume_reading(self) -> None:
        self._paused = False
        self._stopped = True  # until what waits is taken
        self._go_on()

    def _pause_transport(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_transport(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # Frames.

    def _receive(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                self._deliver(opcode, bytes(frame.data))
            else:
                self._opcode, self._fragments = opcode, []
                self._keep(frame.data)
        elif opcode is Opcode.CONT:
            self._continue(frame)
        elif opcode is PONG:
            self.connection.receive_pong()
        elif opcode is Opcode.PING:
            self.connection.receive_ping()

    def _continue(self, frame: Frame) -> None:
        fragments = self._fragments
        if fragments is None:  # the message was given up
            return
        self._keep(frame.data)
        if frame.fin:
            self._fragments = None
            self._deliver(self._opcode, b"".join(fragments))
        elif len(fragments) >= self._limits.message_fragments:
            self._fragments = None
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")

    def _keep(self, data: bytes | bytearray | memoryview) -> None:
        """Add a fragment to the message; of a compressed one more is held than has come."""
        self._fragments.append(data)  # type: ignore[union-attr]
        if self._extensions:
            self._hold(len(data))

    def _deliver(self, opcode: Opcode | None, data: bytes) -> None:
        if opcode is not TEXT:
            self.connection.receive(data)
            return
        try:
            message = data.decode()
        except UnicodeDecodeError:
            # RFC 6455 §8.1; the parser leaves the check of text to whoever decodes it.
            self._fail(CloseCode.INVALID_DATA, "invalid UTF-8")
            return
        self.connection.receive(message)

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 §7.1.7)."""
        if not self._protocol.close_expected():
            self._at_head = False
            self._protocol.fail(code, reason)
            self._send_pending()

    def _hold(self, size: int) -> None:
        """Count bytes of an incomplete message; it has a deadline, and all of them together have a bound."""
        if not self._held and size:
            self.connection.partial(True)
        self._held += size
        self._ledger.incomplete += size
        if self._ledger.incomplete > self._limits.incomplete_bytes:
            self._fail(CloseCode.TRY_AGAIN_LATER, "too much incomplete data")

    def _release(self) -> None:
        self._ledger.incomplete -= self._held
        self._held = 0
        self.connection.partial(False)

    def _send_pending(self) -> None:
        if self._protocol.state is not State.OPEN:
            self.connection.closing()  # what is queued leaves before the closing frame
        for data in self._protocol.data_to_send():
            if data is SEND_EOF or not data:
                # RFC 6455 §7.1.1: the server closes first. TLS cannot half-close, so this closes both directions.
                self._transport.close()
            else:
                self._transport.write(data)
