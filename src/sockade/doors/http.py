"""The HTTP door: request heads within their limits; an upgrade goes to admission, all else to the HTTP application.

The parser is llhttp by way of httptools, and the request cycle uvicorn's. Both trust their caller with time and
size: this door limits every part of a request, and at every moment one deadline runs: for the head, the body, the
decision, the client's taking of the response, or its next request.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sockade.doors.refusals import record_refusal, refusal_response
from sockade.guard.handshake import Handshake, Head, Refuse
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from sockade.doors.admission import Admission
    from sockade.doors.peer import Peer
    from sockade.protocol.events import AuditLog
    from sockade.settings import LimitSettings

EARLY_BYTES = 4_096
"""What a client may send ahead of the 101 (it may not, by RFC 6455 §4.1, but pipelining clients do)."""
KEEP_ALIVE_SECONDS = 5.0
PIPELINED = 8
"""Requests that may wait for the answer to an earlier one; browsers send none ahead."""
CHUNKED_FACTOR = 8
"""How much larger than its content a chunked body may be: the smallest chunk takes six bytes."""
LATE_SECONDS = 1.0
"""How long whoever keeps sending may take to read the refusal: until then it is still decrypted, and thrown away."""
DRAIN_LOOK_SECONDS = 1.0
TIMER_SECONDS = 0.001
"""How exact the timers of event loops are."""


class Phase(Enum):
    """What this side waits for from the client."""

    HEAD = auto()
    BODY = auto()
    IDLE = auto()
    """The next request, or nothing while one is answered."""
    DECIDING = auto()
    """Nothing: admission decides on an upgrade."""


class HttpDoor(HttpToolsProtocol):
    """One TLS connection until it is upgraded, or for as long as it speaks HTTP."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        peer: Peer,
        admission: Admission,
        limits: LimitSettings,
        audit: AuditLog,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, state, {}, loop)
        self._peer = peer
        self._admission = admission
        self._limits = limits
        self._audit = audit
        self._phase = Phase.HEAD
        self._began = peer.accepted_at
        self._incoming_due = math.inf
        self._response_due = math.inf
        self._deadline: asyncio.TimerHandle | None = None
        self._is_incomplete = False
        self._begun = 0
        """Requests that began in the bytes being parsed, besides the one that they began with or went on with."""
        self._head_bytes = 0
        self._body_bytes = 0
        self._fields: list[tuple[bytes, bytes]] = []
        """The headers of the current request as they came, and then its trailers."""
        self._head: Head
        self._refusal: Refuse | None = None
        self._handshake: Handshake | None = None
        self._early = b""
        self._deciding: asyncio.Task[None] | None = None

    # What the TLS transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Most connections are upgraded: what the HTTP application needs of this one is made with its first request.
        self.transport = transport
        self.connections.add(self)
        if self._peer.dropped:
            transport.abort()
            return
        self._peer.transport = transport
        limits = self._limits
        self._expect(min(self.loop.time() + limits.head_seconds, self._began + limits.handshake_seconds))

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._handshake is not None:
            self._keep_early(data)
            return
        if self._phase is Phase.IDLE:
            self._begin()
        self._begun = 0 if self._is_incomplete else -1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or Refuse(Reason.BAD_REQUEST, "not an HTTP request"))
        else:
            self._count(len(data))

    def eof_received(self) -> None:
        self._stop_deciding()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(math.inf, math.inf)
        self._stop_deciding()
        self._peer.gone()
        super().connection_lost(exc)

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.url = b""
        self._fields = []
        self._begun += 1
        self._is_incomplete = True
        self._head_bytes = self._body_bytes = 0
        if self._phase is Phase.IDLE:
            self._begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) + len("GET  HTTP/1.1") > self._limits.request_line_bytes:
            self._stop(Refuse(Reason.LINE_TOO_LONG, "request line over limits.request_line_bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers count as well, and go nowhere: the head was judged and handed over by then (RFC 9110 §6.5.1).
        self._fields.append((name, value))
        limits = self._limits
        if len(self._fields) > limits.headers or len(name) + len(value) + len(": \r\n") > limits.header_bytes:
            self._stop(Refuse(Reason.HEAD_TOO_LARGE, "over limits.headers or limits.header_bytes"))

    def on_headers_complete(self) -> None:
        size = len(self.url)
        headers = []
        for name, value in self._fields:
            size += len(name) + len(value) + len(": \r\n")
            headers.append((name.lower().decode("latin-1"), value.decode("latin-1")))
        if size > self._limits.head_bytes:
            self._stop(Refuse(Reason.HEAD_TOO_LARGE, "head over limits.head_bytes"))
        if len(self.pipeline) >= PIPELINED:
            self._stop(Refuse(Reason.BAD_REQUEST, "too many requests ahead of their answers"))
        parser = self.parser
        self._head = Head(
            method=parser.get_method().decode("latin-1"),
            target=self.url.decode("latin-1"),
            version=parser.get_http_version(),
            headers=tuple(headers),
        )
        refusal = self._peer.asks(self._head)
        if refusal is not None:
            self._stop(refusal)
        # Whatever asks for an upgrade is ours to decide: none of it reaches the HTTP application.
        if not parser.should_upgrade():
            self._hand_over()
        self._phase = Phase.BODY
        self._expect(self._began + self._limits.handshake_seconds)

    def _hand_over(self) -> None:
        """Give the HTTP application the request whose head was read."""
        if self.flow is None:
            super().connection_made(self.transport)
        url = self.url
        super().on_message_begin()
        super().on_url(url)
        for name, value in self._fields:
            super().on_header(name, value)
        # Its limits, lists and logs see whom a trusted proxy speaks for.
        self.scope["client"] = (self._peer.client, 0)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_incomplete = False
        if not self.parser.should_upgrade():
            self._phase = Phase.IDLE
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # `_rest` does what it would
        if self.transport.is_closing():
            self._end(self._limits.close_seconds)
            return
        # The next one has its own time.
        self._response_due = math.inf
        self._rest()

    def _should_upgrade(self) -> bool:
        return True  # see `on_headers_complete`

    # Requests and their limits.

    def _begin(self) -> None:
        """Note the first byte of a further request."""
        self._phase = Phase.HEAD
        self._began = self.loop.time()
        self._expect(self._began + self._limits.head_seconds)

    def _count(self, size: int) -> None:
        """Count what came of an incomplete head or body; behind other requests, from the next bytes on."""
        limits = self._limits
        if self._phase is Phase.HEAD and self._begun <= 0:
            self._head_bytes += size
            if self._head_bytes > limits.head_bytes:
                self._refuse(Refuse(Reason.HEAD_TOO_LARGE, "head over limits.head_bytes"), LATE_SECONDS)
        elif self._phase is Phase.BODY:
            self._body_bytes += size
            if self._body_bytes > CHUNKED_FACTOR * limits.body_bytes + limits.head_bytes:
                self._refuse(Refuse(Reason.BODY_TOO_LARGE, "far over limits.body_bytes"), LATE_SECONDS)

    @property
    def _is_answering(self) -> bool:
        """Whether a request is being answered, or waits for that."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _rest(self) -> None:
        """Wait for whatever is next: the end of a response, the client's taking of it, a request, the rest of one."""
        now = self.loop.time()
        incoming, response = self._incoming_due, math.inf
        if self._is_answering or self.transport.get_write_buffer_size():
            response = min(self._response_due, now + self._limits.response_seconds)
        if self._phase is Phase.IDLE:
            incoming = math.inf if self._is_answering else now + KEEP_ALIVE_SECONDS
        self._expect(incoming, response)

    def _stop(self, refusal: Refuse) -> None:
        """Make the parser stop where it is; `data_received` answers with the refusal."""
        self._refusal = refusal
        raise ValueError(refusal.detail)

    def _refuse(self, refusal: Refuse, seconds: float | None = None) -> None:
        """Answer with the refusal and end; the client has `seconds` to take it."""
        if self.transport.is_closing():
            return
        record_refusal(self._audit, refusal, self._peer.id, self._peer.client)
        if self._is_amid_response():
            # Written into another answer, or in the place of one, it would be read as that.
            self.transport.abort()
            return
        if self._is_answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(refusal_response(refusal, self._peer.id))
        self.transport.close()
        self._end(self._limits.close_seconds if seconds is None else seconds)

    def _is_amid_response(self) -> bool:
        """Tell whether the next bytes the client reads are owed to something else than the request refused."""
        if self._phase is Phase.BODY:
            return bool(self.pipeline) or self.cycle.response_started
        return self._is_answering

    # Upgrades.

    def _upgrade(self, early: bytes) -> None:
        """Let admission decide, and keep the little that comes meanwhile."""
        if self._is_answering:
            self._phase = Phase.HEAD
            self._refuse(Refuse(Reason.BAD_REQUEST, "an upgrade ahead of an answer"))
            return
        self._phase = Phase.DECIDING
        self._handshake = Handshake(self._peer.id, self._head, self._peer.client)
        self._keep_early(early)
        if not self.transport.is_closing():
            self._deciding = self.loop.create_task(self._decide(self._handshake))

    async def _decide(self, handshake: Handshake) -> None:
        decision = await self._admission.decide(handshake)
        self._deciding = None
        if self.transport.is_closing():
            return
        if not isinstance(decision, Refuse):
            peer = self._peer
            opened = self._admission.open(self.transport, handshake, decision, peer.admitted, peer.gone)
            if not isinstance(opened, Refuse):
                self._expect(math.inf, math.inf)
                self.connections.discard(self)
                # It holds on to this door, whose time is over: the circle would be kept until it is looked for.
                self.parser = None  # type: ignore[assignment]
                if self._early:
                    opened.data_received(self._early)
                return
            decision = opened
        self._turn_away(handshake, decision)

    def _stop_deciding(self) -> None:
        """Cancel what decides, once: it may have to leave the database, and must not be cancelled while it does."""
        deciding, self._deciding = self._deciding, None
        if deciding is not None:
            deciding.cancel()

    def _keep_early(self, data: bytes) -> None:
        """Keep frames that came before the 101: dispatched after admission, not lost, and not many."""
        self._early += data
        if len(self._early) > EARLY_BYTES and self._handshake is not None and not self.transport.is_closing():
            self._stop_deciding()
            self._turn_away(self._handshake, Refuse(Reason.BAD_REQUEST, "too many bytes before the 101"))

    def _turn_away(self, handshake: Handshake, refusal: Refuse) -> None:
        self._admission.refuse(self.transport, handshake, refusal)
        self._end(self._limits.close_seconds)

    # Deadlines.

    def _expect(self, incoming: float, response: float | None = None) -> None:
        """Set until when something has to come, and to go (loop time); infinite where nothing is awaited."""
        self._incoming_due = incoming
        if response is not None:
            self._response_due = response
        due = min(self._incoming_due, self._response_due)
        if self._deadline is not None:
            if self._deadline.when() <= due < math.inf:
                return  # When the timer is due, it is looked again.
            self._deadline.cancel()
        self._look_at(due)

    def _look_at(self, due: float) -> None:
        self._deadline = self.loop.call_at(due, self._look) if due != math.inf else None

    def _look(self) -> None:
        due = min(self._incoming_due, self._response_due)
        if self.loop.time() < due - TIMER_SECONDS:
            self._look_at(due)
        else:
            self._late()

    def _end(self, seconds: float) -> None:
        """Give a closing connection a while: a peer that does not read would keep it."""
        self._expect(self.loop.time() + seconds)

    def _late(self) -> None:
        self._deadline = None
        now = self.loop.time()
        if self.transport.is_closing():
            self.transport.abort()
        elif now >= self._response_due:
            refusal = Refuse(Reason.HEAD_TIMEOUT, "response not taken within limits.response_seconds")
            record_refusal(self._audit, refusal, self._peer.id, self._peer.client)
            self.transport.abort()
        elif self._phase is not Phase.IDLE:
            self._stop_deciding()
            self._refuse(Refuse(Reason.HEAD_TIMEOUT, "request incomplete at its deadline"), LATE_SECONDS)
        elif self.transport.get_write_buffer_size():
            self._expect(now + DRAIN_LOOK_SECONDS)
        else:
            self.transport.close()
            self._end(self._limits.close_seconds)


def http_config(app: Any) -> Config:
    """Return the configuration under which uvicorn runs the HTTP application: nothing of its own."""
    from uvicorn.config import Config

    config = Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.load()
    return config
