"""A real `sockade serve` process and what a client outside it needs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from functools import cached_property
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse battery"
START_SECONDS = 60
LOG_SECONDS = 5
LAST_LOG = 10_000
"""Characters of the log that are shown of a server that did not end."""
ROOMY = (
    "connections_per_address = 5000\nconnections_per_user = 5000\nhandshakes_per_minute = 100000\n"
    "messages_per_second = 1000\nmessage_burst = 1000\n"
    "message_bytes_per_second = 100000000\nmessage_bytes_burst = 100000000\n"
)
"""Limits for tests whose many clients all have one address."""


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    json: Any


class Start(Protocol):
    def __call__(self, config: str = "", app: str = "", **options: Any) -> RunningServer: ...


class RunningServer:
    """One server process on a loopback port of its own, with its data in a folder of its own."""

    def __init__(
        self, folder: Path, config: str = "", app: str = "", *, module_path: str = "", traced: bool = True
    ) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "sockade.toml"
        self.config.write_text(config)
        self.app = app
        self.module_path = module_path or str(folder)
        self.traced = traced
        """Whether the process notes its coverage; not where a test is of speed, or that would be most of it."""
        self.port = 0
        self.process: subprocess.Popen[bytes]
        self.users: list[str] = []

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a `sockade` command on this server's data."""
        return subprocess.run(
            [sys.executable, "-m", "sockade", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment,
            cwd=self.folder,
        )

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), self.module_path]))
        untraced = {} if self.traced else {"COVERAGE_PROCESS_CONFIG": ""}
        return {**os.environ, **untraced, "PYTHONPATH": path, "NO_COLOR": "1", "PYTHONFAULTHANDLER": "1"}

    def init(self) -> None:
        """Run `sockade init`, which makes the API key."""
        done = self.command("init", "--config", str(self.config), "--data-dir", str(self.data_dir))
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the process, on the port of the last time if there was one, and wait until it answers."""
        words = [sys.executable, "-m", "sockade", "serve", *([self.app] if self.app else [])]
        words += ["--config", str(self.config), "--data-dir", str(self.data_dir), "--port", str(self.port)]
        out, err = (self.folder / "stdout").open("wb"), (self.folder / "stderr").open("ab")
        with out, err:
            self.process = subprocess.Popen(words, stdout=out, stderr=err, env=self.environment, cwd=self.folder)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            match = re.search(r"https://localhost:(\d+)", self.panel)
            if match:
                self.port = int(match[1])
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.panel}\n{self.log_text}")

    @property
    def panel(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def log_text(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every log line so far; the last may be half written yet."""
        whole = self.log_text.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def says(self, text: str) -> bool:
        """Tell whether the log holds a text; it is written a moment after what it tells of."""
        deadline = time.monotonic() + LOG_SECONDS
        while text not in self.log_text.rpartition("\n")[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def log_of(self, connection: str) -> list[dict[str, Any]]:
        """The log lines that name a connection or request id."""
        self.says(connection)
        return [line for line in self.log if connection in json.dumps(line)]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        """End the process with a signal and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            # Where each thread is, by faulthandler, stands behind the log.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(seconds)
            raise AssertionError(f"the server did not end: {self.log_text[-LAST_LOG:]}") from None

    def kill(self) -> None:
        """End the process at once, if it was ever started."""
        if hasattr(self, "process"):
            self.stop(signal.SIGKILL)

    # Clients.

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """A client's context that trusts this server's local CA alone."""
        return ssl.create_default_context(cafile=str(self.data_dir / "ca.pem"))

    @property
    def api_url(self) -> str:
        """Where the server API is, by the panel; empty where it is nowhere."""
        match = re.search(r"^Server API +(\S+)$", self.panel, re.MULTILINE)
        return match[1] if match else ""

    @property
    def api_key(self) -> str:
        return (self.data_dir / "api.key").read_text().strip()

    def add_user(self, name: str, role: str = "user") -> None:
        done = self.command(
            "user", "add", name, "--role", role, "--password-stdin", "--data-dir", str(self.data_dir), stdin=PASSWORD
        )
        assert done.returncode == 0, done.stderr
        self.users.append(name)

    def http(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, raw: bytes = b""
    ) -> Answer:
        """Make one request on a connection of its own."""
        connection = HTTPSConnection("localhost", self.port, context=self.tls, timeout=20)
        content = raw or (json.dumps(body).encode() if body is not None else None)
        sent = {"Content-Type": "application/json", **(headers or {})} if content is not None else headers or {}
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            is_json = "json" in found.get("content-type", "")
            return Answer(response.status, found, json.loads(text) if is_json and text else text)
        finally:
            connection.close()

    def cookie(self, user: str = "ada") -> str:
        """Sign in as a page does, and return the Cookie header's value."""
        if user not in self.users:
            self.add_user(user)
        answer = self.http("POST", "/auth/login", {"username": user, "password": PASSWORD}, {"Origin": self.origin})
        assert answer.status == 200, answer
        return answer.headers["set-cookie"].partition(";")[0]

    def token(self, user: str = "ada") -> str:
        """Sign in as a native client does, and return an access token."""
        return str(self.tokens(user)["access_token"])

    def tokens(self, user: str = "ada") -> dict[str, Any]:
        if user not in self.users:
            self.add_user(user)
        answer = self.http("POST", "/auth/login", {"username": user, "password": PASSWORD, "grant": "token"})
        assert answer.status == 200, answer
        return dict(answer.json)

    def connect(self, path: str = "/", *, token: str = "", **options: Any) -> connect:
        """Return a WebSocket client that is about to connect."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return connect(
            f"wss://localhost:{self.port}{path}",
            ssl=self.tls,
            additional_headers=headers,
            compression=None,
            **options,
        )

    async def refused(self, path: str = "/", **options: Any) -> Answer:
        """Connect, expecting a refusal before the 101, and return it."""
        try:
            async with self.connect(path, **options):
                raise AssertionError("the server opened the connection")
        except InvalidStatus as error:
            response = error.response
            headers = {name.lower(): value for name, value in response.headers.raw_items()}
            return Answer(response.status_code, headers, json.loads(response.body or b"null"))

    def raw(self) -> ssl.SSLSocket:
        """Return a TLS connection to write any bytes on."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return self.tls.wrap_socket(plain, server_hostname="localhost")

    def exchange(self, data: bytes) -> bytes:
        """Send bytes on a connection of its own and return all that comes back until it ends."""
        with self.raw() as sock:
            sock.sendall(data)
            return read_all(sock)


def read_all(sock: ssl.SSLSocket) -> bytes:
    """Read until the server ends the connection."""
    parts = []
    while True:
        try:
            part = sock.recv(65_536)
        except (ConnectionResetError, ssl.SSLError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


async def close_code(client: ClientConnection, seconds: float = 20) -> int | None:
    """Wait until a client's connection has ended, and return the code the server sent."""
    async with asyncio.timeout(seconds):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None
