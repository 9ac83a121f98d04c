import os
import resource
import socket
from pathlib import Path

import pytest

from sockade.cli import doctor
from sockade.clock import SystemClock
from sockade.doors.certificates import ensure_local_pair
from sockade.settings import LimitSettings, ServerSettings, Settings, TlsSettings

from .conftest import Sockade


def test_doctor_looks_at_everything(sockade: Sockade) -> None:
    status, out, _ = sockade("doctor")
    words = [line.split()[1] for line in out.splitlines()]
    assert words == ["python", "openssl", "uvloop", "aiofastnet", "data", "port", "clock", "certificate", "descriptors"]
    assert status in (0, 1)


def test_a_problem_is_exit_status_1(sockade: Sockade) -> None:
    Path("data").mkdir(mode=0o755)
    status, out, _ = sockade("doctor", "--data-dir", "data")
    assert status == 1
    assert "problem  data" in out
    Path("data").chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        Path("sockade.toml").write_text(f"[server]\nport = {taken.getsockname()[1]}\n")
        status, out, _ = sockade("doctor", "--data-dir", "data")
    assert status == 1
    assert "problem  port" in out


def test_any_free_port_is_free() -> None:
    assert doctor.port("127.0.0.1", 0).state == "ok"
    assert doctor.port("not a host", 1).state == "problem"


def test_a_file_that_others_can_read_is_found(folder: Path) -> None:
    data = folder / "data"
    data.mkdir(0o700)
    (data / "key.pem").touch(0o600)
    (data / "link").symlink_to(data / "key.pem")
    assert doctor.data_directory(data).state == "ok"
    (data / "key.pem").chmod(0o640)
    assert doctor.data_directory(data).state == "problem"
    assert "key.pem can be read by others" in doctor.data_directory(data).text


def test_a_data_directory_of_someone_else_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in doctor.data_directory(folder).text


@pytest.mark.parametrize(
    ("limit", "state"), [(12_064, "ok"), (12_063, "note"), (20, "note"), (resource.RLIM_INFINITY, "ok")]
)
def test_descriptors_are_counted(limit: int, state: str) -> None:
    assert doctor.descriptors(LimitSettings(), (limit, limit)).state == state


def test_a_clock_in_the_past_is_found(folder: Path) -> None:
    now = SystemClock().wall()
    assert doctor.clock(folder, now).state == "ok"
    assert doctor.clock(folder, 0).state == "problem"
    (folder / "written").touch()
    os.utime(folder / "written", (now + 86_400, now + 86_400))
    found = doctor.clock(folder, now)
    assert found.state == "problem"
    assert f"1,440 minutes behind {folder / 'written'}" in found.text


def test_certificate_s_lifetime_is_told(folder: Path) -> None:
    now = SystemClock().wall()
    local = Settings(server=ServerSettings(data_dir=folder / "data"))
    assert "made at the first start" in doctor.certificate(local, now).text
    pair = ensure_local_pair(folder / "data", (), now)
    assert "renewed by itself" in doctor.certificate(local, now).text
    own = Settings(tls=TlsSettings(certificate=pair.certificate, key=pair.key))
    assert [doctor.certificate(own, now + days * 86_400).state for days in (-1, 0, 59, 61, 91)] == [
        "problem",
        "ok",
        "ok",
        "note",
        "problem",
    ]
    pair.certificate.write_text("nothing")
    assert doctor.certificate(own, now).state == "problem"


def test_old_openssl_is_found() -> None:
    assert doctor.openssl((1, 1, 1, 0, 0), "OpenSSL 1.1.1", tls_1_3=True).state == "problem"
    assert doctor.openssl((3, 5, 0, 0, 0), "OpenSSL 3.5", tls_1_3=False).state == "problem"
    assert doctor.openssl((3, 5, 0, 0, 0), "OpenSSL 3.5", tls_1_3=True).state == "ok"


def test_a_package_that_is_missing_is_noted() -> None:
    assert doctor.installed("surely_not_installed", "install it").state == "note"
    assert doctor.installed("json", "").state == "ok"
