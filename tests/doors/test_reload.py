"""What is read from files while the server runs: certificates and address lists."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sockade.clock import SteppedClock
from sockade.doors import reload
from sockade.doors.certificates import LEAF_LIFE, describe, ensure_local_pair
from sockade.doors.reload import RENEWAL_SECONDS, CurrentAddresses, CurrentContext
from sockade.settings import AddressSettings, ServerSettings, Settings, TlsSettings

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


class Configured:
    """A configured pair, in one file, that is replaced."""

    def __init__(self, folder: Path, clock: SteppedClock) -> None:
        self.folder = folder
        self.clock = clock
        self.file = folder / "pair.pem"
        self.replace()
        tls = TlsSettings(certificate=self.file, key=self.file)
        self.current = CurrentContext(Settings(server=ServerSettings(data_dir=folder), tls=tls), clock)
        self.first = self.current.context

    def replace(self, made: timedelta = timedelta(), mode: int = 0o600) -> None:
        """Put another pair in the file's place, made so long after now."""
        new = ensure_local_pair(self.folder / "other", [], self.clock.wall() + made.total_seconds(), renew=True)
        shutil.copy(new.certificate, self.folder / "new")
        (self.folder / "new").chmod(mode)
        (self.folder / "new").replace(self.file)

    @property
    def is_replaced(self) -> bool:
        self.current.refresh()
        return self.current.context is not self.first


@pytest.fixture
def configured(tmp_path: Path, clock: SteppedClock) -> Configured:
    return Configured(tmp_path, clock)


def test_a_new_pair_is_used(configured: Configured) -> None:
    configured.replace()
    assert configured.is_replaced


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o622])
def test_a_new_key_that_others_can_read_is_refused_until_they_cannot(
    configured: Configured, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    configured.replace(mode=mode)
    assert not configured.is_replaced
    assert not configured.is_replaced
    [line] = caplog.messages
    assert "can be read by others: run `chmod 600" in line
    configured.file.chmod(0o600)
    assert configured.is_replaced


def test_a_new_certificate_that_has_expired_is_refused(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    configured.replace(made=-2 * LEAF_LIFE)
    assert not configured.is_replaced
    assert "expired on" in caplog.text


def test_a_new_certificate_is_refused_until_it_is_valid(
    configured: Configured, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    configured.replace(made=timedelta(days=1))
    assert not configured.is_replaced
    assert "is not valid before" in caplog.text
    clock.step(86_400)
    assert configured.is_replaced


def test_a_pair_that_changes_while_it_is_read_is_read_again(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured.replace()
    read = reload.server_context

    def change(*arguments: object) -> object:
        configured.replace(mode=0o644)
        return read(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(reload, "server_context", change)
        assert not configured.is_replaced
    assert not configured.is_replaced
    configured.file.chmod(0o600)
    assert configured.is_replaced


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


# Address lists.

OTHER = "203.0.113.9"


@pytest.fixture
def lists(tmp_path: Path) -> CurrentAddresses:
    (tmp_path / "denied").write_text("10.0.0.0/8\n")
    return CurrentAddresses(AddressSettings(deny_file=tmp_path / "denied"))


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be there and not be read: root reads whatever the mode is."""
    monkeypatch.setattr(reload, "networks_in", lambda path, key: f"addresses.{key} ({path}) cannot be read")


def test_lists_that_could_not_be_read_are_read_once_they_can_be(
    lists: CurrentAddresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 51: mending the mode of a file or of its folder changes neither its time nor its size."""
    (tmp_path / "denied").write_text("10.0.0.0/8\n203.0.113.0/24\n")
    with monkeypatch.context() as patch:
        refuse_reading(patch)
        assert [lists.refresh() for _ in range(3)] == [False] * 3
    assert [line for line in caplog.messages if "refused" in line] == caplog.messages
    assert len(caplog.messages) == 1
    assert lists.rules.permits(OTHER)
    assert lists.refresh()
    assert not lists.rules.permits(OTHER)
    assert not lists.refresh()


def test_lists_that_are_refused_once_more_are_told_of_once_more(
    lists: CurrentAddresses, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ("nonsense", "10.0.0.0/8", "nonsense"):
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").replace(tmp_path / "denied")
        lists.refresh()
        lists.refresh()
    assert len([line for line in caplog.messages if "refused" in line]) == 2
