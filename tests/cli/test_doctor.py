import os
import resource
import socket
from pathlib import Path

import pytest

from sockade.cli import doctor
from sockade.clock import SystemClock
from sockade.doors.certificates import ensure_local_pair
from sockade.settings import AdminSettings, LimitSettings, ServerSettings, Settings, TlsSettings

from .conftest import Sockade


def test_doctor_looks_at_everything(sockade: Sockade) -> None:
    status, out, _ = sockade("doctor")
    words = [line.split()[1] for line in out.splitlines()]
    machine = ["python", "settings", "openssl", "uvloop", "aiofastnet"]
    assert words == [*machine, "data", "port", "clock", "certificate", "descriptors"]
    assert status in (0, 1)
    sockade("init")
    assert "admin" in [line.split()[1] for line in sockade("doctor")[1].splitlines()]


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


def ports(host: str = "127.0.0.1", number: int = 0, admin: int = 0) -> list[tuple[str, str]]:
    settings = Settings(server=ServerSettings(host=host, port=number), admin=AdminSettings(port=admin))
    return [(found.what, found.state) for found in doctor.ports(settings)]


def test_any_free_port_is_free() -> None:
    assert ports() == [("port", "ok")]


@pytest.mark.parametrize("host", ["not a host", "a..b", "x" * 70])
def test_a_host_that_is_none_is_a_finding(host: str) -> None:
    assert ports(host, 1) == [("port", "problem")]


def test_the_admin_port_must_be_free_where_there_is_a_key(sockade: Sockade) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert ports(admin=number) == [("port", "ok")]
        sockade("init")
        assert ports(admin=number) == [("port", "ok"), ("admin", "problem")]
    assert ports("127.0.0.1", number, number) == [("port", "ok"), ("admin", "problem")]


def test_settings_that_a_start_refuses_are_found(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nhost = ''\n")
    status, out, _ = sockade("doctor")
    assert status == 1
    assert 'problem  settings     server.host is ""' in out


def test_a_file_that_others_can_read_is_found(folder: Path) -> None:
    data = folder / "data"
    data.mkdir(0o700)
    (data / "key.pem").touch(0o600)
    (data / "link").symlink_to(data / "key.pem")
    assert doctor.data_directory(data).state == "ok"
    (data / "key.pem").chmod(0o640)
    assert doctor.data_directory(data).state == "problem"
    assert "key.pem can be read by others" in doctor.data_directory(data).text


def denied(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let the system deny this user a path; root, who may run the tests, is denied nothing."""
    monkeypatch.setattr(os, "access", lambda asked, _mode: asked != path)


def test_a_link_in_the_place_of_the_data_directory_is_looked_through(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data").mkdir(0o700)
    (folder / "link").symlink_to(folder / "data")
    assert doctor.data_directory(folder / "link").state == "ok"
    denied(monkeypatch, folder / "link")
    assert doctor.data_directory(folder / "link").state == "problem"


def test_a_folder_that_this_user_may_not_look_into_does_not_end_the_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "data")

    monkeypatch.setattr(Path, "rglob", closed)
    assert doctor.clock(folder, SystemClock().wall()).state == "ok"


def test_a_data_directory_that_cannot_be_made_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied(monkeypatch, folder)
    assert doctor.data_directory(Path("one/two")).text == (
        f"one/two cannot be made, for {folder} cannot be written by this user"
    )


@pytest.mark.parametrize("name", [".", "ca.pem", "tls", "tls/ca-key.pem", "api.key", "sockade.db"])
def test_what_this_user_cannot_read_and_write_is_found(
    sockade: Sockade, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sockade("init")
    sockade("user", "list")
    assert doctor.data_directory(Path(".sockade")).state == "ok"
    denied(monkeypatch, Path(".sockade", name))
    found = doctor.data_directory(Path(".sockade"))
    assert found.state == "problem"
    assert f"{Path('.sockade', name)} cannot be read and written by this user" in found.text


@pytest.mark.parametrize("name", ["sockade.db", "channels.db"])
def test_a_database_that_is_none_is_found(sockade: Sockade, name: str) -> None:
    sockade("init")
    path = Path(".sockade", name)
    path.touch(0o600)
    assert doctor.data_directory(Path(".sockade")).state == "ok"
    path.write_text("no database at all")
    assert f"{path} is not a database" in doctor.data_directory(Path(".sockade")).text


def test_a_lost_key_of_the_ca_is_found(sockade: Sockade) -> None:
    sockade("init")
    Path(".sockade/tls/ca-key.pem").unlink()
    found = doctor.certificate(Settings(), SystemClock().wall())
    assert (found.state, "put it back" in found.text) == ("problem", True)


def test_the_local_pair_counts_beside_another_certificate_where_the_server_api_has_it(sockade: Sockade) -> None:
    sockade("init")
    own = Path("own.pem")
    own.write_bytes(Path(".sockade/tls/server.pem").read_bytes())
    Path(".sockade/tls/ca-key.pem").unlink()
    tls, now = TlsSettings(certificate=own, key=own), SystemClock().wall()
    assert doctor.certificate(Settings(tls=tls), now).state == "problem"
    assert doctor.certificate(Settings(tls=tls, admin=AdminSettings(tls=False)), now).state == "ok"
    Path(".sockade/api.key").unlink()
    assert doctor.certificate(Settings(tls=tls), now).state == "ok"


@pytest.mark.parametrize(
    ("limit", "state"),
    [(12_064, "ok"), (12_063, "note"), (256, "note"), (63, "problem"), (resource.RLIM_INFINITY, "ok")],
)
def test_descriptors_are_counted(limit: int, state: str) -> None:
    assert doctor.descriptors(LimitSettings(), (limit, limit)).state == state


def test_how_many_connections_descriptors_allow_is_told() -> None:
    assert "256 allow about 192 connections, admitted or not" in doctor.descriptors(LimitSettings(), (256, 256)).text


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
