import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sockade.cli.main import main

Answer = tuple[int, str, str]
Sockade = Callable[..., Answer]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and an environment without settings."""
    for name in list(os.environ):
        if name.startswith("SOCKADE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sockade(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sockade:
    """Run a command; return its exit status, standard output and standard error."""

    def run(*arguments: str, stdin: str = "", terminal: bool = False) -> Answer:
        stream = Terminal(stdin) if terminal else io.StringIO(stdin)
        monkeypatch.setattr("sys.stdin", stream)
        status = main(list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return run
