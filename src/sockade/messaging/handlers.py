"""Reads what applications write for the server to call, and tells whether it can be called so.

Looked at when it is declared, because later is too late: a misspelt `may_subscribe` would let everyone in, and one that
is written with `async def` answers with a coroutine, which is as good as yes.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import msgspec
from msgspec.inspect import CustomType, Field, Type, type_info

from sockade.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

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
        taken = signature(function)
    except (TypeError, ValueError):
        return  # It is built in, and does not tell.
    try:
        taken.bind(*call.arguments, **dict.fromkeys(named))
    except TypeError:
        raise UsageError(f"{what} must take ({', '.join((*call.arguments, *named))})") from None


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
    written = inspect.unwrap(function)
    names = getattr(getattr(written, "func", written), "__globals__", {})
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]
    except NameError as error:
        raise UsageError(f"the type of {parameter.name!r} must be importable when the module runs: {error}") from error


def check_type(what: str, message: Any) -> None:
    """Tell whether messages can be read as a type, if there is one. Raises UsageError: they cannot."""
    if message is None:
        return
    try:
        msgspec.json.Decoder(message)
        alien = next(aliens(type_info(message), set()), None)
    except (TypeError, NameError) as error:
        raise UsageError(f"{what} is no type that JSON can be read as: {error}") from error
    if alien is not None:
        raise UsageError(f"{what} is no type that JSON can be read as: nothing in JSON is a {alien.__qualname__}")


def aliens(part: object, seen: set[int]) -> Iterator[type]:
    """Yield the classes within a type, as msgspec describes it, that nothing is read as. A type may contain itself."""
    if isinstance(part, CustomType) and part.cls is not object:
        yield part.cls
    elif isinstance(part, tuple):
        for one in part:
            yield from aliens(one, seen)
    elif isinstance(part, (Type, Field)) and id(part) not in seen:
        seen.add(id(part))
        for name in part.__struct_fields__:
            yield from aliens(getattr(part, name), seen)
