import io
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from sockade import Sockade as Application
from sockade.cli import panel
from sockade.cli import serve as serving
from sockade.cli.application import load_application
from sockade.errors import StartError, UsageError

from .conftest import Sockade, Terminal


@dataclass
class Started:
    """What the server would hand over."""

    url: str = "https://localhost:8443"
    pages: bool = True
    endpoints: tuple[str, ...] = ("wss://localhost:8443/",)
    link: str | None = "https://localhost:8443/#link=" + "x" * 43
    api: str | None = "https://localhost:8444/api"
    data_dir: Path = Path(".sockade")
    protected: tuple[str, ...] = ("TLS 1.2 and 1.3", "origin and host checked")
    weakened: tuple[str, ...] = ()
    local_ca: bool = True


def shown(started: Started, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    panel.show(started, stream)  # type: ignore[arg-type]
    return stream.getvalue()


# The panel.


def test_panel_says_all_a_newcomer_needs() -> None:
    text = shown(Started())
    for part in (
        Started.url,
        str(Started.link),
        str(Started.api),
        ".sockade",
        "TLS 1.2 and 1.3",
        "nothing",
        "sockade user add NAME",
    ):
        assert part in text
    assert "sockade cert trust" in text


def test_panel_of_an_application_without_a_page_tells_where_to_connect_and_how_to_get_a_token() -> None:
    lines = shown(Started(pages=False, link=None)).splitlines()
    assert "Connect    wss://localhost:8443/" in lines
    assert lines[-1] == "Next       sockade user add NAME, then sockade token new NAME"
    assert not [line for line in lines if line.startswith(("Open", "Sign in"))]


def test_panel_leaves_out_what_there_is_not() -> None:
    text = shown(Started(link=None, api=None, local_ca=False))
    assert "API" not in text
    assert "Sign in" not in text
    assert "Trust" not in text


def test_panel_never_has_more_than_12_lines() -> None:
    many = tuple(f"something of importance, number {number}" for number in range(100))
    text = shown(Started(protected=many, weakened=many))
    assert len(text.splitlines()) <= panel.MOST_LINES
    paths = tuple(f"wss://localhost:8443/path/{number}" for number in range(100))
    plain = shown(Started(pages=False, endpoints=paths, link=None, protected=many, weakened=many))
    assert len(plain.splitlines()) <= panel.MOST_LINES
    assert "sockade check shows all" in text


def test_panel_shows_no_character_that_commands_the_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        text = shown(Started(data_dir=Path("a\x1b]0;b\x07"), weakened=("a\x9b2J",)), stream)
        assert "\x1b]" not in text
        assert "\x9b" not in text
        assert r"a\x1b]0;b\x07" in text


def test_panel_is_plain_where_there_is_no_terminal() -> None:
    assert "\x1b" not in shown(Started())


def test_panel_has_colour_on_a_terminal_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(Started(), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(Started(weakened=("[bold]limits[/bold]",)), Terminal())
    assert "\x1b[3" not in text
    assert "[bold]limits[/bold]" in text


def test_a_link_stays_on_its_line_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert str(Started.link) in shown(Started(), Terminal())


# Finding the application.


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(text: str, name: str) -> None:
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_application_is_found_in_the_working_directory(module: Any) -> None:
    module("from sockade import Sockade\nclass Here:\n    app = Sockade()\n", "found_here")
    assert isinstance(load_application("found_here:Here.app"), Application)
    assert isinstance(load_application("found_here:Here.app"), Application)


@pytest.mark.parametrize(
    ("text", "target", "told"),
    [
        ("", "absent_module:app", "There is no module absent_module in "),
        ("", "broken_one", "write MODULE:APP"),
        ("", "broken_one:", "write MODULE:APP"),
        ("", ":app", "write MODULE:APP"),
        ("", ".broken_one:app", "write MODULE:APP"),
        ("", "broken_one.py:app", "write the module, broken_one:app"),
        ("", "folder/broken_one.py", "write the module, folder.broken_one:app"),
        ("", "./broken_one.py:app", "write the module, broken_one:app"),
        ("", "../there/broken_one.py", "write the module in ../there, broken_one:app"),
        ("", "/srv/broken_one.py:mine", "write the module in /srv, broken_one:mine"),
        ("", "broken_one.inner:app", "There is no module broken_one.inner in "),
        ("", "broken_one:app", "has no app: assign one"),
        ("from sockade import Sockade\nmine = Sockade()", "broken_one:app", "did you mean broken_one:mine?"),
        ("app = 5", "broken_one:app", "is a int: name an instance of sockade.Sockade"),
        ("import surely_not_installed", "broken_one:app", "needs surely_not_installed, which is not installed"),
        ("x =", "broken_one:app", "cannot be imported: SyntaxError: invalid syntax"),
        ("\nraise ValueError('one\\ntwo')", "broken_one:app", "ValueError: one ("),
        ("\nimport sys; sys.exit(5)", "broken_one:app", "cannot be imported: SystemExit: 5 ("),
        ("assert False", "broken_one:app", "cannot be imported: AssertionError ("),
        ("from sockade import *\n\nSockade().endpoint('no')", "broken_one:app", "imported: endpoint path 'no' must"),
        ("from sockade import *\n\nSockade().endpoint('no')", "broken_one:app", "broken_one.py, line 3)"),
    ],
)
def test_a_wrong_application_is_one_sentence(module: Any, text: str, target: str, told: str) -> None:
    module(text, "broken_one")
    with pytest.raises(UsageError) as caught:
        load_application(target)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


# The command.


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for the server; keeps what it was called with."""
    calls: list[Any] = []

    def run(settings: object, application: object, announce: Any) -> int:
        calls.append((settings, application))
        announce(Started())
        return 0

    class Writer:
        def close(self) -> None:
            calls.append("log closed")

    # The module, not its attribute: what the server stands on is not wanted here.
    monkeypatch.setitem(sys.modules, "sockade.process", SimpleNamespace(run=run))
    monkeypatch.setattr("sockade.telemetry.logs.set_up", lambda _settings: Writer())
    return calls


def test_serve_hands_settings_over_shows_the_panel_and_closes_the_log(sockade: Sockade, served: list[Any]) -> None:
    Path("own.toml").write_text("[server]\nport = 1\ndata_dir = 'kept'\n")
    status, out, _ = sockade("serve", "--config", "own.toml", "--port", "9443", "--host", "::1", "--data-dir", "d")
    assert status == 0
    assert "https://localhost:8443" in out
    assert " user add NAME --config own.toml --data-dir d\n" in out
    (settings, application), closed = served
    assert (settings.server.port, settings.server.host, settings.server.data_dir) == (9443, "::1", Path("d"))
    assert application is None
    assert closed == "log closed"


@pytest.mark.parametrize(("found", "told"), [(None, "'.my venv/bin/sockade'"), ("/bin/sockade", "sockade")])
def test_panel_names_a_command_that_can_be_typed(
    sockade: Sockade, served: list[Any], monkeypatch: pytest.MonkeyPatch, found: str | None, told: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: found)
    monkeypatch.setattr(sys, "argv", [".my venv/bin/sockade"])
    out = sockade("serve")[1]
    assert f" {told} user add NAME\n" in out
    assert f" {told} cert trust\n" in out


def test_serve_loads_the_application(sockade: Sockade, served: list[Any], module: Any) -> None:
    module("from sockade import Sockade\napp = Sockade()\n", "mine_to_serve")
    assert sockade("serve", "mine_to_serve:app")[0] == 0
    assert isinstance(served[0][1], Application)


def test_serve_of_a_wrong_module_is_usage(sockade: Sockade, served: list[Any]) -> None:
    status, _, err = sockade("serve", "absent_module:app")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert served == []


def test_a_server_that_cannot_start_is_status_3(
    sockade: Sockade, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise StartError("Port 8443 is taken: choose another with --port.")

    monkeypatch.setattr(sys.modules["sockade.process"], "run", refuse)
    assert sockade("serve") == (3, "", "sockade: Port 8443 is taken: choose another with --port.\n")
    assert served == ["log closed"]


def test_the_status_of_the_server_is_the_status_of_the_command(
    sockade: Sockade, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["sockade.process"], "run", lambda *_: 130)
    assert sockade("serve")[0] == 130


def test_a_panel_that_nobody_reads_keeps_no_server_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = Event()
    monkeypatch.setattr(panel, "show", lambda *_, **__: read.wait(10))
    monkeypatch.setattr(serving, "PANEL_SECONDS", 0.01)
    serving._announce(Started(), "")  # type: ignore[arg-type]
    assert not read.is_set()
    assert "the start panel waits until standard output is read" in caplog.text
    read.set()
