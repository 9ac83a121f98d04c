"""Reads what applications write for the server to call, and tells whether it can be called so.

Looked at when it is declared, because later is too late: a misspelt `may_subscribe` would let everyone in, and one that
is written with `async def` answers with a coroutine, which is as good as yes.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from sockade.errors import UsageError
from sockade.messaging.shapes import check_type

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

RIGHT = "may_"
"""What the names of rights begin with."""
MESSAGE = "message"
"""The name under which a handler has the type of what is published."""
LIKENESS = 0.8
"""How like a known name another one is that was probably meant to be it; 1 is the same."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


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
    if inspect.isroutine(handler):
        raise UsageError(f"{where} is declared by a class, and not by the function {handler.__name__}")
    for name in dir(handler):
        if name not in calls and name.startswith(("on", "may")):
            refuse_misspelt(where, name, calls)
    found = {name: method(where, handler, name) for name in calls}
    for name, function in found.items():
        if function is not None:
            check(f"{name} of {where}", function, calls[name], named)
    return found


def method(where: str, handler: object, name: str) -> Any:
    """Return a method of a handler; None where it has none, which for a right is something else than a right of None.

    Raises:
        UsageError: it has one that cannot be had.
    """
    if name not in dir(handler):
        return getattr(handler, name, None)
    try:
        found = getattr(handler, name)
    except AttributeError as error:
        raise UsageError(f"{where} has {name}, which cannot be had: {error}") from error
    if found is None and name.startswith(RIGHT):
        raise UsageError(f"{where} has {name} = None: write a function that says who may")
    return found


def refuse_misspelt(where: str, name: str, known: Collection[str]) -> None:
    """Raise UsageError for a method that looks as if it was called, and is not."""
    spelt = {flat(one): one for one in known}
    if near := difflib.get_close_matches(flat(name), spelt, 1, LIKENESS):
        raise UsageError(f"{where} has {name}, which nothing calls: did you mean {spelt[near[0]]}?")
    # Whoever wrote it relies on being asked.
    if name.startswith(RIGHT):
        raise UsageError(f"{where} has {name}, which nothing asks; there are {', '.join(known)}")


def flat(name: str) -> str:
    """Return a name as it is in every style: `onOpen` is `on_open`."""
    return name.replace("_", "").lower()


def check(what: str, function: Callable[..., Any], call: Call, named: Collection[str] = ()) -> None:
    """Tell whether something can be called so.

    Raises:
        UsageError: it takes other arguments; or it must be asynchronous and is not, or the other way round.
    """
    if not callable(function):
        raise UsageError(f"{what} is {function!r}, which cannot be called")
    inner = innermost(function)
    if not call.awaited and inspect.iscoroutinefunction(inner):
        raise UsageError(f"{what} is not awaited: write it with def, without async")
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise UsageError(f"{what} yields, which nothing takes: write it without yield")
    if call.awaited and inspect.isroutine(inner) and not inspect.iscoroutinefunction(inner):
        raise UsageError(f"{what} is awaited: write it with async def")
    try:
        taken = signature(function)
    except (TypeError, ValueError):
        return  # It is built in, and does not tell.
    try:
        taken.bind(*call.arguments, **dict.fromkeys(named))
    except TypeError:
        raise UsageError(f"{what} must take ({', '.join((*call.arguments, *named))})") from None


def innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what somebody wrote, within what wraps it and what gives it some of its arguments."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    return inner if inspect.isroutine(inner) else type(inner).__call__


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return what something takes. What is annotated with a name that only type checkers know is none the worse for it.

    Raises:
        TypeError, ValueError: it does not tell.
    """
    if sys.version_info >= (3, 14):
        import annotationlib  # Annotations are evaluated when they are asked for (PEP 649).

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def annotation(function: Callable[..., Any], position: int) -> Any:
    """Return the type that a parameter is annotated with; Any where it is not.

    The other annotations are not looked at: they may name what is imported for type checkers alone.

    Raises:
        UsageError: the annotation names something that is not there.
    """
    taken = [one for one in signature(function).parameters.values() if one.kind in POSITIONAL]
    if position >= len(taken) or taken[position].annotation is inspect.Parameter.empty:
        return Any
    parameter = taken[position]
    names = getattr(innermost(function), "__globals__", {})
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]
    except NameError as error:
        raise UsageError(f"the type of {parameter.name!r} must be importable when the module runs: {error}") from error


def annotated_names(of: type) -> set[str]:
    """Return the names that a class annotates, with a value or without."""
    if sys.version_info >= (3, 14):
        import annotationlib

        forward = annotationlib.Format.FORWARDREF
        return {name for one in of.__mro__ for name in annotationlib.get_annotations(one, format=forward)}
    return {name for one in of.__mro__ for name in inspect.get_annotations(one)}


def message_type(where: str, handler: object) -> Any:
    """Return the type that a handler's `message` is; None where it has none.

    Raises:
        UsageError: it looks as if it had one, or JSON cannot be read as that.
    """
    found = getattr(handler, MESSAGE, None)
    if found is None and MESSAGE in annotated_names(type(handler)):
        raise UsageError(f"{where} annotates message, which says nothing: write message = Type")
    for name in dir(handler):
        other = name != MESSAGE and not name.startswith(("on", "may"))
        if other and isinstance(getattr(handler, name, None), type):
            refuse_misspelt(where, name, (MESSAGE,))
    check_type(f"message of {where}", found)
    return found
