"""Another issuer of tokens: keys, tokens signed as told, and a key server that behaves as told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from joserfc.jwk import ECKey, OKPKey, RSAKey

from sockade.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc._keys import Key

    from sockade.clock import Clock

ISS = "https://corp.example"
AUD = "chat"
SYSTEM_CLOCK = SystemClock()


def b64(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(clock: Clock = SYSTEM_CLOCK, **changes: Any) -> dict[str, Any]:
    """Good claims of this second with changes; a change to None leaves the claim out."""
    now = int(clock.wall())
    good = {"iss": ISS, "aud": AUD, "sub": "eve", "iat": now, "exp": now + 300, "jti": f"j{time.monotonic_ns()}"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def compact(header: Mapping[str, Any], body: Mapping[str, Any], sign: Any) -> str:
    text = f"{b64(json.dumps(header))}.{b64(json.dumps(body))}"
    return f"{text}.{b64(sign(text.encode()))}"


def by_hmac(secret: bytes) -> Any:
    return lambda text: hmac.digest(secret, text, hashlib.sha256)


class Signer:
    """An Ed25519 key with an id, and the clock by which it signs."""

    def __init__(self, kid: str = "one", *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.kid = kid
        self.clock = clock
        self.key = OKPKey.generate_key("Ed25519")

    def token(self, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        head = {"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid, **(header or {})}
        private = self.key.private_key
        assert private is not None
        return compact({k: v for k, v in head.items() if v is not None}, claims(self.clock, **changes), private.sign)

    @property
    def jwk(self) -> dict[str, Any]:
        return {**self.key.as_dict(private=False), "kid": self.kid}


def key_set(*signers: Signer) -> bytes:
    others: list[Key] = [ECKey.generate_key("P-384"), RSAKey.generate_key(2048)]
    extra = [{**key.as_dict(private=False), "kid": f"other{n}"} for n, key in enumerate(others)]
    return json.dumps({"keys": [*extra, *(signer.jwk for signer in signers)]}).encode()


class KeyServer:
    """Answers on loopback with `content`, or as `mode` says; counts what was asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.mode = "good"
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                with contextlib.suppress(OSError):  # the client had enough
                    outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        status = {"error": 500, "redirect": 302}.get(self.mode, 200)
        content = self.content if self.mode != "huge" else self.content + b" " * 100_000
        handler.send_response(status)
        if self.mode == "redirect" and handler.path == "/jwks":
            handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if self.mode == "slow":
            for byte in content:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.02)
            return
        handler.wfile.write(content)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
