"""Waits for a whole ClientHello before TLS is begun, and says goodbye where TLS could not be.

TLS costs some 60 KB a connection from its first moment. Until the first record is there, the kernel holds its bytes
and this process nothing but the socket: who is silent, who drips and who does not speak TLS costs no more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

RECORD_HEADER = 5
HANDSHAKE = 0x16
MOST_RECORD = 16_384
"""RFC 8446 §5.1: no record is longer, and a ClientHello is one record for every client in use."""
USUAL_RECORD = 2_048
"""What is looked at first: nearly every ClientHello, so that one look is enough."""

HANDSHAKE_FAILURE, PROTOCOL_VERSION = 40, 70  # RFC 8446 §6
FATAL = 2


async def wait_for_hello(loop: asyncio.AbstractEventLoop, sock: socket.socket, seconds: float) -> bool:
    """Wait until the first TLS record is there as a whole; False if something else came, nothing more, or too late."""
    try:
        begun = _peek(sock, USUAL_RECORD)
        if 0 < _record_size(begun) <= len(begun):
            return True  # Nearly always, and then no deadline needs to be set.
        async with asyncio.timeout(seconds):
            size = _record_size(await _wait(loop, sock, RECORD_HEADER))
            return size > 0 and len(await _wait(loop, sock, size)) == size
    except (TimeoutError, OSError):
        return False


def _record_size(begun: bytes) -> int:
    """Return the size of the record that begins so, header included; 0 if that is no record of a TLS handshake."""
    size = int.from_bytes(begun[3:RECORD_HEADER], "big")
    if len(begun) < RECORD_HEADER or begun[0] != HANDSHAKE or begun[1] != 3 or not 0 < size <= MOST_RECORD:
        return 0
    return RECORD_HEADER + size


def _peek(sock: socket.socket, size: int) -> bytes:
    """Return up to `size` bytes without taking them; none where there are none yet, or no more to come."""
    try:
        return sock.recv(size, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


async def _wait(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    """Wait for the first `size` bytes, and return them without taking them; fewer if the peer sends no more."""
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


def send_alert(descriptor: int, error: ssl.SSLError) -> None:
    """Tell a client why there is no TLS; the event loops drop what OpenSSL would have said.

    Nothing is encrypted as long as version and suite are not agreed upon, and these are what most clients fail at.
    """
    description = PROTOCOL_VERSION if error.reason == "UNSUPPORTED_PROTOCOL" else HANDSHAKE_FAILURE
    with contextlib.suppress(OSError):
        os.write(descriptor, bytes((0x15, 3, 3, 0, 2, FATAL, description)))
