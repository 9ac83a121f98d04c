"""What makes the transport of an accepted socket: whole messages through small buffers, and the loop's own instead."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import aiofastnet.ssl_transport
import pytest
import uvloop

from sockade.doors.certificates import ensure_local_pair, server_context
from sockade.doors.connect import connector
from sockade.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * 4_000
FAST, PLAIN = ServerSettings(), ServerSettings(fast=False)
WAIT = 10


class Echo(asyncio.Protocol):
    """Sends back what it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)  # aiofastnet's is no subclass

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and that of a client who trusts it."""
    pair = ensure_local_pair(tmp_path / "data", (), time.time())
    return server_context(Settings(), pair), ssl.create_default_context(cafile=pair.authority)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


async def echoed(
    server: ssl.SSLContext | None, client: ssl.SSLContext | None, data: bytes, settings: ServerSettings = FAST
) -> bytes:
    """Send data through one connection, and return what came back."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    times = {"ssl_handshake_timeout": WAIT, "ssl_shutdown_timeout": WAIT} if server else {}
    accepted = asyncio.ensure_future(connector(loop, settings)(Echo, ours, ssl=server, **times))
    reader, writer = await asyncio.open_connection(
        sock=theirs, ssl=client, server_hostname="localhost" if client else None
    )
    transport, protocol = await asyncio.wait_for(accepted, WAIT)
    assert isinstance(protocol, Echo)
    if server:  # else OpenSSL reads the socket, three times for a message
        assert transport.get_extra_info("ssl_incoming_use_membio")
    writer.write(data)
    back = await asyncio.wait_for(reader.readexactly(len(data)), WAIT)
    writer.transport.abort()
    transport.close()
    return back


@pytest.mark.parametrize("buffers", [(1_024, 6_144), (512, 512), (65_536, 65_536)])
@pytest.mark.parametrize("size", [1, 1_024, 6_144, 16_384, len(LARGE)])
def test_whatever_its_size_a_message_is_whole(
    runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext], size: int, buffers: tuple[int, int]
) -> None:
    settings = ServerSettings(read_buffer_bytes=buffers[0], write_buffer_bytes=buffers[1])
    with runner:
        assert runner.run(echoed(*contexts, LARGE[:size], settings)) == LARGE[:size]


def test_the_buffers_are_those_of_the_settings(
    runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    transport = aiofastnet.ssl_transport.SSLTransport_Socket

    def noting(*args: Any, **settings: Any) -> Any:
        told.update(settings)
        return transport(*args, **settings)

    monkeypatch.setattr("aiofastnet.ssl_transport.SSLTransport_Socket", noting)
    with runner:
        runner.run(echoed(*contexts, b"x", ServerSettings(read_buffer_bytes=2_000, write_buffer_bytes=9_000)))
    assert (told["ssl_incoming_bio_size"], told["ssl_outgoing_bio_size"]) == (2_000, 9_000)


def test_without_a_context_it_is_plain(runner: asyncio.Runner) -> None:
    with runner:
        assert runner.run(echoed(None, None, LARGE)) == LARGE


async def test_a_handshake_that_fails_is_an_error_and_closes(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    connect = connector(asyncio.get_running_loop(), FAST)
    with pytest.raises(ssl.SSLError):
        await connect(Echo, ours, ssl=contexts[0], ssl_handshake_timeout=WAIT, ssl_shutdown_timeout=WAIT)
    await asyncio.sleep(0)
    assert ours.fileno() == -1
    theirs.close()


async def test_who_gives_up_waiting_closes(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connect = connector(asyncio.get_running_loop(), FAST)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            connect(Echo, ours, ssl=contexts[0], ssl_handshake_timeout=WAIT, ssl_shutdown_timeout=WAIT), 0.1
        )
    await asyncio.sleep(0)
    assert ours.fileno() == -1
    theirs.close()


async def test_the_loop_does_it_where_aiofastnet_is_unwanted_missing_or_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    assert connector(loop, FAST) != loop.connect_accepted_socket
    assert connector(loop, PLAIN) == loop.connect_accepted_socket
    monkeypatch.setattr("aiofastnet.ssl_transport.SSLEngineDirect", None)
    assert connector(loop, FAST) == loop.connect_accepted_socket
    monkeypatch.setitem(sys.modules, "aiofastnet", None)
    assert connector(loop, FAST) == loop.connect_accepted_socket


def test_a_client_that_leaves_amid_the_handshake_is_no_error_of_ours(
    runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        to_server = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            contexts[1].wrap_bio(ssl.MemoryBIO(), to_server, server_hostname="localhost").do_handshake()
        theirs.sendall(to_server.read())
        theirs.shutdown(socket.SHUT_WR)
        times = {"ssl_handshake_timeout": WAIT, "ssl_shutdown_timeout": WAIT}
        with pytest.raises(ConnectionResetError):
            await connector(loop, FAST)(Echo, ours, ssl=contexts[0], **times)
        theirs.close()
        loop.call_exception_handler({"message": "told", "exception": ConnectionResetError()})

    with runner:
        runner.run(leave())
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["told"]
