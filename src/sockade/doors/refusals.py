"""Turns a refusal into what is seen of it: one HTTP response before the 101, and one line in the audit log.

The client is shown a reason code and an id; the detail is the log's. The table of statuses is the only place where
a reason becomes an HTTP status.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.http11 import Response

from sockade.protocol.problems import event_of, problem_body, problem_headers
from sockade.protocol.reasons import STATUS

if TYPE_CHECKING:
    from sockade.guard.handshake import Handshake, Refuse
    from sockade.guard.identity import ConnectionId
    from sockade.protocol.events import AuditLog


def refusal_response(refusal: Refuse, connection: ConnectionId) -> bytes:
    """Return the whole HTTP response to a refused request; the connection ends with it."""
    status = HTTPStatus(STATUS[refusal.reason])
    body = problem_body(refusal.reason, connection)
    headers = Headers(problem_headers(refusal.reason, refusal.retry_after))
    headers["Date"] = formatdate(usegmt=True)
    headers["Content-Length"] = str(len(body))
    # What follows a refused upgrade may be frames: nothing more is read from this connection.
    headers["Connection"] = "close"
    for name, value in refusal.headers:
        headers[name] = value
    return Response(int(status), status.phrase, headers, body).serialize()


def record_refusal(audit: AuditLog, refusal: Refuse, connection: ConnectionId, address: str, origin: str = "") -> None:
    """Write the one line of a refused request or connection."""
    audit.record(
        event_of(refusal.reason),
        reason=refusal.reason,
        connection=connection,
        address=address,
        origin=origin,
        detail=refusal.detail,
    )


def origin_of(handshake: Handshake) -> str:
    """Return the Origin of a handshake for the log."""
    return ", ".join(handshake.head.all("origin"))
