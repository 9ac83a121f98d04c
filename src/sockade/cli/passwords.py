"""Asks for a password, on the terminal or on standard input, so that it never stands in a command line."""

import getpass
import sys

from sockade.errors import UsageError
from sockade.guard.identity import Secret

MOST_CHARACTERS = 4_096


def read_password(*, from_stdin: bool) -> Secret:
    """Return the password that was typed twice, or the first line of standard input.

    Raises UsageError. How long it must be is decided by `sockade.identity.passwords`.
    """
    if from_stdin:
        line = sys.stdin.readline(MOST_CHARACTERS).removesuffix("\n").removesuffix("\r")
        if not line:
            raise UsageError("There is no password on standard input.")
        return Secret(line)
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password: pipe it in with --password-stdin.")
    try:
        first = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ")
    except EOFError:
        raise UsageError("No password was given.") from None
    if first != again:
        raise UsageError("The two passwords are not the same.")
    return Secret(first)
