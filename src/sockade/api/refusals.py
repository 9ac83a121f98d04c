"""Answers what no endpoint answered: another host, no such path, an unexpected error. One log line each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from sockade.api.problems import problem
from sockade.guard.handshake import Refuse
from sockade.protocol.events import Event
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Scope

    from sockade.clock import Clock
    from sockade.protocol.events import AuditLog

REASONS = {404: Reason.NOT_FOUND, 405: Reason.METHOD}

logger = logging.getLogger("sockade.api")


class Refusals:
    """Turns a reason into a response and its line in the audit log."""

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock

    def answer(self, scope: Scope, reason: Reason, detail: str, event: Event = Event.INPUT_INVALID) -> Response:
        """Return the response to a request that is refused outside every endpoint."""
        number = self._clock.short_id()
        address = scope["client"][0] if scope.get("client") else ""
        self._audit.record(event, reason=reason, connection=number, address=address, detail=detail)
        return problem(Refuse(reason, detail), number)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        """Answer what Starlette refuses: an unknown path or method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self.answer(request.scope, REASONS.get(status, Reason.BAD_REQUEST), f"HTTP {status}")

    async def on_exception(self, request: Request, error: Exception) -> Response:
        """Answer for a defect of ours; the traceback is the log's."""
        logger.error("request failed", exc_info=error)
        return self.answer(request.scope, Reason.INTERNAL, type(error).__name__, Event.CRASH)
