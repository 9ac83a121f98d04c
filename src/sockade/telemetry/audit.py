"""Writes the audit log: one line for each security event, in the names of the Elastic Common Schema.

Under a flood the lines of each event are bounded by a token bucket, and what was left out is counted in one line
later. Each event has an allowance of its own: requests that are refused come at any speed, and must not hide who
signed in meanwhile, whose session ended, or that a token was used twice. What a value may be is the caller's business,
that it holds no secret too; that it is printed safely is the log's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sockade.protocol.events import Event
from sockade.telemetry import logs

if TYPE_CHECKING:
    from sockade.clock import Clock

LINES_PER_SECOND = 200.0
BURST_LINES = 1_000
"""Of each event."""
SUMMARY_SECONDS = 1.0

FAILURES = frozenset(
    {
        Event.LOGIN_FAIL,
        Event.TOKEN_REUSE,
        Event.AUTHN_FAIL,
        Event.AUTHZ_FAIL,
        Event.INPUT_INVALID,
        Event.EXCESS,
        Event.CRASH,
    }
)

# ECS has no field for the Origin header; the name is that of OpenTelemetry, with which ECS is being merged.
ORIGIN = "http.request.header.origin"


@dataclass(slots=True)
class _Bucket:
    """Tokens that refill with time."""

    rate: float
    burst: float
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class AuditTrail:
    """The `AuditLog` that writes to the log set up by `sockade.telemetry.logs`."""

    def __init__(
        self,
        clock: Clock,
        *,
        lines_per_second: float = LINES_PER_SECOND,
        burst_lines: int = BURST_LINES,
        summary_seconds: float = SUMMARY_SECONDS,
    ) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._buckets = {event: _Bucket(lines_per_second, burst_lines, burst_lines, now) for event in Event}
        self._summary_seconds = summary_seconds
        self._left_out = 0
        self._told_at = now
        """When the count is told at the latest; a timer runs until then."""
        self._timer: asyncio.TimerHandle | None = None

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
        """Write exactly one line, unless a flood has used up the event's allowance. Never raises, never blocks."""
        now = self._clock.monotonic()
        if not self._buckets[event].take(now):
            self._leave_out(now)
            return
        # Not before each line that a flood leaves room for: that would be two lines for one.
        if now >= self._told_at:
            self.flush()
        fields = {
            "event.action": event,
            "event.outcome": "failure" if event in FAILURES else "success",
            "event.reason": reason,
            "source.address": address,
            ORIGIN: origin,
            "user.name": user,
            "sockade.connection.id": connection,
            "sockade.session.id": session,
        }
        self._write(detail or str(event), {name: value for name, value in fields.items() if value})

    def flush(self) -> None:
        """Write how many lines were left out, if any were. To be called once more at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self._write(
                "lines were left out of the audit log",
                {"event.action": Event.EXCESS, "event.outcome": "failure", "sockade.log.left_out": count},
            )

    def _leave_out(self, now: float) -> None:
        self._left_out += 1
        if now < self._told_at:
            return
        self._told_at = now + self._summary_seconds
        # If nothing more comes, the count is still told.
        try:
            self._timer = asyncio.get_running_loop().call_later(self._summary_seconds, self.flush)
        except RuntimeError:
            return  # No loop runs: the next line or the end tells it.

    def _write(self, message: str, fields: dict[str, Any]) -> None:
        try:
            logs.log_audit(message, fields)
        except Exception:  # noqa: BLE001 - whoever records an event must not fail because of it
            self._left_out += 1
