"""The server's part on the page's sockets, played by a test: to close with any code, and to lose what was said."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, WebSocketRoute

PATH = re.compile(r"/connection/websocket$")
ANSWERS: dict[str, dict[str, Any]] = {
    "connect": {"client": "c1", "version": "test"},
    "subscribe": {"recoverable": True, "positioned": True, "epoch": "e"},
    "history": {"epoch": "e"},
    "presence": {},
}
HERE = {"c1": {"user": "ada", "client": "c1"}}


def play_server(
    page: Page, *, answering: bool = True, presence: Callable[[], dict[str, Any]] = lambda: HERE
) -> list[WebSocketRoute]:
    """Answer the page's commands, in rooms where nothing was said; return its sockets as they come."""
    dials: list[WebSocketRoute] = []

    def take(socket: WebSocketRoute) -> None:
        dials.append(socket)
        if answering:
            socket.on_message(lambda message: socket.send("\n".join(answers(str(message), presence))))
        else:
            socket.on_message(lambda message: None)

    page.route_web_socket(PATH, take)
    return dials


def answers(message: str, presence: Callable[[], dict[str, Any]]) -> list[str]:
    """Return the replies to the commands of one message."""
    found = []
    for line in message.split("\n"):
        command = json.loads(line)
        method = next((name for name in ANSWERS if name in command), None)
        if method is not None:
            answer = ANSWERS[method]
            if command[method].get("recover"):
                answer = {**answer, "recovered": True, "was_recovering": True}
            if method == "presence":
                answer = {"presence": presence()}
            found.append(json.dumps({"id": command["id"], method: answer}))
    return found


class Relay:
    """A way between the page and the real server on which a test can hold back and lose what passes."""

    def __init__(self, page: Page) -> None:
        self.sockets: list[WebSocketRoute] = []
        self.upward: Callable[[str], bool] = lambda message: True
        self.downward: Callable[[str], bool] = lambda message: True
        self.held: list[Callable[[], None]] = []
        page.route_web_socket(PATH, self._take)

    def hold(self, _: str) -> bool:
        """Let nothing pass, and keep it for `release`."""
        return False

    def release(self) -> None:
        """Let pass what was held back, and whatever comes."""
        self.upward = self.downward = lambda message: True
        for send in self.held:
            send()
        self.held.clear()

    def lose(self) -> None:
        """Break the connection without a closing handshake's code; what was held back is lost."""
        self.held.clear()
        self.upward = self.downward = lambda message: True
        self.sockets[-1].close(code=1011)

    def _take(self, page_side: WebSocketRoute) -> None:
        self.sockets.append(page_side)
        server_side = page_side.connect_to_server()

        def up(message: str | bytes) -> None:
            if self.upward(str(message)):
                server_side.send(message)
            else:
                self.held.append(lambda: server_side.send(message))

        def down(message: str | bytes) -> None:
            if self.downward(str(message)):
                page_side.send(message)
            else:
                self.held.append(lambda: page_side.send(message))

        page_side.on_message(up)
        server_side.on_message(down)
