"""Runs a connection's callbacks: one at a time, in order, and what one raises costs that connection alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sockade.messaging.connection import Connection

    Report = Callable[[Connection, BaseException], None]

FAILURES = (Exception, BaseExceptionGroup, asyncio.CancelledError, SystemExit)
"""What application code may raise without ending more than itself: no message of a stranger ends the server."""
END: Final = object()
"""What comes behind a connection's last message. None would not do: it is what JSON's `null` is read as."""


async def run_callbacks(connection: Connection, report: Report) -> None:
    """Run `on_open`, then `on_message` for each message, then `on_close`; `report` is told of each exception."""
    endpoint, inbox = connection.endpoint, connection.inbox
    items, on_message = inbox.items, endpoint.on_message
    try:
        try:
            if endpoint.on_open is not None:
                await endpoint.on_open(connection)
            while True:
                while not items:
                    await inbox
                message = items.pop(0)
                if message is END:
                    break
                if on_message is not None:
                    await on_message(connection, message)
                if connection.reading_paused and not items:
                    connection.caught_up()
        except FAILURES as error:
            pass_on(error)
            await fail(connection, error, report)
        if endpoint.on_close is not None:
            await guarded(endpoint.on_close, connection, report)
    finally:
        if connection.is_open:
            # Whatever ended this: nobody would hear the peer any more.
            connection.drop("callbacks ended")


async def fail(connection: Connection, error: BaseException, report: Report) -> None:
    """Tell `on_error`, close the connection with 1011, and wait until it is gone."""
    report(connection, error)
    if connection.endpoint.on_error is not None:
        await guarded(connection.endpoint.on_error, connection, report, error)
    connection.close(CloseCode.INTERNAL_ERROR, "internal error")
    while await connection.inbox.get() is not END:
        connection.caught_up()


async def guarded(
    callback: Callable[..., Awaitable[None]], connection: Connection, report: Report, *arguments: Any
) -> None:
    """Await one last callback; what it raises is reported and goes no further."""
    try:
        await callback(connection, *arguments)
    except FAILURES as error:
        pass_on(error)
        report(connection, error)


def pass_on(error: BaseException) -> None:
    """Raise again what cancels this task. That something else was cancelled, for which it waited, is a failure."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
