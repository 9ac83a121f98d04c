"""Waits for a whole ClientHello before TLS is begun, and says goodbye where TLS could not be.

TLS costs some 60 KB a connection from its first moment. Until the first record is there, the kernel holds its bytes
and this process nothing but the socket: who is silent, who drips and who does not speak TLS costs no more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

RECORD_HEADER = 5
HANDSHAKE = 0x16
MOST_RECORD = 16_384
"""RFC 8446 §5.1: no record is longer, and a ClientHello is one record for every client in use."""

HANDSHAKE_FAILURE, PROTOCOL_VERSION = 40, 70  # RFC 8446 §6
FATAL = 2


async def wait_for_hello(loop: asyncio.AbstractEventLoop, sock: socket.socket, seconds: float) -> bool:
    """Wait until the first TLS record is there as a whole; False if something else came, nothing more, or too late."""
    try:
        async with asyncio.timeout(seconds):
            head = await _peek(loop, sock, RECORD_HEADER)
            size = int.from_bytes(head[3:5], "big")
            if len(head) < RECORD_HEADER or head[0] != HANDSHAKE or head[1] != 3 or not 0 < size <= MOST_RECORD:
                return False
            return len(await _peek(loop, sock, RECORD_HEADER + size)) == RECORD_HEADER + size
    except (TimeoutError, OSError):
        return False


async def _peek(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    """Return the first `size` bytes without taking them; fewer if the peer sends no more."""
    with contextlib.suppress(BlockingIOError):
        if len(data := sock.recv(size, socket.MSG_PEEK)) >= size or not data:
            return data
    # socket(7): readable only once so many bytes are there, or the end. A loop over single bytes would spin.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    readable = loop.create_future()
    loop.add_reader(sock, _set, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return sock.recv(size, socket.MSG_PEEK)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def send_alert(sock: socket.socket, error: ssl.SSLError) -> None:
    """Tell a client why there is no TLS; the event loops drop what OpenSSL would have said.

    Nothing is encrypted as long as version and suite are not agreed upon, and these are what most clients fail at.
    """
    description = PROTOCOL_VERSION if error.reason == "UNSUPPORTED_PROTOCOL" else HANDSHAKE_FAILURE
    with contextlib.suppress(OSError):
        sock.send(bytes((0x15, 3, 3, 0, 2, FATAL, description)))
