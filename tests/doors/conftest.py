"""One server for the tests that only ask and are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.running import ROOMY, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with short deadlines and much room."""
    config = f"[limits]\n{ROOMY}head_seconds = 2\nhandshake_seconds = 3\ntls_seconds = 2\n"
    server = RunningServer(tmp_path_factory.mktemp("doors") / "server", config)
    server.start()
    yield server
    server.kill()
