"""A secure-by-default real-time server: every connection is encrypted, authenticated, origin-checked and validated
before application code sees it.

This is the public API; everything else may change between releases.
"""

from sockade.errors import RejectedError
from sockade.guard.identity import Identity
from sockade.messaging.application import Sockade
from sockade.messaging.connection import Connection
from sockade.messaging.types import History, Length, Message, days, hours, minutes
from sockade.protocol.codes import CloseCode

__all__ = [
    "CloseCode",
    "Connection",
    "History",
    "Identity",
    "Length",
    "Message",
    "RejectedError",
    "Sockade",
    "days",
    "hours",
    "minutes",
]
