"""What holds for every HTTP response: the headers of `security-cases`, and the check of the Host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from sockade.guard.handshake import Head
from sockade.guard.host import host_name
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sockade.api.refusals import Refusals
    from sockade.guard.policy import Policy

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Strict-Transport-Security": "max-age=63072000",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """Sets the same headers on every response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class HostGuard:
    """Refuses requests for another host with 421: a foreign name that points here is DNS rebinding."""

    def __init__(self, app: ASGIApp, policy: Policy, refusals: Refusals) -> None:
        self.app = app
        self.policy = policy
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and host_name(head_of(scope)) not in self.policy.names:
            await self.refusals.answer(scope, Reason.HOST, "Host is not one of server.names")(scope, receive, send)
            return
        await self.app(scope, receive, send)


def head_of(scope: Scope) -> Head:
    """Return the head of an ASGI request as the value the guard judges."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return Head(scope["method"], scope["path"], scope["http_version"], headers)
