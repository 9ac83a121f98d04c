"""Fetches one small document over HTTPS: no redirects, 64 KiB, five seconds from the first look-up to the last byte.

llhttp parses the response. Plain HTTP is for loopback alone, where there is nobody in between.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import httptools

from sockade.errors import FetchError
from sockade.settings import is_loopback

SECONDS = 5.0
BODY_BYTES = 65_536
HEAD_BYTES = 16_384
CHUNK_BYTES = 16_384


class Response:
    """What llhttp reports of a response."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False
        self.encoded = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.encoded = self.encoded or (name.lower() == b"content-encoding" and value.strip().lower() != b"identity")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def fetch(url: str) -> bytes:
    """Return the body of a 200 answer. Raises FetchError for whatever else happens."""
    try:
        async with asyncio.timeout(SECONDS):
            return await exchange(url)
    except TimeoutError as error:
        raise FetchError(f"no complete answer within {SECONDS:g} s") from error
    except (OSError, ValueError, asyncio.IncompleteReadError, httptools.HttpParserError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error


async def exchange(url: str) -> bytes:
    """Ask and read, without a deadline."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    if not secure and not is_loopback(host):
        raise FetchError("not an https address")
    reader, writer = await asyncio.open_connection(
        host,
        parts.port or (443 if secure else 80),
        ssl=ssl.create_default_context() if secure else None,
        server_hostname=host if secure else None,
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n"
        writer.write(f"{head}Accept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii"))
        return await read_body(reader)
    finally:
        writer.transport.abort()


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """Read one response, never more of it than is allowed."""
    response = Response()
    parser = httptools.HttpResponseParser(response)
    taken = 0
    while not response.complete:
        data = await reader.read(CHUNK_BYTES)
        if not data:
            raise FetchError("the answer ended early, or has no length")
        taken += len(data)
        parser.feed_data(data)
        if len(response.body) > BODY_BYTES or taken > BODY_BYTES + HEAD_BYTES:
            raise FetchError(f"the answer is larger than {BODY_BYTES} bytes")
    if parser.get_status_code() != 200:
        raise FetchError(f"the answer has the status {parser.get_status_code()}")
    if response.encoded:
        raise FetchError("the answer is encoded")
    return bytes(response.body)
