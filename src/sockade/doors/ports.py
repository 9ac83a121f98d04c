"""Takes the ports to listen on, before anything else is begun: one sentence says why one cannot be had."""

from __future__ import annotations

import errno
import socket

from sockade.errors import StartError

BACKLOG = 4_096
"""Connections the system holds for us while the loop is at something else."""


def bind(host: str, port: int, table: str = "server") -> list[socket.socket]:
    """Bind listening sockets to every address of a host; `table` is that of the settings which say so.

    Raises:
        StartError: the name is unknown, or the port is taken or not permitted.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartError(f"{table}.host {host!r} is not an address of this machine: {error}.") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, number, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, number)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # With port 0 every address gets the port that the first was given.
            chosen = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            sock.bind((address[0], chosen, *address[2:]))
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise StartError(explain(host, port, error, table)) from error
    return sockets


def explain(host: str, port: int, error: OSError, table: str = "server") -> str:
    """Return one sentence that says why a port cannot be had and what to do."""
    choice = "with --port" if table == "server" else f"as {table}.port"
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken; stop the program that uses it, or choose another {choice}."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} needs privileges; choose one above 1023 {choice}."
    return f"Cannot listen on {host} port {port}: {error.strerror}; set {table}.host to an address of this machine."
