"""What the audit log records: event names from the OWASP Logging Vocabulary, and the contract of the log.

The log itself is in `sockade.telemetry`; whoever decides something receives it as a collaborator.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Event(StrEnum):
    """Event names (OWASP Logging Vocabulary Cheat Sheet)."""

    LOGIN_SUCCESS = "authn_login_success"
    LOGIN_FAIL = "authn_login_fail"
    TOKEN_CREATED = "authn_token_created"  # noqa: S105 - an event name
    TOKEN_REVOKED = "authn_token_revoked"  # noqa: S105 - an event name
    TOKEN_REUSE = "authn_token_reuse"  # noqa: S105 - an event name
    AUTHN_FAIL = "authn_fail"
    AUTHZ_FAIL = "authz_fail"
    SESSION_CREATED = "session_created"
    SESSION_EXPIRED = "session_expired"
    SESSION_ENDED = "session_ended"
    INPUT_INVALID = "input_validation_fail"
    EXCESS = "excess_rate_limit_exceeded"
    USER_CREATED = "user_created"
    USER_UPDATED = "user_updated"
    CONNECTION_OPENED = "connection_opened"
    CONNECTION_CLOSED = "connection_closed"
    STARTUP = "sys_startup"
    SHUTDOWN = "sys_shutdown"
    CRASH = "sys_crash"


class AuditLog(Protocol):
    """Where security-relevant events go."""

    def record(
        self,
        event: Event,
        *,
        reason: str = "",
        connection: str = "",
        address: str = "",
        origin: str = "",
        user: str = "",
        session: str = "",
        detail: str = "",
    ) -> None:
        """Write exactly one line. Values are escaped; none of them may be a secret. Never raises, never blocks."""
        ...
