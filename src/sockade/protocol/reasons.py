"""Reason codes: why something was refused, in one word for clients, logs and metrics alike.

A reason says what rule was met, never what value met it. `STATUS` is the one table from reasons to HTTP statuses;
every edge that answers over HTTP uses it.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reason(StrEnum):
    """Why a request or connection was refused."""

    # The request itself.
    BAD_REQUEST = "bad_request"
    TEXT = "text_forbidden"
    BODY_UNEXPECTED = "body_unexpected"
    METHOD = "method_not_allowed"
    NOT_FOUND = "not_found"
    HEAD_TIMEOUT = "head_timeout"
    BODY_TOO_LARGE = "body_too_large"
    LINE_TOO_LONG = "line_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    HTTP_VERSION = "http_version"
    UPGRADE = "upgrade_required"
    WEBSOCKET_KEY = "websocket_key"
    WEBSOCKET_VERSION = "websocket_version"

    # Where it came from and where it went.
    HOST = "host_unknown"
    ORIGIN = "origin_forbidden"
    ORIGIN_MISSING = "origin_missing"
    ORIGIN_REQUIRED = "origin_required"
    ADDRESS = "address_denied"

    # Who it is from.
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_AMBIGUOUS = "credential_ambiguous"
    CREDENTIAL_IN_URL = "credential_in_url"
    CREDENTIAL_KIND = "credential_kind_off"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a reason code
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a reason code
    TICKET_INVALID = "ticket_invalid"
    SESSION_INVALID = "session_invalid"
    API_KEY = "api_key_invalid"
    SIGN_IN_FAILED = "sign_in_failed"
    USERNAME_REQUIRED = "username_required"
    USERNAME_TAKEN = "username_taken"
    USERNAME_INVALID = "username_invalid"
    REVOKED = "revoked"
    FORBIDDEN = "forbidden"

    # How much there is already.
    ADDRESS_CONNECTIONS = "address_connections"
    USER_CONNECTIONS = "user_connections"
    SERVER_FULL = "server_full"
    RATE = "rate_limited"
    BUSY = "busy"
    DRAINING = "draining"
    INTERNAL = "internal"


STATUS: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        Reason.BAD_REQUEST: 400,
        Reason.TEXT: 400,
        Reason.BODY_UNEXPECTED: 400,
        Reason.METHOD: 405,
        Reason.NOT_FOUND: 404,
        Reason.HEAD_TIMEOUT: 408,
        Reason.BODY_TOO_LARGE: 413,
        Reason.LINE_TOO_LONG: 414,
        Reason.HEAD_TOO_LARGE: 431,
        Reason.HTTP_VERSION: 426,
        Reason.UPGRADE: 426,
        Reason.WEBSOCKET_KEY: 400,
        Reason.WEBSOCKET_VERSION: 426,
        Reason.HOST: 421,
        Reason.ORIGIN: 403,
        Reason.ORIGIN_MISSING: 403,
        Reason.ORIGIN_REQUIRED: 400,
        Reason.ADDRESS: 403,
        Reason.CREDENTIAL_MISSING: 401,
        Reason.CREDENTIAL_AMBIGUOUS: 400,
        Reason.CREDENTIAL_IN_URL: 400,
        Reason.CREDENTIAL_KIND: 401,
        Reason.TOKEN_INVALID: 401,
        Reason.TOKEN_EXPIRED: 401,
        Reason.TICKET_INVALID: 401,
        Reason.SESSION_INVALID: 401,
        Reason.API_KEY: 401,
        Reason.SIGN_IN_FAILED: 401,
        Reason.USERNAME_REQUIRED: 400,
        Reason.USERNAME_TAKEN: 409,
        Reason.USERNAME_INVALID: 400,
        Reason.REVOKED: 401,
        Reason.FORBIDDEN: 403,
        Reason.ADDRESS_CONNECTIONS: 429,
        Reason.USER_CONNECTIONS: 429,
        Reason.SERVER_FULL: 503,
        Reason.RATE: 429,
        Reason.BUSY: 503,
        Reason.DRAINING: 503,
        Reason.INTERNAL: 500,
    }
)
"""The HTTP status of each reason (RFC 9110 §15, RFC 6585)."""
