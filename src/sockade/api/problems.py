"""Shows a refusal to an HTTP client as a Starlette response; writing its line in the audit log is the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from sockade.protocol.problems import problem_body, problem_headers
from sockade.protocol.reasons import STATUS

if TYPE_CHECKING:
    from sockade.guard.handshake import Refuse


def problem(refusal: Refuse, id_: str) -> Response:
    """Return the answer to a refused request."""
    headers = {**problem_headers(refusal.reason, refusal.retry_after), **dict(refusal.headers)}
    return Response(problem_body(refusal.reason, id_), STATUS[refusal.reason], headers)
