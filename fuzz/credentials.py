"""Credentials in every carrier: nothing but the one that was issued is ever good, and nothing raises."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from fuzz.inputs import Found, mutate_text
from fuzz.server import rig
from sockade.guard.handshake import Handshake, Head, Refuse
from sockade.guard.identity import ConnectionId, Identity
from sockade.guard.screen import screen
from sockade.identity.authority import Tokens

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from fuzz.server import Rig
    from sockade.guard.identity import Credential

PARTS = [
    ".",
    "..",
    "eyJ",
    "none",
    "HS256",
    "ticket.",
    "sockade",
    "Bearer ",
    "bearer",
    "__Host-sockade=",
    "; ",
    ", ",
    "=",
    "==",
]
ALGORITHMS = ["none", "None", "HS256", "EdDSA", "ES256", "RS256", "", None, 1, ["EdDSA"]]
HEADER_MEMBERS = [("crit", ["x"]), ("jwk", {}), ("jku", "https://evil.example"), ("kid", "../../x"), ("b64", False)]


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def spoilt_token(random: Random, token: str) -> str:
    """Return a token that is not the one that was issued."""
    header, payload, signature = token.split(".")
    if random.random() < 0.5:
        return mutate_text(random, token, PARTS)
    members: dict[str, object] = {"alg": random.choice(ALGORITHMS), "typ": random.choice(["at+jwt", "JWT", None])}
    members |= dict(random.sample(HEADER_MEMBERS, random.randrange(3)))
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims[random.choice([*claims, "x"])] = random.choice([None, -1, 1e300, [], {}, "admin", True, "9" * 400])
    parts = [random.choice([header, encoded(members)]), random.choice([payload, encoded(claims)])]
    return ".".join([*parts, random.choice([signature, "", encoded(random.randbytes(64))])])


def generate(random: Random, token: str, cookie: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a handshake, none of whose credentials is good."""
    carriers = [
        ("authorization", lambda: f"{random.choice(['Bearer', 'bearer', 'Basic', ''])} {spoilt_token(random, token)}"),
        ("cookie", lambda: mutate_text(random, f"a=b; __Host-sockade={cookie[:-1]}", PARTS)),
        ("sec-websocket-protocol", lambda: mutate_text(random, f"sockade, ticket.{'t' * 43}", PARTS)),
    ]
    chosen = [(name, make()) for name, make in random.choices(carriers, k=random.choice((1, 1, 1, 2)))]
    # What reaches us came over HTTP: ISO 8859-1, without line breaks and NUL.
    clean = [
        (name, "".join(c for c in value.encode("latin-1", "ignore").decode("latin-1") if c not in "\r\n\0"))
        for name, value in chosen
    ]
    good = (("host", "localhost"), ("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"))
    key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    return (*good, key, ("origin", random.choice(["https://localhost:{port}", "https://evil.example"])), *clean)


async def verify(made: Rig, headers: tuple[tuple[str, str], ...]) -> Identity | Refuse:
    """Do what admission does up to the identity."""
    server = made.server
    pairs = tuple((name, value.replace("{port}", str(server.port))) for name, value in headers)
    handshake = Handshake(ConnectionId("fuzz"), Head("GET", "/", "1.1", pairs), "127.0.0.2")
    credential: Credential | Refuse = screen(handshake, server.policy)
    if isinstance(credential, Refuse):
        return credential
    return await server.authority.verify(credential, origin=handshake.head.one("origin"))


async def run(random: Random, count: int, data_dir: Path) -> int:
    """Try that many handshakes and return how many credentials came to be verified. Raises Found."""
    verified = 0
    async with rig(data_dir) as made:
        authority = made.server.authority
        link, _ = await authority.create_link(role="admin")
        tokens = await authority.tokens_by_link(link, "fuzz", address="127.0.0.2", user_agent="fuzz")
        assert isinstance(tokens, Tokens)
        token = tokens.access_token.reveal()
        good = (*generate(random, token, "x" * 43)[:6], ("authorization", f"Bearer {token}"))
        for _ in range(count):
            headers = generate(random, token, "x" * 43)
            if any(token in value.split() for _, value in headers):
                continue  # the mutation undid itself
            try:
                answer = await verify(made, headers)
            except Exception as error:
                raise Found(f"{headers!r}: {error!r}") from error
            if isinstance(answer, Identity):
                raise Found(f"{headers!r} was admitted as {answer.user}")
            verified += answer.reason.value.endswith("invalid")
        # The good one is good, or the rest says nothing.
        answer = await verify(made, tuple((n, v.replace("evil.example", "localhost:{port}")) for n, v in good))
        if not isinstance(answer, Identity):
            raise Found(f"the good token was refused: {answer}")
    return verified
