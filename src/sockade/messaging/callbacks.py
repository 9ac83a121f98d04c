"""Runs a connection's callbacks: one at a time, in order, and what one raises costs that connection alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.protocol.codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sockade.messaging.connection import Connection

    Report = Callable[[Connection, Exception], None]


async def run_callbacks(connection: Connection, report: Report) -> None:
    """Run `on_open`, then `on_message` for each message, then `on_close`; `report` is told of each exception."""
    endpoint, inbox = connection.endpoint, connection.inbox
    items, on_message = inbox.items, endpoint.on_message
    try:
        if endpoint.on_open is not None:
            await endpoint.on_open(connection)
        while True:
            while not items:
                await inbox
            message = items.pop(0)
            if message is None:
                break
            if on_message is not None:
                await on_message(connection, message)
            if connection.reading_paused and not items:
                connection.caught_up()
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        await fail(connection, error, report)
    if endpoint.on_close is not None:
        await guarded(endpoint.on_close(connection), connection, report)


async def fail(connection: Connection, error: Exception, report: Report) -> None:
    """Tell `on_error`, close the connection with 1011, and wait until it is gone."""
    report(connection, error)
    if connection.endpoint.on_error is not None:
        await guarded(connection.endpoint.on_error(connection, error), connection, report)
    connection.close(CloseCode.INTERNAL_ERROR, "internal error")
    while await connection.inbox.get() is not None:
        connection.caught_up()


async def guarded(callback: Awaitable[None], connection: Connection, report: Report) -> None:
    """Await one last callback; what it raises is reported and goes no further."""
    try:
        await callback
    except Exception as error:  # noqa: BLE001 - whatever the application raises
        report(connection, error)
