"""Makes room for the sockets that will come, before there are any."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


OWN = 64
"""What the server has open beside its connections: databases, log, listeners, and the interpreter's own."""


def shortage(most: int) -> str | None:
    """Return one sentence if a process that may open so many files cannot serve; None where it can."""
    if most >= OWN or most == resource.RLIM_INFINITY:
        return None
    return f"This process may open only {most} files, and a server needs {OWN} and one a connection: raise `ulimit -n`."


def make_room(sock: socket.socket, sockets: int) -> None:
    """Have the system make its table of this process's descriptors large enough for so many sockets, once.

    Linux doubles that table whenever it is full, and a process with threads waits for a grace period of RCU meanwhile
    (`expand_fdtable` in fs/file.c): some milliseconds, in which the loop would hear nobody.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        sockets = min(sockets, most - 1)
    with contextlib.suppress(OSError):
        os.close(fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, sockets))
