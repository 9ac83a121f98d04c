"""Sockets that do what no good client does: from chosen addresses, without TLS, without reading, a byte at a time."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

    from tests.running import RunningServer

HOST = b"Host: localhost\r\n"
UPGRADE = (
    HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


SEGMENT_BYTES = 1_400
"""As on a network."""


def plain(server: RunningServer, source: str = "127.0.0.1", *, receive_buffer: int = 0) -> socket.socket:
    """Return a TCP connection from an address of this machine."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # Loopback's segments of 64 KB let the server's kernel take some two MB for a peer that reads nothing.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    sock.settimeout(20)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", server.port))
    return sock


def secure(server: RunningServer, source: str = "127.0.0.1", *, receive_buffer: int = 0) -> ssl.SSLSocket:
    """Return a TLS connection from an address of this machine."""
    sock = plain(server, source, receive_buffer=receive_buffer)
    return server.tls.wrap_socket(sock, server_hostname="localhost")


def status(answer: bytes) -> int:
    """Return the status of an HTTP response; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def read_to_end(sock: socket.socket) -> bytes:
    """Read until the server ends the connection, in whatever way."""
    parts = []
    while True:
        try:
            part = sock.recv(65_536)
        except TimeoutError:
            raise
        except OSError:
            return b"".join(parts)
        if not part:
            return b"".join(parts)
        parts.append(part)


def drip(sock: socket.socket, data: bytes, pause: float = 0.1) -> tuple[float, bytes]:
    """Send a byte now and then; return after how many seconds the server ended it, and what it had said."""
    began = time.monotonic()
    answer = b""
    sock.settimeout(pause)
    for position in range(len(data)):
        try:
            sock.sendall(data[position : position + 1])
            answer += (part := sock.recv(65_536))
        except TimeoutError:
            continue
        except OSError:
            break
        if not part:
            break
    else:
        raise AssertionError("the server took all of it")
    return time.monotonic() - began, answer


def many_addresses(count: int) -> list[str]:
    """Return that many addresses of 127.0.0.0/8."""
    return [f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}" for number in range(count)]


def descriptors(server: RunningServer) -> int:
    """Return how many files and sockets a server has open."""
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def memory_mib(server: RunningServer) -> float:
    """Return the resident memory of a server in MiB."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_048_576


def cpu_seconds(server: RunningServer) -> float:
    """Return the processor time a server has used."""
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: object, seconds: float) -> float:
    """Wait until a function says True, and return how long that took."""
    began = time.monotonic()
    assert callable(condition)
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began
