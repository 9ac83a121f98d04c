import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sockade.cli import commands as entry
from sockade.configuration import load
from sockade.errors import StartError, StorageError, UsageError

from .conftest import Sockade

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


class FullDisk(io.FileIO):
    """A new file on a disk without room."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")

    def write(self, _content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# What an error means for the exit status.


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("One."), 2, "sockade: One.\n"),
        (StartError("One."), 3, "sockade: One.\n"),
        (StorageError("One."), 3, "sockade: One.\n"),
        (PermissionError(13, "Permission denied", "x.db"), 3, "sockade: x.db cannot be used (Permission denied).\n"),
        (OSError("odd"), 3, "sockade: The system cannot be used (odd).\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_sentence_and_a_status(
    sockade: Sockade, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, told: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(entry, "app", fail)
    assert sockade() == (status, "", told)


def test_an_interrupt_before_the_commands_are_imported_is_130(
    sockade: Sockade, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sockade.cli.commands", Interrupted())
    assert sockade("version") == (130, "", "")


def test_an_interrupt_inside_a_command_is_130(sockade: Sockade, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sockade.cli.check.judge", interrupt)
    assert sockade("check")[0] == 130


@pytest.mark.parametrize("command", [["user", "disable"], ["token", "new"], ["token", "revoke", "--user"]])
def test_an_argument_that_is_no_text_is_usage(sockade: Sockade, command: list[str]) -> None:
    assert sockade(*command, "a\udcff") == (2, "", "sockade: An argument is not text in UTF-8.\n")


def piped(*words: str, stdin: bytes = b"", encoding: str = "utf-8:strict") -> tuple[int, bytes, bytes]:
    """Run a command as a process whose streams have an encoding."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-m", "sockade", *words], input=stdin, capture_output=True, env=environment)
    return done.returncode, done.stdout, done.stderr


def test_standard_input_that_is_no_text_is_usage() -> None:
    wrong = b"caf\xe9 caf\xe9 caf\xe9"
    told = b"sockade: A password is text in UTF-8.\n"
    assert piped("user", "add", "ada", "--password-stdin", stdin=wrong) == (2, b"", told)
    assert piped("token", "inspect", stdin=wrong) == (2, b"", b"sockade: This is not a JSON Web Token.\n")


def test_what_the_terminal_has_no_letters_for_is_shown_by_number(sockade: Sockade) -> None:
    sockade("user", "add", "\u0436", "--password-stdin", stdin="correct horse battery")
    status, out, _ = piped("user", "list", encoding="latin-1")
    assert (status, out.split()[0]) == (0, b"\\u0436")


def test_a_command_that_is_none_is_usage(sockade: Sockade) -> None:
    status, _, err = sockade("frobnicate")
    assert status == 2
    assert "No such command 'frobnicate'" in err


