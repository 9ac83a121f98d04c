"""Tells whether files are what they were, without reading them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class FileState(NamedTuple):
    """What changes when a file is replaced, rewritten or appended to, or when others may read it."""

    inode: int
    modified_ns: int
    """POSIX time in nanoseconds, as exact as the file system keeps it."""
    size: int
    mode: int


def states_of(*paths: Path | None) -> tuple[FileState | None, ...]:
    """Return the state of each path that is given; None for a file that is not there or cannot be looked at."""
    return tuple(_state(path) for path in paths if path is not None)


def _state(path: Path) -> FileState | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return FileState(status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
