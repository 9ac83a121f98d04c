"""Waits for a whole ClientHello before TLS is begun, and says goodbye where TLS could not be.

TLS costs some 60 KB a connection from its first moment. Until the first record is there, the kernel holds its bytes
and this process the socket and an entry here: who is silent, who drips and who does not speak TLS costs no more.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

RECORD_HEADER = 5
HANDSHAKE = 0x16
MOST_RECORD = 16_384
"""RFC 8446 §5.1: no record is longer, and a ClientHello is one record for every client in use."""
USUAL_RECORD = 2_048
"""What is looked at first: nearly every ClientHello, so that one look is enough."""

HANDSHAKE_FAILURE, PROTOCOL_VERSION = 40, 70  # RFC 8446 §6
FATAL = 2


@dataclass(slots=True)
class Awaited:
    """A socket whose ClientHello is awaited."""

    done: Callable[[bool], None]
    due: float
    wanted: int = 1
    """How many bytes make it readable: the loop does not turn for each one that drips in."""


class Hellos:
    """The sockets whose ClientHello is awaited. Each may take `seconds`, so that one timer serves all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._awaited: dict[socket.socket, Awaited] = {}
        """In the order in which they came: the first is the first to be late."""
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, sock: socket.socket, done: Callable[[bool], None]) -> None:
        """Call `done` when the first TLS record is there as a whole (True), or can no longer be (False)."""
        self._awaited[sock] = Awaited(done, self._loop.time() + self._seconds)
        self._loop.add_reader(sock, self._look, sock)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._end_late)

    def forget(self, sock: socket.socket) -> None:
        """Wait no longer, and call nobody."""
        del self._awaited[sock]
        self._loop.remove_reader(sock)

    def _look(self, sock: socket.socket) -> None:
        awaited = self._awaited[sock]
        try:
            begun = sock.recv(max(awaited.wanted, USUAL_RECORD), socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            begun = b""
        size = _record_size(begun)
        if len(begun) < awaited.wanted or not size:  # no more comes, or something else came
            self._end(sock, whole=False)
        elif len(begun) >= size:
            self._want(sock, awaited, 1)
            self._end(sock, whole=True)
        else:
            self._want(sock, awaited, size)

    def _want(self, sock: socket.socket, awaited: Awaited, size: int) -> None:
        # socket(7): readable only once so many bytes are there, or the end.
        if awaited.wanted != size:
            awaited.wanted = size
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _end(self, sock: socket.socket, *, whole: bool) -> None:
        done = self._awaited[sock].done
        self.forget(sock)
        done(whole)

    def _end_late(self) -> None:
        self._timer = None
        while self._awaited:
            sock, awaited = next(iter(self._awaited.items()))
            if self._loop.time() < awaited.due:
                self._timer = self._loop.call_at(awaited.due, self._end_late)
                return
            self._end(sock, whole=False)


def _record_size(begun: bytes) -> int:
    """Return the size of the record that begins so, as far as it is known; 0 if none of a TLS handshake does."""
    if len(begun) < RECORD_HEADER:
        return RECORD_HEADER
    size = int.from_bytes(begun[3:RECORD_HEADER], "big")
    if begun[0] != HANDSHAKE or begun[1] != 3 or not 0 < size <= MOST_RECORD:
        return 0
    return RECORD_HEADER + size


def send_alert(descriptor: int, error: ssl.SSLError) -> None:
    """Tell a client why there is no TLS; the event loops drop what OpenSSL would have said.

    Nothing is encrypted as long as version and suite are not agreed upon, and these are what most clients fail at.
    """
    description = PROTOCOL_VERSION if error.reason == "UNSUPPORTED_PROTOCOL" else HANDSHAKE_FAILURE
    with contextlib.suppress(OSError):
        os.write(descriptor, bytes((0x15, 3, 3, 0, 2, FATAL, description)))
