"""How a refusal looks to HTTP clients, whichever edge answers: problem details (RFC 9457), and its headers.

The client learns the reason's code and an id; the audit log has the detail under the same id.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from sockade.protocol.events import Event
from sockade.protocol.reasons import STATUS, Reason

MEDIA_TYPE = "application/problem+json"
TOKEN_SHOWN = frozenset({Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED, Reason.REVOKED})


class Problem(msgspec.Struct, frozen=True):
    """The body; `id` is what the log line of the refusal is found by."""

    title: str
    status: int
    code: str
    id: str
    type: str = "about:blank"


def problem_body(reason: Reason, id_: str) -> bytes:
    """Return the body of the answer."""
    status = STATUS[reason]
    return msgspec.json.encode(Problem(HTTPStatus(status).phrase, status, reason.value, id_))


def problem_headers(reason: Reason, retry_after: int | None) -> dict[str, str]:
    """Return the headers that go with it; `retry_after` is in seconds."""
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    if STATUS[reason] == HTTPStatus.UNAUTHORIZED:
        # RFC 9110 §15.5.2: a 401 names a scheme; RFC 6750 §3.1: and the error, where a token was shown.
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"' if reason in TOKEN_SHOWN else "Bearer"
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return headers


def event_of(reason: Reason) -> Event:
    """Return under which name the audit log records a refusal."""
    match STATUS[reason]:
        case 401:
            return Event.AUTHN_FAIL
        case 403:
            return Event.AUTHZ_FAIL
        case 429 | 503:
            return Event.EXCESS
        case _:
            return Event.INPUT_INVALID
