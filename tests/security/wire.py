"""WebSocket frames byte by byte, good ones and bad ones (RFC 6455 §5.2), made without the server's library."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.security.sockets import UPGRADE, secure

if TYPE_CHECKING:
    from tests.running import RunningServer

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


class Received(NamedTuple):
    """One frame of the server's."""

    opcode: int
    payload: bytes


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    declared: int | None = None,
) -> bytes:
    """Return one frame; `declared` is the length in its header where that is not the payload's."""
    length = len(payload) if declared is None else declared
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, bit | length)
    elif length < 65_536:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    if masked:
        payload = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
        head += MASK
    return head + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Wire:
    """An open WebSocket whose frames are written by hand."""

    def __init__(
        self, server: RunningServer, token: str, path: str = "/", *, extensions: str = "", receive_buffer: int = 0
    ) -> None:
        self.sock = secure(server, receive_buffer=receive_buffer)
        offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        head = f"GET {path} HTTP/1.1\r\n{UPGRADE.decode()}Authorization: Bearer {token}\r\n{offer}\r\n"
        self.sock.sendall(head.encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        answer, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.response = answer.decode().lower()
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def _more(self) -> None:
        part = self.sock.recv(65_536)
        if not part:
            raise EOFError
        self.buffer += part

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def receive(self) -> Received:
        """Return the next frame; EOFError when the server has ended the connection."""
        while len(self.buffer) < 2:
            self._more()
        length, start = self.buffer[1] & 0x7F, 2
        assert not self.buffer[1] & 0x80, "a server never masks"
        if length >= 126:
            size = 2 if length == 126 else 8
            while len(self.buffer) < 2 + size:
                self._more()
            length, start = int.from_bytes(self.buffer[2 : 2 + size], "big"), 2 + size
        while len(self.buffer) < start + length:
            self._more()
        found = Received(self.buffer[0] & 0x0F, self.buffer[start : start + length])
        self.buffer = self.buffer[start + length :]
        return found

    def message(self) -> bytes:
        """Return the next message's payload, past pings."""
        while True:
            found = self.receive()
            if found.opcode in (TEXT, BINARY):
                return found.payload
            assert found.opcode in (PING, PONG), found

    def ended(self, seconds: float = 20) -> tuple[int | None, float]:
        """Wait for the end of TCP; return the close code, if one came, and how long it took."""
        began, code = time.monotonic(), None
        try:
            while True:
                # Pings that come all the while extend nothing.
                self.sock.settimeout(max(0.01, began + seconds - time.monotonic()))
                found = self.receive()
                if found.opcode == CLOSE:
                    code = int.from_bytes(found.payload[:2], "big")
        except TimeoutError:
            raise AssertionError(f"still open after {seconds} s") from None
        except (EOFError, OSError):
            return code, time.monotonic() - began

    def close_code(self) -> int | None:
        return self.ended()[0]
