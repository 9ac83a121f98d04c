"""Close codes: what a peer is told when an admitted connection ends.

Codes below 3000 are RFC 6455's (§7.4.1) with the additions of IANA's registry; the others are Sockade's own for
plain endpoints.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why a connection on a plain endpoint is closed."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013

    CREDENTIAL_EXPIRED = 3000
    """The credential expired or was revoked."""
    FORBIDDEN = 3003
    IDLE = 3008
    """Nothing but pings came for longer than the session allows."""
