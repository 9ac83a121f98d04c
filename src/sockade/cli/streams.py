"""Standard streams: those that were closed before the start or cannot be written, and what may be written there."""

import os
import sys
from io import TextIOWrapper
from typing import TextIO

from sockade.telemetry.escape import escape

ERRORS = {"stdin": "surrogateescape", "stdout": "backslashreplace", "stderr": "backslashreplace"}
"""What is read that is no text goes to who says so in a sentence; what the terminal cannot show is shown by number."""


def open_standard_streams() -> None:
    """Open the null device in the place of each standard stream that is closed, and let none fail for its encoding.

    Python has None there, and the system would give its number to the next file: to a database, in which whatever is
    said on standard error would then be written.
    """
    for number, (name, errors) in enumerate(ERRORS.items()):
        if isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors=errors)
        elif stream is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def printable(text: str) -> str:
    """Return a text in which no character commands the terminal: what settings and files hold may be anybody's."""
    return escape(text, len(text))


def discard(stream: TextIO) -> None:
    """Lose what a stream still holds and is sent: writing it again at the end would fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
