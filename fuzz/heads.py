"""Request heads, byte for byte, through the real door: no exception, never a 500, never a 101 without a credential."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fuzz.inputs import Found, mutate
from fuzz.server import rig

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

HOST = b"Host: localhost\r\n"
UPGRADE = HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
JSON = b"Content-Type: application/json\r\n"
TARGETS = [
    b"/",
    b"/connection/websocket",
    b"/auth/login",
    b"/auth/sessions",
    b"/auth/sessions/x",
    b"/assets/app.js",
    b"/healthz",
    b"/%2e%2e/",
]
METHODS = [b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"PUT", b"CONNECT", b"PRI", b"M-SEARCH"]
HEADERS = [
    HOST,
    UPGRADE,
    KEY,
    JSON,
    b"Origin: https://localhost:8443\r\n",
    b"Origin: null\r\n",
    b"Authorization: Bearer eyJ.a.b\r\n",
    b"Cookie: __Host-sockade=x; a=b\r\n",
    b"Sec-WebSocket-Protocol: sockade, ticket.aaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n",
    b'Forwarded: for="[2001:db8::1]:1";by=x, for=192.0.2.1\r\n',
    b"Content-Length: 2\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Range: bytes=0-1,3-\r\n",
    b"If-None-Match: *\r\n",
    b"If-Modified-Since: x\r\n",
    b"X-Long: " + b"a" * 9_000 + b"\r\n",
    b" folded\r\n",
    b"No colon\r\n",
    b": no name\r\n",
]
BODIES = [
    b"",
    b"{}",
    b'{"username":"a","password":"b"}',
    b"2\r\n{}\r\n0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"\x81\x80\0\0\0\0",
    b"\xff" * 40,
]
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


def generate(random: Random) -> list[bytes]:
    """Return the chunks in which a connection's bytes come."""
    data = b"".join(_request(random) for _ in range(random.choice((1, 1, 1, 2, 3))))
    if random.random() < 0.7:
        data = mutate(random, data, [*HEADERS, *METHODS, b"HTTP/1.1", b"HTTP/9.9", b"chunked", b"GET / HTTP/1.1\r\n"])
    elif random.random() < 0.05:
        data = random.randbytes(random.randrange(200))
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _request(random: Random) -> bytes:
    method = random.choice([b"GET", b"GET", b"POST", *METHODS])
    target = random.choice(TARGETS) + random.choice([b"", b"", b"?token=x", b"?a=%zz", b"#f"])
    headers = [HOST, *random.sample(HEADERS, random.randrange(6))]
    if random.random() < 0.4:
        headers = [UPGRADE, KEY, *headers[1:]]
    random.shuffle(headers)
    version = random.choice([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b""])
    return method + b" " + target + b" " + version + b"\r\n" + b"".join(headers) + b"\r\n" + random.choice(BODIES)


async def run(random: Random, count: int, data_dir: Path) -> int:
    """Try that many heads and return how many were answered. Raises Found."""
    answered = 0
    async with rig(data_dir) as made:
        for _ in range(count):
            chunks = generate(random)
            try:
                written = await made.exchange(chunks, proxy=random.random() < 0.3)
                statuses = [int(status) for status in STATUS.findall(written)]
                if any(status in (101, 500) for status in statuses):
                    raise Found(f"answered with {statuses}")
            except Exception as error:
                raise Found(f"{chunks!r}: {error!r}") from error
            answered += bool(statuses)
    return answered
