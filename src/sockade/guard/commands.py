"""Reads the commands of one message of the channel protocol, each with the policy on text applied to it.

A text that may not pass costs its own command alone, which then gets an error reply: the others are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sockade.guard.text import clean, clean_value
from sockade.protocol.codec import parse
from sockade.protocol.commands import Command, lines_of, to_command


@dataclass(frozen=True, slots=True)
class Unclean:
    """A command with a text that may not pass: what is needed to answer it."""

    id: int
    method: str


def read_commands(message: str) -> list[Command | Unclean]:
    """Return the commands of one message.

    Raises:
        DecodeError: one of them is not a command, or there are too many.
    """
    return [read_command(line) for line in lines_of(message)]


def read_command(line: str) -> Command | Unclean:
    """Return the command that one line holds. Raises DecodeError."""
    text = clean(line)
    if text is None:
        return unclean(parse(line))
    value = parse(text)
    # Without a backslash there is no escape, and every text within is part of one that is clean already.
    if "\\" in text:
        cleaned = clean_value(value)
        if cleaned is None:
            return unclean(value)
        value = cleaned
    return to_command(value)


def unclean(value: Any) -> Unclean:
    """Return what is to be answered to a command that may not pass; it must be a command all the same."""
    command = to_command(value)
    return Unclean(command.id, command.method)
