"""Reads what applications write for the server to call, and tells whether it can be called so.

Looked at when it is declared, because later is too late: a misspelt `may_subscribe` would let everyone in, and one that
is written with `async def` answers with a coroutine, which is as good as yes.
"""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sockade.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

LIKENESS = 0.8
"""How like a known name another one is that was probably meant to be it; 1 is the same."""


class Call(NamedTuple):
    """How the server calls something."""

    arguments: tuple[str, ...]
    awaited: bool = True


def methods(where: str, handler: object, calls: Mapping[str, Call], named: Collection[str] = ()) -> dict[str, Any]:
    """Return what a handler has of the methods that are called, None for each it does not have.

    Args:
        where: what the handler is of, for messages.
        named: arguments that are given by name, to every one of them.

    Raises:
        UsageError: it has one under another name, or one that cannot be called.
    """
    for name in dir(handler):
        if name not in calls and name.startswith(("on", "may")):
            refuse_misspelt(where, name, calls)
    found = {name: getattr(handler, name, None) for name in calls}
    for name, function in found.items():
        if function is not None:
            check(f"{name} of {where}", function, calls[name], named)
    return found


def refuse_misspelt(where: str, name: str, known: Collection[str]) -> None:
    """Raise UsageError for a method that looks as if it was called, and is not."""
    spelt = {flat(one): one for one in known}
    if near := difflib.get_close_matches(flat(name), spelt, 1, LIKENESS):
        raise UsageError(f"{where} has {name}, which nothing calls: did you mean {spelt[near[0]]}?")
    # Whoever wrote it relies on being asked.
    if name.startswith("may_"):
        raise UsageError(f"{where} has {name}, which nothing asks; there are {', '.join(known)}")


def flat(name: str) -> str:
    """Return a name as it is in every style: `onOpen` is `on_open`."""
    return name.replace("_", "").lower()


def check(what: str, function: Callable[..., Any], call: Call, named: Collection[str] = ()) -> None:
    """Tell whether something can be called so.

    Raises:
        UsageError: it takes other arguments; or it must be asynchronous and is not, or the other way round.
    """
    if not call.awaited and inspect.iscoroutinefunction(function):
        raise UsageError(f"{what} is not awaited: write it with def, without async")
    if call.awaited and inspect.isroutine(function) and not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise UsageError(f"{what} is awaited: write it with async def")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError):
        return  # It is built in, or an annotation is for type checkers alone: it does not tell.
    try:
        signature.bind(*call.arguments, **dict.fromkeys(named))
    except TypeError:
        raise UsageError(f"{what} must take ({', '.join((*call.arguments, *named))})") from None


def check_type(what: str, message: Any) -> None:
    """Tell whether messages can be read as a type, if there is one. Raises UsageError: they cannot."""
    try:
        msgspec.json.Decoder(Any if message is None else message)
    except TypeError as error:
        raise UsageError(f"{what} is no type that JSON can be read as: {error}") from error
