"""The inbox: woken in place, woken later from inside a task, and cancelled."""

from __future__ import annotations

import asyncio

import pytest

from sockade.messaging.inbox import Inbox


def reader(inbox: Inbox[int], seen: list[int]) -> asyncio.Task[None]:
    async def read() -> None:
        while True:
            seen.append(await inbox.get())

    return asyncio.create_task(read())


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_reader_runs_in_place_when_no_task_is_running() -> None:
    loop, seen, results = asyncio.get_running_loop(), [], []
    inbox: Inbox[int] = Inbox(loop)
    task = reader(inbox, seen)
    await asyncio.sleep(0)

    def outside() -> None:
        inbox.put(1)
        results.append(list(seen))

    loop.call_soon(outside)
    await asyncio.sleep(0)
    assert results == [[1]]
    await cancel(task)


async def test_reader_runs_later_when_a_task_is_running() -> None:
    seen: list[int] = []
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    task = reader(inbox, seen)
    await asyncio.sleep(0)
    inbox.put(1)
    inbox.put(2)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == [1, 2]
    await cancel(task)


async def test_items_that_came_before_the_reader_are_kept() -> None:
    seen: list[int] = []
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    for number in range(3):
        inbox.put(number)
    assert inbox.items == [0, 1, 2]
    task = reader(inbox, seen)
    await asyncio.sleep(0)
    assert seen == [0, 1, 2]
    await cancel(task)


async def test_cancelled_reader_ends_and_the_inbox_stays_usable() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    seen: list[int] = []
    task = reader(inbox, seen)
    await asyncio.sleep(0)
    await cancel(task)
    inbox.put(7)
    assert await inbox.get() == 7
