"""The running server, with what a test of its page asks of it."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING

from tests.running import ROOMY, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

# One browser, one address: many connections, which nobody would call a flood.
CONFIG = f"[limits]\n{ROOMY}"


class PageServer(RunningServer):
    """`sockade serve` with the built-in chat."""

    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        super().__init__(folder, config)

    @property
    def url(self) -> str:
        """The address of the page."""
        return self.origin

    def certificate(self) -> bytes:
        """Return the server's certificate, verified against the local CA, as DER."""
        with (
            socket.create_connection(("localhost", self.port), timeout=5) as plain,
            self.tls.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            found = secured.getpeercert(binary_form=True)
        assert found is not None
        return found

    def logged(self, text: str, times: int, within: float = 5) -> bool:
        """Tell whether a text comes to stand in the log so many times; lines are written behind the answer."""
        end = time.monotonic() + within
        while self.log_text.count(text) < times and time.monotonic() < end:
            time.sleep(0.05)
        return self.log_text.count(text) == times

    def first_link(self) -> str:
        """Return the sign-in link it printed when it had no users."""
        found = re.search(rf"{self.url}/#link=[\w-]+", self.panel)
        assert found is not None, self.panel
        return found[0]
