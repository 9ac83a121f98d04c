"""`sockade bench` against a real server: what it measures, what it refuses, and what its exit status says."""

import asyncio
import json
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sockade.cli import bench
from sockade.guard.identity import Secret
from tests.running import RunningServer, Start

from .conftest import Sockade

TOKEN = "header.claims.signature"
APPLICATION = """
from sockade import Sockade

app = Sockade()

@app.endpoint("/")
class Others:
    async def on_message(self, connection, message):
        connection.broadcast(message)

@app.endpoint("/echo")
class Echo:
    async def on_message(self, connection, message):
        connection.send("said by somebody else")
        connection.send(message)

@app.endpoint("/silence")
class Silence:
    async def on_message(self, connection, message):
        pass

@app.endpoint("/end")
class End:
    async def on_message(self, connection, message):
        connection.close(1000, "enough")
"""


@pytest.fixture
def running(start: Start, tmp_path: Path) -> RunningServer:
    module_path = tmp_path / "applications"
    module_path.mkdir()
    (module_path / "measured.py").write_text(APPLICATION)
    return start(app="measured:app", module_path=str(module_path))


def measured(server: RunningServer, path: str, *words: str) -> tuple[int, str, str]:
    """Measure a path of a server and return the exit status, standard output and standard error."""
    command = [sys.executable, "-m", "sockade", "bench", f"wss://localhost:{server.port}{path}", *words]
    command += ["--token-stdin", "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, input=server.token() + "\n", capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


# What is measured.


def test_everyone_else_hears_every_message(running: RunningServer) -> None:
    status, out, err = measured(running, "/", "--seconds", "1", "--clients", "3", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["connections"] == 3
    assert found["delivered"] in range(2, 17, 2)  # at most 8 a second, each to two
    assert (found["lost"], found["ended"]) == (0, [])
    assert 0 < found["latency"]["p50_ms"] <= found["latency"]["p99_ms"] <= found["latency"]["most_ms"]


def test_echo_waits_for_its_own_message_alone(running: RunningServer) -> None:
    status, out, err = measured(running, "/echo", "--work", "echo", "--seconds", "0.5", "--clients", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["connections", "delivered", "latency"]
    assert "p50" in lines[2]


def test_an_ended_connection_is_a_finding(running: RunningServer) -> None:
    status, out, _ = measured(running, "/end", "--work", "echo", "--seconds", "1", "--clients", "2", "--json")
    found = json.loads(out)
    assert status == 1
    assert found["lost"] == 2
    assert "enough" in found["ended"][0]


def test_a_message_that_stays_away_is_a_finding(running: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PATIENCE_SECONDS", 0.3)
    for work in bench.Work:
        plan = bench.Plan(
            f"wss://localhost:{running.port}/silence", Secret(running.token()), running.tls, work, 2, 5, 8, 128
        )
        tally = asyncio.run(bench.measure(plan))
        assert tally.lost == tally.due == (2 if work is bench.Work.ECHO else 1)
        assert "nothing arrived" in bench.told(tally)
        assert bench.figures(tally)["latency"] == {"p50_ms": None, "p99_ms": None, "most_ms": None}


# What it refuses.


def test_another_host_needs_a_word_that_it_is_ones_own(sockade: Sockade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bench.TOKEN, TOKEN)
    status, out, err = sockade("bench", "wss://chat.example/")
    assert (status, out) == (2, "")
    assert "--i-own-this-host" in err
    monkeypatch.setattr(bench, "measure", confess)
    assert sockade("bench", "wss://chat.example/", "--i-own-this-host")[0] == 3


async def confess(plan: bench.Plan) -> bench.Tally:
    raise bench.StartError(f"{plan.url} was to be measured")


@pytest.mark.parametrize(
    "url",
    ["ws://localhost:8443/", "https://localhost/", "wss://", "wss://ada:secret@localhost/", "wss://localhost:x/",
     "wss://[::1/", "wss://localhost/#here"],
)  # fmt: skip
def test_a_url_that_is_not_safe_or_none_is_usage(sockade: Sockade, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(bench.TOKEN, TOKEN)
    status, _, err = sockade("bench", url)
    assert status == 2
    assert "wss://" in err
    assert "secret" not in err


def test_a_damaged_ca_is_named(sockade: Sockade, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SOCKADE_BENCH_TOKEN", TOKEN)
    (folder / "ca.pem").write_text("no certificate")
    status, _, err = sockade("bench", "--data-dir", ".")
    assert status == 3
    assert err.startswith("sockade: The local CA ca.pem cannot be used (NO_CERTIFICATE_OR_CRL_FOUND)")


def test_a_token_is_no_argument(sockade: Sockade) -> None:
    assert sockade("bench", "--token", TOKEN)[0] == 2
    status, _, err = sockade("bench")
    assert status == 2
    assert "--token-stdin" in err
    assert sockade("bench", "--token-stdin", stdin="\n")[0] == 2
    assert sockade("bench", "--token-stdin", stdin="two words\n")[0] == 2


def test_the_token_of_the_environment_is_used(sockade: Sockade, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bench.Plan] = []

    async def look(plan: bench.Plan) -> bench.Tally:
        seen.append(plan)
        return bench.Tally(handshakes=[0.001], latencies=[0.001], due=1, took=1.0)

    monkeypatch.setenv(bench.TOKEN, TOKEN)
    monkeypatch.setattr(bench, "measure", look)
    status, out, _ = sockade("bench", "--clients", "2")
    assert status == 0
    assert seen[0].token.reveal() == TOKEN
    assert TOKEN not in out + repr(seen[0])


@pytest.mark.parametrize("words", [("--clients", "1001"), ("--seconds", "61"), ("--rate", "10001"), ("--size", "8")])
def test_what_is_asked_for_has_bounds(
    sockade: Sockade, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    monkeypatch.setenv(bench.TOKEN, TOKEN)
    monkeypatch.setattr(bench, "measure", confess)
    assert sockade("bench", *words)[0] == 2


# What cannot be opened.


def test_a_refusal_is_told_with_its_status(running: RunningServer) -> None:
    command = [sys.executable, "-m", "sockade", "bench", f"wss://localhost:{running.port}/", "--token-stdin"]
    command += ["--data-dir", str(running.data_dir)]
    done = subprocess.run(command, input=TOKEN, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "HTTP 401" in done.stderr
    assert TOKEN not in done.stderr


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(running: RunningServer, tmp_path: Path) -> None:
    url = f"wss://localhost:{running.port}/"
    plan = bench.Plan(url, Secret(TOKEN), ssl.create_default_context(), bench.Work.ECHO, 2, 1, 8, 128)
    with pytest.raises(bench.StartError, match="certificate"):
        asyncio.run(bench.measure(plan))


def test_a_port_where_nobody_listens_is_told(sockade: Sockade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bench.TOKEN, TOKEN)
    status, _, err = sockade("bench", "wss://127.0.0.1:1/")
    assert status == 3
    assert "cannot be reached" in err


def test_a_redirect_gets_no_token(running: RunningServer) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(running.data_dir / "tls" / "server.pem")
    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"wss://localhost:{self.server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirecting)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"wss://localhost:{server.server_port}/"
        plan = bench.Plan(url, Secret(TOKEN), running.tls, bench.Work.ECHO, 2, 1, 8, 128)
        with pytest.raises(bench.StartError, match="HTTP 302"):
            asyncio.run(bench.measure(plan))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["/"]
