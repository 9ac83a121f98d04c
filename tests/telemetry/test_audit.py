import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sockade.clock import SteppedClock
from sockade.protocol.events import AuditLog, Event
from sockade.settings import LogSettings
from sockade.telemetry import audit, logs
from sockade.telemetry.audit import AuditTrail


class Log:
    """The log set up on a string."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.writer = logs.set_up(LogSettings(), self.stream)

    def lines(self) -> list[dict[str, Any]]:
        self.writer.close()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    import logging

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield Log()
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_an_event_is_one_line_in_ecs_names(log: Log) -> None:
    trail: AuditLog = AuditTrail(SteppedClock())
    trail.record(
        Event.AUTHN_FAIL,
        reason="token_expired",
        connection="c1",
        address="192.0.2.1",
        origin="https://a.example",
        user="ann",
        session="s1",
        detail="the token ended",
    )
    (line,) = log.lines()
    assert line.pop("@timestamp")
    assert line == {
        "message": "the token ended",
        "event.action": "authn_fail",
        "event.outcome": "failure",
        "event.reason": "token_expired",
        "source.address": "192.0.2.1",
        "http.request.header.origin": "https://a.example",
        "user.name": "ann",
        "sockade.connection.id": "c1",
        "sockade.session.id": "s1",
        "log.level": "info",
        "log.logger": "sockade.audit",
    }


def test_what_is_not_known_is_left_out(log: Log) -> None:
    AuditTrail(SteppedClock()).record(Event.STARTUP)
    (line,) = log.lines()
    assert (line["message"], line["event.outcome"]) == ("sys_startup", "success")
    assert not {"user.name", "event.reason", "source.address"} & set(line)


@pytest.mark.parametrize("event", Event)
def test_every_event_is_written(log: Log, event: Event) -> None:
    AuditTrail(SteppedClock()).record(event)
    assert [line["event.action"] for line in log.lines()] == [event.value]


def test_what_a_client_sent_stays_on_its_line(log: Log) -> None:
    """Case 83."""
    AuditTrail(SteppedClock()).record(Event.AUTHN_FAIL, origin="x\r\n{}\x1b[2J")
    (line,) = log.lines()
    assert line["http.request.header.origin"] == "x\\x0d\\x0a{}\\x1b[2J"


def test_a_flood_is_bounded_and_counted(log: Log) -> None:
    """Case 81."""
    clock = SteppedClock()
    trail = AuditTrail(clock)
    for _ in range(5_000):
        trail.record(Event.AUTHN_FAIL)
    clock.step(1)
    for _ in range(300):
        trail.record(Event.AUTHN_FAIL)
    trail.flush()
    trail.flush()
    lines = log.lines()
    assert len(lines) == 1_000 + 1 + 200 + 1
    assert lines[1_000]["sockade.log.left_out"] == 4_000
    assert lines[1_001]["event.action"] == "authn_fail"
    assert lines[-1]["sockade.log.left_out"] == 100


@pytest.mark.parametrize("flood", [Event.INPUT_INVALID, Event.AUTHN_FAIL, Event.EXCESS])
def test_a_flood_of_refusals_hides_no_other_event(log: Log, flood: Event) -> None:
    """Case 81: one stranger who asks for paths that are not there must not blind the log to sign-ins."""
    trail = AuditTrail(SteppedClock())
    for _ in range(5_000):
        trail.record(flood)
    others = [event for event in Event if event is not flood]
    for event in others:
        trail.record(event)
    written = [line["event.action"] for line in log.lines() if "sockade.log.left_out" not in line]
    assert written[1_000:] == [event.value for event in others]


def test_the_count_is_told_once_a_second_and_not_with_each_line_of_a_flood(log: Log) -> None:
    """Case 81."""
    clock = SteppedClock()
    trail = AuditTrail(clock, lines_per_second=100, burst_lines=10)
    for _ in range(3_000):
        trail.record(Event.AUTHN_FAIL)
        clock.step(0.001)
    trail.flush()
    counts = [line["sockade.log.left_out"] for line in log.lines() if "sockade.log.left_out" in line]
    assert len(counts) <= 4
    assert sum(counts) + len(log.lines()) - len(counts) == 3_000


async def test_the_count_is_written_though_nothing_more_comes(log: Log) -> None:
    trail = AuditTrail(SteppedClock(), burst_lines=1, summary_seconds=0)
    for _ in range(4):
        trail.record(Event.AUTHN_FAIL)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [line.get("sockade.log.left_out") for line in log.lines()] == [None, 3]


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing(log: Log) -> None:
    clock = SteppedClock()
    trail = AuditTrail(clock, burst_lines=2)
    trail.record(Event.AUTHN_FAIL)
    clock.step(-1_000)
    trail.record(Event.AUTHN_FAIL)
    assert len(log.lines()) == 2


def test_a_log_that_fails_harms_nobody(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_message: str, _fields: object) -> None:
        raise OSError

    trail = AuditTrail(SteppedClock())
    with monkeypatch.context() as patch:
        patch.setattr(audit.logs, "log_audit", broken)
        trail.record(Event.AUTHN_FAIL)
    trail.flush()
    assert [line.get("sockade.log.left_out") for line in log.lines()] == [1]
