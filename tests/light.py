"""A client of the channel protocol that costs little: for tests and measurements with many of them on a small machine.

It frames and parses just what the server sends in answer to correct commands, and verifies nothing.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

PATH = "/connection/websocket"
HEAD = (
    "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n\r\n"
)
TEXT, CLOSE, PING = 1, 8, 9


def text_frame(text: bytes) -> bytes:
    """Return a client's text frame. RFC 6455 §5.3 wants a mask; the mask 0 leaves the payload as it is."""
    size = len(text)
    if size < 126:
        return b"\x81%c\0\0\0\0%b" % (0x80 | size, text)
    return b"\x81\xfe%b\0\0\0\0%b" % (size.to_bytes(2, "big"), text)


class LightClient(asyncio.Protocol):
    """One connection; `heard` is called with each message, and `gone` is done at its end."""

    def __init__(self, heard: Callable[[LightClient, bytes], None]) -> None:
        self.heard = heard
        self.transport: asyncio.Transport
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code = 0
        self._buffer = b""

    @classmethod
    async def open(
        cls, port: int, tls: ssl.SSLContext, token: str, heard: Callable[[LightClient, bytes], None], path: str = PATH
    ) -> LightClient:
        """Connect, up to the 101."""
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(
            lambda: cls(heard), "127.0.0.1", port, ssl=tls, server_hostname="localhost"
        )
        transport.write(HEAD.format(path=path, port=port, token=token).encode())
        await client.opened
        return client

    def send(self, *commands: dict[str, Any]) -> None:
        """Send commands, each in a message of its own, in one write."""
        self.transport.write(b"".join(text_frame(json.dumps(command).encode()) for command in commands))

    def cut(self) -> None:
        """End the connection without a word."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self.opened.done():
            head, end, buffer = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.opened.set_exception(ConnectionRefusedError(head.decode(errors="replace")))
                return
            self.opened.set_result(None)
        at = 0
        while (frame := parsed(buffer, at)) is not None:
            opcode, start, at = frame
            if opcode == TEXT and at - start == 2:
                self.transport.write(text_frame(b"{}"))  # the channel protocol's ping, and its answer
            elif opcode == TEXT:
                self.heard(self, buffer[start:at])
            elif opcode == PING:
                self.transport.write(b"\x8a%c\0\0\0\0%b" % (0x80 | (at - start), buffer[start:at]))
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(buffer[start : start + 2], "big")
        self._buffer = buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError("the server closed before the 101"))
        if not self.gone.done():
            self.gone.set_result(None)


def parsed(buffer: bytes, at: int) -> tuple[int, int, int] | None:
    """Return the opcode of the frame at a place, and where its payload begins and ends; None while it is not whole."""
    there = len(buffer) - at
    if there < 2:
        return None
    size, start = buffer[at + 1], at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if there < 2 + width:
            return None
        start += width
        size = int.from_bytes(buffer[at + 2 : start], "big")
    if start + size > len(buffer):
        return None
    return buffer[at] & 0x0F, start, start + size
