"""Makes the transport of an accepted socket: aiofastnet's where it is installed and wanted, else the loop's own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from sockade.settings import ServerSettings

    Connect = Callable[..., Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]]]


def connector(loop: asyncio.AbstractEventLoop, server: ServerSettings) -> Connect:
    """Return what makes the transport of an accepted socket, with a server's TLS if it is given a context.

    It takes what `loop.connect_accepted_socket` takes, with a context both timeouts (seconds) as well; it returns the
    transport with its protocol once the TLS handshake is done, and raises OSError, ssl.SSLError among them.
    """
    if server.fast:
        try:
            library = importlib.import_module("aiofastnet")
            from_socket = importlib.import_module("aiofastnet.ssl_transport")
        except ImportError:
            return loop.connect_accepted_socket
        if from_socket.SSLEngineDirect is not None:  # None where Python has OpenSSL in itself
            return _with_own_buffers(loop, library.connect_accepted_socket, from_socket.SSLTransport_Socket, server)
    return loop.connect_accepted_socket


def _with_own_buffers(
    loop: asyncio.AbstractEventLoop, connect_plain: Connect, tls_transport: Any, server: ServerSettings
) -> Connect:
    """Return a connector that gives aiofastnet's TLS the buffers of the settings: its own insists on large ones."""
    loop.set_exception_handler(_report)

    async def connect(
        door: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        *,
        ssl: ssl.SSLContext | None = None,
        ssl_handshake_timeout: float = 0.0,
        ssl_shutdown_timeout: float = 0.0,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        if ssl is None:
            return await connect_plain(loop, door, sock)
        done = loop.create_future()
        protocol = door()
        transport = tls_transport(
            loop,
            protocol,
            ssl,
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            ssl_incoming_bio_size=server.read_buffer_bytes,
            ssl_outgoing_bio_size=server.write_buffer_bytes,
            sock=sock,
            waiter=done,
        )
        try:
            await done
        except BaseException:
            transport.close()
            raise
        finally:
            del done  # It holds the error, and the error's traceback this frame.
        return transport, protocol

    return connect


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what was raised in the loop as it does itself, but not that a client left amid its TLS handshake.

    aiofastnet takes that for an error of ours, for it has the class of an OSError there and looks for an instance: a
    line in the log for whoever hangs up, without an end and without an address.
    """
    if context.get("exception") is not ConnectionResetError:
        loop.default_exception_handler(context)
