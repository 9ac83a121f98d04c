"""Holds a data directory for one server: two would each count the offsets of the same channels.

The system's lock on a file ends with the process that has it, however that ends, so nothing is left to clear away.
Commands that only look something up or change it do not ask: they may run beside a server.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sockade.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_NAME = "serve.lock"
ADVICE = "mend its permissions, or choose another server.data_dir"


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Hold a data directory, made if it is not there, until the end. Never waits.

    Raises:
        StartError: another server has it, or it cannot be used.
    """
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"{error.filename} cannot be used ({error.strerror}): {ADVICE}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StartError(
            f"The data directory {data_dir} is in use by another server: stop that one, or choose another with "
            "--data-dir."
        ) from None
    except OSError as error:
        os.close(handle)
        raise StartError(f"{path} cannot be locked ({error.strerror}): {ADVICE}.") from error
    try:
        yield
    finally:
        # A process that application code forked has the same lock: closing alone would leave it to that one.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)
