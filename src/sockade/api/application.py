"""The HTTP application: which routes there are, and what holds for every response."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sockade.api.middleware import Screen, SecurityHeaders
from sockade.api.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from sockade.clock import Clock
    from sockade.guard.policy import Policy
    from sockade.protocol.events import AuditLog

WEB = Path(__file__).parent.parent / "web"
REVALIDATE = {"Cache-Control": "no-cache"}
"""Kept by the browser, and asked for again with the ETag each time: a new version shows at once."""


class Assets(StaticFiles):
    """The files of the page."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file, or 304."""
        response = super().file_response(*args, **options)
        response.headers.update(REVALIDATE)
        return response


def http_application(
    routes: Sequence[BaseRoute],
    policy: Policy,
    audit: AuditLog,
    clock: Clock,
    ready: Callable[[], Sequence[str]],
    weakened: Sequence[str],
    *,
    pages: bool,
) -> Starlette:
    """Return the ASGI application of the public listener.

    Args:
        ready: what keeps the server from being ready, empty when nothing does.
        weakened: what the settings opened up.
        pages: whether the chat page is served.
    """

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        problems = list(ready())
        body = {"status": "unready" if problems else "ready", "problems": problems, "weakened": list(weakened)}
        return JSONResponse(body, status_code=503 if problems else 200)

    async def page(request: Request) -> Response:
        return FileResponse(WEB / "index.html", headers=REVALIDATE)

    all_routes: list[BaseRoute] = [*routes, Route("/healthz", healthz), Route("/readyz", readyz)]
    if pages:
        all_routes += [Route("/", page), Mount("/assets", Assets(directory=WEB))]
    refusals = Refusals(audit, clock)
    application = Starlette(
        routes=all_routes,
        middleware=[Middleware(SecurityHeaders), Middleware(Screen, policy=policy, refusals=refusals)],
        exception_handlers={HTTPException: refusals.on_http_exception, Exception: refusals.on_exception},
    )
    # A path has one name: a redirect would repeat the URL, with whatever is in its query.
    application.router.redirect_slashes = False
    return application
