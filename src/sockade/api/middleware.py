"""What holds for every HTTP request and response: the checks of Host and URL, and the headers of `security-cases`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from sockade.api.head import head_of
from sockade.guard.credentials import check_url
from sockade.guard.handshake import Handshake
from sockade.guard.host import check_host
from sockade.guard.identity import ConnectionId

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sockade.api.refusals import Refusals
    from sockade.guard.handshake import Refuse
    from sockade.guard.policy import Policy

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# A foreign host is another server's name: what such a request carries is not for us to judge.
CHECKS = (check_host, check_url)
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


class Screen:
    """Refuses what is for another host (421), and what has a credential in its URL (400), whatever the path is."""

    def __init__(self, app: ASGIApp, policy: Policy, refusals: Refusals) -> None:
        self.app = app
        # A ticket in the URL is for an upgrade, which does not come here.
        self.policy = replace(policy, query_ticket=False)
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.judge(scope) if scope["type"] == "http" else None
        app = self.app if refusal is None else self.refusals.answer(scope, refusal.reason, refusal.detail)
        await app(scope, receive, send)

    def judge(self, scope: Scope) -> Refuse | None:
        """Return the first refusal."""
        handshake = Handshake(ConnectionId(""), head_of(scope), address="")
        return next((refusal for check in CHECKS if (refusal := check(handshake, self.policy)) is not None), None)
