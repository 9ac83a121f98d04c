"""Server processes: started on a loopback port of their own, measured from outside, ended by their id."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.install import AbsentError, told
from bench.machine import SERVER_CORE, pinned

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers import Peer

START_SECONDS = 40
TOKEN_SECONDS = 300
USER = "bench"


@dataclass
class Server:
    """One running server. `certificate` is a PEM file with certificate and key."""

    peer: Peer
    folder: Path
    certificate: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    has_user: bool = False
    _token: str = ""
    _token_at: float = field(default=-TOKEN_SECONDS)

    def start(self) -> None:
        """Start it and wait until it answers a TLS handshake. Raises AbsentError with the reason if it does not."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.port = free_port()
        words = self.peer.command(self)
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                pinned(SERVER_CORE, *words),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **self.peer.environment},
            )
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise AbsentError(f"did not start: {told((self.folder / 'output').read_text(errors='replace'))}")
            time.sleep(0.1)

    def answers(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the local CA is this benchmark's own
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as plain:
                plain.settimeout(5)
                context.wrap_socket(plain, server_hostname="localhost").close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def token(self) -> str:
        """Return a token that is good for some minutes; empty where the server asks for none."""
        if self.peer.token is None:
            return ""
        if time.monotonic() - self._token_at > TOKEN_SECONDS:
            self._token, self._token_at = self.peer.token(self), time.monotonic()
        return self._token

    def sockade(self, *words: str, stdin: str = "") -> str:
        """Run a `sockade` command on this server's data and return what it wrote."""
        command = [sys.executable, "-m", "sockade", *words, "--data-dir", str(self.folder / "data")]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, cwd=self.folder)
        except subprocess.TimeoutExpired:
            raise AbsentError(f"sockade {words[0]} did not end") from None
        if done.returncode:
            raise AbsentError(f"sockade {words[0]} failed: {told(done.stderr)}")
        return done.stdout.strip()


def sockade_token(server: Server) -> str:
    """Return an access token of the server's own."""
    if not server.has_user:
        server.sockade("user", "add", USER, "--password-stdin", stdin="correct horse battery")
        server.has_user = True
    return server.sockade("token", "new", USER)


def hs256_token(secret: str) -> str:
    """Return a connection token for Centrifugo, which names a user and when it ends."""
    claims = {"sub": USER, "exp": int(time.time()) + 3 * TOKEN_SECONDS}
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = ".".join(parts)
    return f"{text}.{encoded(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def free_port() -> int:
    """Return a port that nobody listens on, outside of the range that clients' ports are taken from."""
    for number in range(20_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number + os.getpid() % 500))
            except OSError:
                continue
            return number + os.getpid() % 500
    raise AbsentError("no free port")


class Running:
    """The servers of one benchmark, each started when it is first asked for."""

    def __init__(self, folder: Path, certificate: Path, absent: dict[str, str]) -> None:
        self._folder = folder
        self._certificate = certificate
        self._servers: dict[str, Server] = {}
        self._absent = absent

    def get(self, peer: Peer) -> Server | None:
        """Return a running server, or None where it is absent; the reason is kept."""
        if peer.name in self._absent:
            return None
        if peer.name not in self._servers:
            try:
                self._servers[peer.name] = self.fresh(peer)
            except AbsentError as error:
                self._absent[peer.name] = str(error)
                return None
        return self._servers[peer.name]

    def fresh(self, peer: Peer) -> Server:
        """Start a server that has done nothing yet. Raises AbsentError."""
        number = len(list(self._folder.iterdir()))
        server = Server(peer, self._folder / f"{number}", self._certificate)
        server.start()
        return server

    def close(self) -> None:
        """End them all. Who is asked for again is started anew."""
        servers, self._servers = self._servers, {}
        with ExitStack() as stack:
            for server in servers.values():
                stack.callback(server.stop)
