"""The whole server, as a process: applications, fan-out, slow consumers, stops, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed

from sockade.doors.certificates import ensure_local_pair
from tests.running import ROOMY, close_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

    Serve = Callable[[str, str], RunningServer]

CONFIG = f"[limits]\n{ROOMY}"
CHAT = """
from sockade import Connection, Sockade

app = Sockade()

@app.endpoint("/")
class Chat:
    async def on_message(self, connection: Connection, message: str) -> None:
        if message == "boom":
            raise RuntimeError("boom")
        connection.broadcast(message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_there_is_room_for_every_connection_before_the_first_comes(start: Start) -> None:
    """The table of descriptors does not grow under load: while it does, the loop stands still."""
    server = start("[limits]\nconnections = 700\nunauthenticated = 200\n")
    told = Path(f"/proc/{server.process.pid}/status").read_text()
    assert int(told.partition("FDSize:")[2].split()[0]) >= 900


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Serve:
    """Start a server of an application, given its source, with some settings."""

    def begin(source: str, config: str) -> RunningServer:
        (tmp_path / "application_under_test.py").write_text(source)
        return start(config, "application_under_test:app", module_path=str(tmp_path))

    return begin


@pytest.fixture
def chat(serve: Serve) -> RunningServer:
    return serve(CHAT, CONFIG)


def test_an_application_of_ones_own_is_told_where_to_connect_and_not_to_open_a_page(chat: RunningServer) -> None:
    assert chat.http("GET", "/").status == 404
    assert f"Connect    wss://localhost:{chat.port}/\n" in chat.panel
    assert "#link=" not in chat.panel
    assert "token new NAME" in chat.panel


def test_without_a_server_api_no_local_ca_is_wanted_beside_a_certificate(start: Start, tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path / "own", (), time.time())
    data = tmp_path / "server0" / "data"
    data.mkdir(0o700, parents=True)
    (data / "ca.pem").write_text("of a CA whose key was put away")
    server = start(f"[tls]\ncertificate = '{pair.certificate}'\nkey = '{pair.key}'\n")
    assert not (data / "tls").exists()
    assert server.stop() == 0


def test_a_data_directory_serves_one_server_at_a_time(server: RunningServer) -> None:
    """Two would count the offsets of the same channels, and each refuse what the other took."""
    words = ("serve", "--port", "0", "--data-dir", str(server.data_dir))
    second = server.command(*words)
    assert second.returncode == 3
    assert second.stderr.startswith(f"sockade: The data directory {server.data_dir} is in use by another server: ")
    assert server.command("user", "list", "--data-dir", str(server.data_dir)).returncode == 0
    assert server.command("init", "--data-dir", str(server.data_dir)).returncode == 0
    server.kill()
    server.start()


@pytest.mark.parametrize("most", [12, 20, 63])
def test_a_process_that_may_open_too_few_files_is_told_so(tmp_path: Path, most: int) -> None:
    """Whatever ran out first used to raise: the event loop, or SQLite."""
    command = f"ulimit -n {most}; exec {sys.executable} -m sockade serve --port 0 --data-dir {tmp_path}/data"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(f"sockade: This process may open only {most} files")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("streams", [">&- 2>err", ">out 2>&-", "<&- >out 2>err", ">/dev/full 2>err", "2>err | true"])
def test_a_server_serves_whatever_becomes_of_its_standard_streams(tmp_path: Path, streams: str) -> None:
    """It used to end with a traceback behind the line of its start in the log, or without a word."""
    command = f"{sys.executable} -m sockade serve --port 0 --data-dir data"
    script = f"( echo $BASHPID >pid; exec {command} ) {streams}; echo ${{PIPESTATUS[0]}} >status"
    with subprocess.Popen(["bash", "-c", script], cwd=tmp_path) as shell:
        said = wait_for(tmp_path, lambda: "sys_startup" in read(tmp_path / "err") or "Next" in read(tmp_path / "out"))
        time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(read(tmp_path / "pid")), signal.SIGTERM)
        shell.wait(20)
    assert said
    assert read(tmp_path / "status") == "0\n"
    assert "Traceback" not in read(tmp_path / "err")
    assert "Exception ignored" not in read(tmp_path / "err")


SLOW_TO_START = """
import asyncio
import sys
import time

import sockade.server
from sockade import Sockade

app = Sockade()


async def provision(self, stack):
    print("provisioning", flush=True)
    await asyncio.sleep(60)


if sys.argv[-1] == "0":
    sockade.server.Server.provision = provision
else:
    print("importing", flush=True)
    time.sleep(0.5)
"""


