"""What is read from files while the server runs: the local certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sockade.clock import SteppedClock
from sockade.doors import reload
from sockade.doors.certificates import describe
from sockade.doors.reload import RENEWAL_SECONDS, CurrentContext
from sockade.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def current(tmp_path: Path, clock: SteppedClock) -> CurrentContext:
    return CurrentContext(Settings(server=ServerSettings(data_dir=tmp_path)), clock)


def test_a_local_certificate_near_its_end_is_replaced(current: CurrentContext, clock: SteppedClock) -> None:
    before, context = describe(current.pair.certificate), current.context
    current.refresh()
    assert current.context is context
    clock.step(before.not_after.timestamp() - clock.wall() - 1)
    current.refresh()
    assert current.context is not context
    assert describe(current.pair.certificate).not_after > before.not_after


def test_a_local_certificate_that_is_gone_is_made_again_at_once(current: CurrentContext) -> None:
    context = current.context
    current.pair.certificate.unlink()
    current.refresh()
    assert current.pair.certificate.exists()
    assert current.context is not context


def test_certificates_that_are_what_they_were_are_read_once_a_minute(
    current: CurrentContext, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[float] = []
    pair = current.pair
    monkeypatch.setattr(reload, "pair_for", lambda settings, now: read.append(now) or pair)
    for _ in range(int(2 * RENEWAL_SECONDS)):
        clock.step(1)
        current.refresh()
    assert len(read) == 2