@pytest.mark.parametrize("option", ["--data-dir", "--config"])
def test_an_option_that_names_nothing_is_not_the_working_directory(
    sockade: Sockade, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    status, _, err = sockade("check", option, "")
    assert status == 2
    assert f"'{option}': it is empty" in err
    monkeypatch.setenv("SOCKADE_SERVER__DATA_DIR", "")
    assert sockade("check") == (
        1,
        'problem   SOCKADE_SERVER__DATA_DIR (server.data_dir) is "", but must name a file or folder.\n',
        "",
    )


def test_settings_that_are_wrong_are_told_one_sentence_a_line(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nprot = 1\n[limits]\nheaders = 0\n")
    status, out, err = sockade("user", "list")
    assert (status, out) == (3, "")
    assert [line[:9] for line in err.splitlines()] == ["sockade: ", "sockade: "]


def test_version(sockade: Sockade) -> None:
    status, out, _ = sockade("version")
    assert status == 0
    assert re.fullmatch(r"sockade \d+\.\d+\.\d+\n", out)


def test_the_module_runs_like_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "sockade", "version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("sockade ")


def test_reference_lists_every_command(sockade: Sockade) -> None:
    listed = set(re.findall(r"^## `sockade ([a-z]+(?: [a-z]+)?)", REFERENCE.read_text(), re.MULTILINE))
    assert listed == set(commands(sockade))


def commands(sockade: Sockade, *group: str) -> list[str]:
    """Return the commands as the program itself lists them."""
    listing = sockade(*group, "--help")[1].partition("Commands:")[2]
    names = re.findall(r"^  (\w+)", listing, re.MULTILINE)
    if not names:
        return [" ".join(group)]
    return [name for word in names for name in commands(sockade, *group, word)]


# check


def test_check_of_nothing_is_fine(sockade: Sockade) -> None:
    assert sockade("check") == (0, "The settings are fine.\n", "")


def test_check_tells_every_problem_and_what_is_weakened(sockade: Sockade) -> None:
    Path("sockade.toml").write_text(
        "[server]\nhost = '0.0.0.0'\nnames = ['a b']\n[limits]\nheaders = 65\n[origins]\nallowed = ['*']\n"
    )
    status, out, _ = sockade("check")
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()] == ["problem"] * 3 + ["weakened"] * 2
    assert "fine" not in out


def test_check_of_unknown_keys_tells_the_rest_as_well(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nhost = '0.0.0.0'\n[logs]\n")
    status, out, _ = sockade("check")
    assert (status, len(out.splitlines())) == (1, 2)


@pytest.mark.parametrize("command", ["check", "doctor", "serve"])
def test_what_settings_hold_does_not_command_the_terminal(sockade: Sockade, command: str) -> None:
    Path("sockade.toml").write_text('[server]\nhost = "a\\u001b[2Jb\\u202e"\n')
    status, out, err = sockade(command)
    assert status in (1, 3)
    assert r"a\x1b[2Jb\u202e" in out + err
    assert "\x1b" not in out + err


def test_check_in_json(sockade: Sockade) -> None:
    Path("own.toml").write_text("[limits]\nheaders = 65\n")
    status, out, _ = sockade("check", "--json", "--config", "own.toml")
    assert status == 0
    assert json.loads(out) == {"problems": [], "weakened": ["limits.headers is 65, above the default of 64."]}


# init


def test_init_leaves_what_check_finds_fine(sockade: Sockade, folder: Path) -> None:
    status, out, _ = sockade("init")
    assert status == 0
    assert "sockade.toml written" in out
    assert (folder / ".sockade" / "ca.pem").exists()
    assert (folder / ".sockade").stat().st_mode & 0o777 == 0o700
    assert sockade("check")[:2] == (0, "The settings are fine.\n")


def test_init_makes_an_api_key_and_tells_where_but_not_what(sockade: Sockade, folder: Path) -> None:
    path = folder / ".sockade" / "api.key"
    out = "".join(sockade("init")[1:])
    key = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) == 43
    assert ".sockade/api.key" in out
    assert key not in out
    assert "API key" not in sockade("init")[1]
    assert path.read_text().strip() == key


def test_init_makes_no_key_beside_one_that_is_named(sockade: Sockade, folder: Path) -> None:
    (folder / "backend.key").write_text("k" * 43)
    (folder / "backend.key").chmod(0o600)
    Path("sockade.toml").write_text("[admin]\napi_key_file = 'backend.key'\n")
    assert sockade("init")[0] == 0
    assert not (folder / ".sockade" / "api.key").exists()


def test_every_line_of_the_settings_file_is_a_setting(sockade: Sockade) -> None:
    sockade("init")
    path = Path("sockade.toml")
    path.write_text(re.sub(r"^# (?=\w+ = )", "", path.read_text(), flags=re.MULTILINE))
    out = sockade("check")[1]
    assert "is not" not in out.replace("is not a PEM", "")
    assert "tls.certificate (fullchain.pem) cannot be read" in out


def test_init_keeps_a_file_that_is_there(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nport = 1\n")
    status, out, _ = sockade("init")
    assert status == 0
    assert "stays as it is" in out
    assert Path("sockade.toml").read_text() == "[server]\nport = 1\n"


def test_init_writes_down_the_data_directory_that_was_asked_for(sockade: Sockade, folder: Path) -> None:
    data = folder / 'my "own" data'
    assert sockade("init", "--config", "own.toml", "--data-dir", str(data))[0] == 0
    assert sockade("cert", "show", "--config", "own.toml")[1].startswith(str(data))


def test_init_writes_down_a_data_directory_of_any_name(sockade: Sockade, folder: Path) -> None:
    name = 'a\n"b"\\ж\x1b\x7f'
    assert sockade("init", "--data-dir", name)[0] == 0
    assert load().server.data_dir == folder / name


def test_init_leaves_no_settings_file_that_is_not_whole(
    sockade: Sockade, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sockade("init", "--data-dir", "a\udcff")[0] == 2
    monkeypatch.setattr(Path, "open", lambda self, _mode: FullDisk(self))
    assert sockade("init") == (3, "", "sockade: The system cannot be used (No space left on device).\n")
    assert list(folder.iterdir()) == []


def test_init_refuses_settings_that_are_refused(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nhost = '0.0.0.0'\n")
    status, _, err = sockade("init")
    assert status == 3
    assert "server.host" in err
    assert not Path(".sockade").exists()


# cert


def test_cert_show_before_there_is_one_says_what_to_do(sockade: Sockade) -> None:
    status, _, err = sockade("cert", "show")
    assert status == 3
    assert "run sockade init" in err


def test_cert_show_tells_of_the_leaf_and_its_ca(sockade: Sockade) -> None:
    sockade("init")
    status, out, _ = sockade("cert", "show")
    assert status == 0
    assert out.count("issuer   CN=Sockade local CA") == 2
    assert "names    localhost, 127.0.0.1, ::1" in out


def test_cert_renew_makes_another_leaf_of_the_same_ca(sockade: Sockade) -> None:
    sockade("init")
    before = sockade("cert", "show")[1].splitlines()
    assert sockade("cert", "renew")[0] == 0
    after = sockade("cert", "show")[1].splitlines()
    assert before[5] != after[5]
    assert before[6:] == after[6:]


def test_cert_trust_names_the_ca(sockade: Sockade, folder: Path) -> None:
    status, out, _ = sockade("cert", "trust", "--data-dir", "data")
    assert status == 0
    assert str(folder / "data" / "ca.pem") in out
    assert "update-ca-certificates" in out


def test_cert_commands_know_a_configured_certificate(sockade: Sockade) -> None:
    sockade("init", "--data-dir", "data")
    Path("sockade.toml").write_text("[tls]\ncertificate = 'data/tls/server.pem'\nkey = 'data/tls/server.pem'\n")
    status, out, _ = sockade("cert", "show")
    assert status == 0
    assert out.count("subject") == 1
    for command in ("trust", "renew"):
        status, _, err = sockade("cert", command)
        assert status == 2
        assert "tls.certificate is set" in err


def test_cert_commands_know_the_local_certificate_of_the_server_api(sockade: Sockade) -> None:
    sockade("init")
    Path("own.pem").write_bytes(Path(".sockade/tls/server.pem").read_bytes())
    Path("own.pem").chmod(0o600)
    Path("sockade.toml").write_text("[tls]\ncertificate = 'own.pem'\nkey = 'own.pem'\n")
    assert sockade("cert", "show")[1].count("subject") == 3
    assert sockade("cert", "trust")[0] == sockade("cert", "renew")[0] == 0
    assert Path(".sockade/tls/server.pem").read_bytes() != Path("own.pem").read_bytes()
