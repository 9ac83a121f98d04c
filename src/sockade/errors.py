"""The exceptions Sockade raises, in one tree.

An outcome that is expected (a refused handshake, a rejected message) is a returned value, not an exception.

    SockadeError
    ├── StartError          the server cannot start as it is set up     (exit status 3)
    │   └── SettingsError   one or more settings are wrong, all of them listed
    ├── FetchError          the key set of an issuer could not be fetched; keys known already stay
    ├── UsageError          a command was called with arguments it cannot use   (exit status 2)
    ├── RejectedError       application code will not do what a client asks for
    └── StorageError        the database failed; what was asked for has not happened
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


CLIENT_CODES = range(100, 2_000)
"""Codes of errors that clients of the channel protocol are told: up to 399 those of the protocol."""


class SockadeError(Exception):
    """Any error that Sockade raises on purpose."""


class StartError(SockadeError):
    """The server cannot start as it is set up; the message is one sentence that says what to do."""


class SettingsError(StartError):
    """One or more settings are wrong.

    `problems` holds one sentence for each, so that all can be mended at once.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UsageError(SockadeError):
    """A command was called with arguments it cannot use."""


class RejectedError(SockadeError):
    """Application code will not do what a client asks for: raised by a hook or a procedure, told to the client.

    The client gets `code` and the message, so neither may hold a secret. Codes of an application's own are 400 to
    1999; 103, permission denied, is the default; 100 and 111 are temporary, so that clients try again by themselves.
    """

    def __init__(self, message: str = "permission denied", code: int = 103) -> None:
        if not isinstance(message, str):
            raise UsageError(f"the message of a RejectedError is a text, and not {message!r}")
        if type(code) is not int or code not in CLIENT_CODES:
            raise UsageError(f"the code of a RejectedError is a number from 100 to 1999, and not {code!r}")
        super().__init__(message)
        self.code = code


class FetchError(SockadeError):
    """The key set of an issuer could not be fetched."""


class StorageError(SockadeError):
    """The database failed; what was asked for has not happened."""
