"""A real server process for every test that drives it from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.running import RunningServer, Start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tests.security.report"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers: `start(config="[limits]\\n…", app="module:app")`. Each ends with the test."""
    started: list[RunningServer] = []

    def begin(config: str = "", app: str = "", **options: Any) -> RunningServer:
        server = RunningServer(tmp_path / f"server{len(started)}", config, app, **options)
        started.append(server)
        server.start()
        return server

    yield begin
    for server in started:
        server.kill()


@pytest.fixture
def server(start: Start) -> RunningServer:
    """The built-in chat with two users, `ada` and `bob`."""
    return start()
