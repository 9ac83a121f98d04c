"""What the process does again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sockade import process

if TYPE_CHECKING:
    import pytest


async def test_a_chore_that_goes_on_failing_is_told_when_that_begins_and_when_the_reason_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "SWEEP_SECONDS", 0.0)
    reasons = ["full"] * 50 + ["gone"] * 50 + [""] + ["gone"] * 50
    done = asyncio.Event()

    def chore() -> None:
        if not reasons:
            done.set()
        elif reason := reasons.pop():
            raise OSError(reason)

    task = asyncio.create_task(process.repeat(chore, "a chore failed"))
    await done.wait()
    task.cancel()
    assert [str(one.exc_info[1]) for one in caplog.records if one.exc_info] == ["gone", "gone", "full"]


async def test_a_chore_that_goes_on_failing_is_told_again_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(process, "TROUBLE_SECONDS", 0.0)
    calls = 0

    def chore() -> None:
        nonlocal calls
        calls += 1
        raise OSError("full")

    task = asyncio.create_task(process.repeat(chore, "a chore failed"))
    while calls < 3:
        await asyncio.sleep(0)
    task.cancel()
    assert len(caplog.records) == calls