def start_slowly(folder: Path, port: str) -> subprocess.Popen[str]:
    (folder / "slow_to_start.py").write_text(SLOW_TO_START)
    words = [sys.executable, "-m", "sockade", "serve", "slow_to_start:app", "--data-dir", "data", "--port", port]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("signals", "status"), [([signal.SIGTERM], 0), ([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130)]
)
def test_a_server_that_is_told_to_stop_while_it_starts_does(tmp_path: Path, signals: list[int], status: int) -> None:
    with start_slowly(tmp_path, "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "provisioning\n"
        for number in signals:
            process.send_signal(number)
            time.sleep(0.01)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (status, "")


def test_a_server_that_is_told_to_read_its_files_again_while_it_starts_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    with start_slowly(tmp_path, port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline().startswith("Sockade    is listening")
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def wait_for(folder: Path, done: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and not (folder / "status").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return done()


async def open_many(server: RunningServer, token: str, count: int) -> list[ClientConnection]:
    """Open connections, fifty handshakes at a time."""
    limit = asyncio.Semaphore(50)

    async def one() -> ClientConnection:
        async with limit:
            return await server.connect(token=token, ping_interval=None, open_timeout=30)

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def close_many(clients: list[ClientConnection]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def test_a_callback_that_raises_costs_its_connection_alone(chat: RunningServer, observe: Observe) -> None:
    """Case 80."""
    token = await asyncio.to_thread(chat.token)
    others = await open_many(chat, token, 100)
    culprit = await chat.connect(token=token)
    await culprit.send("boom")
    assert await close_code(culprit) == 1011
    await others[0].send("still here")
    heard = await asyncio.gather(*(asyncio.wait_for(other.recv(), 10) for other in others[1:]))
    assert heard == ["still here"] * 99
    assert chat.says("RuntimeError: boom")
    assert any("RuntimeError: boom" in line.get("error.stack_trace", "") for line in chat.log)
    observe("1011 for one, the others go on", f"1011; {len(heard)} others heard the next message")
    await close_many(others)


async def test_one_message_reaches_499_of_500_and_one_that_never_reads_is_closed(chat: RunningServer) -> None:
    token = await asyncio.to_thread(chat.token)
    clients = await open_many(chat, token, 500)
    sender, hearers = clients[0], clients[1:]
    await sender.send("hello")
    assert await asyncio.gather(*(asyncio.wait_for(one.recv(), 20) for one in hearers)) == ["hello"] * 499

    await close_many(hearers[100:])
    deaf = await asyncio.to_thread(deaf_client, chat, token)
    with contextlib.closing(deaf):
        hearers = hearers[:100]
        text = "x" * 60_000
        for number in range(200):
            await sender.send(f"{number} {text}")
            heard = await asyncio.gather(*(asyncio.wait_for(one.recv(), 20) for one in hearers))
            assert {str(message).split()[0] for message in heard} == {str(number)}
        async with asyncio.timeout(10):
            while not any(line.get("message") == "slow_consumer" for line in chat.log):
                await asyncio.sleep(0.1)
    await sender.send("after")
    assert await asyncio.gather(*(asyncio.wait_for(one.recv(), 20) for one in hearers)) == ["after"] * 100
    await close_many([sender, *hearers])


def deaf_client(server: RunningServer, token: str) -> socket.socket:
    """Return an open WebSocket that will never read, and whose kernel takes little for it."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", server.port))
    sock = server.tls.wrap_socket(plain, server_hostname="localhost")
    head = (
        f"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    sock.sendall(head.encode())
    assert sock.recv(65_536).startswith(b"HTTP/1.1 101")
    return sock


async def test_sigterm_tells_500_clients_to_come_back_spread_in_time(chat: RunningServer, observe: Observe) -> None:
    """Case 79."""
    token = await asyncio.to_thread(chat.token)
    clients = await open_many(chat, token, 500)

    async def end(client: ClientConnection) -> tuple[int | None, float]:
        return await close_code(client, 40), time.monotonic()

    ended = asyncio.gather(*(end(client) for client in clients))
    await asyncio.sleep(0)
    began = time.monotonic()
    assert await asyncio.to_thread(chat.stop, signal.SIGTERM, 35) == 0
    took = time.monotonic() - began
    codes, times = {code for code, _ in await ended}, [at for _, at in await ended]
    spread = max(times) - min(times)
    observe("1001 or 1012, spread, within 30 s", f"500 told {codes} over {spread:.1f} s, ended after {took:.1f} s")
    assert codes <= {1001, 1012}
    assert spread > 0.25
    assert took < 30


async def test_sigterm_ends_within_the_limit_though_a_client_does_not_answer(serve: Serve) -> None:
    """Case 79."""
    server = serve(CHAT, "[server]\ndrain_seconds = 2\n")
    token = await asyncio.to_thread(server.token)
    with contextlib.closing(await asyncio.to_thread(deaf_client, server, token)):
        assert await asyncio.to_thread(server.stop, signal.SIGTERM, 5) == 0


STUBBORN = """
import asyncio

import sockade.process
from sockade import Sockade

sockade.process.END_SECONDS = 1
app = Sockade()


@app.endpoint("/")
class Stubborn:
    async def on_message(self, connection, message):
        connection.send("begun")
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
"""


async def test_a_callback_that_takes_no_cancellation_does_not_keep_the_process(serve: Serve) -> None:
    server = serve(STUBBORN, "[server]\ndrain_seconds = 1\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        await client.send("hello")
        assert await asyncio.wait_for(client.recv(), 10) == "begun"
        assert await asyncio.to_thread(server.stop, signal.SIGTERM, 20) == 0
    (line,) = [line for line in server.log if "ended by force" in line["message"]]
    assert line["message"].endswith("did not end: run_callbacks > Stubborn.on_message > sleep")


async def test_messages_go_to_everyone_but_their_sender_in_the_built_in_chat(server: RunningServer) -> None:
    ada, bob = await asyncio.to_thread(server.token, "ada"), await asyncio.to_thread(server.token, "bob")
    async with server.connect(token=ada) as first, server.connect(token=bob) as second:
        await first.send("<b>hello</b>")
        assert await asyncio.wait_for(second.recv(), 10) == "<b>hello</b>"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first.recv(), 0.3)


async def test_frames_that_break_the_rules_close_with_their_code(chat: RunningServer) -> None:
    token = await asyncio.to_thread(chat.token)

    async def closed_by(*messages: object) -> int | None:
        async with chat.connect(token=token, max_size=None) as client:
            for message in messages:
                with contextlib.suppress(ConnectionClosed):
                    await client.send(message)  # type: ignore[arg-type]
            return await close_code(client)

    assert await closed_by(b"binary") == 1003
    assert await closed_by("x" * 65_537) == 1009
    # The client ends a fragmented message with an empty frame.
    assert await closed_by(["x"] * 128) == 1009
    assert await closed_by(["x"] * 127, b"") == 1003


@pytest.mark.parametrize("path", ["/auth/logout", "session"])
async def test_ending_a_session_closes_its_sockets_within_2_seconds(server: RunningServer, path: str) -> None:
    cookie = await asyncio.to_thread(server.cookie)
    headers = {"Cookie": cookie, "Origin": server.origin}
    async with server.connect(headers={"Cookie": cookie}, origin=server.origin) as client:
        if path == "session":
            sessions = server.http("GET", "/auth/sessions", headers=headers).json["sessions"]
            answer = server.http("DELETE", f"/auth/sessions/{sessions[0]['id']}", headers=headers)
        else:
            answer = server.http("POST", path, {}, headers)
        assert answer.status == 204
        assert await close_code(client, 2) == 3000
    assert (await server.refused(headers={"Cookie": cookie}, origin=server.origin)).status == 401


async def test_disabling_a_user_from_the_command_line_closes_their_sockets(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        done = await asyncio.to_thread(server.command, "user", "disable", "ada", "--data-dir", str(server.data_dir))
        assert done.returncode == 0, done.stderr
        assert await close_code(client, 2) == 3000
    assert (await server.refused(token=token)).status == 401


async def test_sessions_go_on_after_a_restart(server: RunningServer) -> None:
    cookie = await asyncio.to_thread(server.cookie)
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start)
    async with server.connect(headers={"Cookie": cookie}, origin=server.origin):
        pass


@pytest.mark.parametrize("settings", ["loop = 'asyncio'\nfast = false", "loop = 'uvloop'\nfast = false", "fast = true"])
async def test_every_kind_of_loop_serves(start: Start, settings: str) -> None:
    server = start(f"[server]\n{settings}\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as first, server.connect(token=token) as second:
        await first.send("x")
        assert await asyncio.wait_for(second.recv(), 10) == "x"
    assert await asyncio.to_thread(server.stop) == 0


async def test_interrupt_stops_cleanly_with_status_130(server: RunningServer) -> None:
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token) as client:
        ended = asyncio.create_task(close_code(client))
        assert await asyncio.to_thread(server.stop, signal.SIGINT, 15) == 130
        assert await ended == 1012
    assert "Traceback" not in server.log_text
