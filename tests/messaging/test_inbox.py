"""The inbox: its reader's steps where a message comes in, in the task where it waits, and its end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from sockade.messaging.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

name: ContextVar[str] = ContextVar("name", default="outside")


def started(inbox: Inbox[int], hear: Callable[[int], Awaitable[None]]) -> asyncio.Task[None]:
    async def read() -> None:
        while True:
            await hear(await inbox.get())

    return inbox.read(read())


async def outside(call: Callable[[], None]) -> None:
    """Call as the loop calls a transport: no task is running."""
    done = asyncio.get_running_loop().create_future()

    def do() -> None:
        try:
            call()
        except (AssertionError, SystemExit) as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(do)
    await done


async def put(inbox: Inbox[int], *items: int) -> None:
    await outside(lambda: [inbox.put(item) for item in items] and None)


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_item_is_heard_in_place_as_the_reader_s_task() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[tuple[int, asyncio.Task[None] | None]] = []

    async def hear(item: int) -> None:
        heard.append((item, asyncio.current_task()))

    task = started(inbox, hear)
    await asyncio.sleep(0)

    def come() -> None:
        inbox.put(1)
        assert heard == [(1, task)]
        assert asyncio.current_task() is None

    await outside(come)
    await cancel(task)


async def test_what_the_reader_sets_in_its_context_stays_there() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    names = []

    async def hear(item: int) -> None:
        names.append(name.get())
        name.set(f"heard {item}")
        if item == 2:
            await asyncio.sleep(0)
            names.append(name.get())

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1)
    await put(inbox, 2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert names == ["outside", "heard 1", "heard 2"]
    assert name.get() == "outside"
    await cancel(task)


async def test_the_reader_takes_its_step_later_when_a_task_is_running() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[int] = []

    async def hear(item: int) -> None:
        heard.append(item)

    task = started(inbox, hear)
    await asyncio.sleep(0)
    inbox.put(1)
    inbox.put(2)
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [1, 2]
    await cancel(task)


async def test_an_item_that_the_reader_puts_itself_is_heard_after_its_step() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[int] = []

    async def hear(item: int) -> None:
        if item < 3:
            inbox.put(item + 1)
        await asyncio.sleep(0)
        heard.append(item)

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert heard == [1, 2, 3]
    await put(inbox, 3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [1, 2, 3, 3]
    await cancel(task)


async def test_items_that_came_before_the_reader_are_kept() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[int] = []

    async def hear(item: int) -> None:
        heard.append(item)

    for number in range(3):
        inbox.put(number)
    assert inbox.items == [0, 1, 2]
    task = started(inbox, hear)
    await asyncio.sleep(0)
    assert heard == [0, 1, 2]
    await cancel(task)


async def test_what_comes_while_a_callback_waits_is_heard_when_it_is_done() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[int] = []
    gate = asyncio.get_running_loop().create_future()

    async def hear(item: int) -> None:
        if item == 1:
            heard.append(await gate)
        heard.append(item)

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1, 2, 3)
    await asyncio.sleep(0)
    assert heard == []
    gate.set_result(10)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [10, 1, 2, 3]
    await put(inbox, 4)
    assert heard == [10, 1, 2, 3, 4]
    await cancel(task)


async def test_what_a_future_raises_reaches_the_callback_that_waits_for_it() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    gate = asyncio.get_running_loop().create_future()
    caught = []

    async def hear(item: int) -> None:
        try:
            await gate
        except KeyError as error:
            caught.append((item, error.args))

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1)
    gate.set_exception(KeyError("gone"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert caught == [(1, ("gone",))]
    await cancel(task)


async def test_timeouts_and_task_groups_work_in_a_callback() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    heard: list[str] = []
    done = asyncio.Event()

    async def note(word: str) -> None:
        await asyncio.sleep(0)
        heard.append(word)

    async def fail() -> None:
        raise LookupError

    async def hear(item: int) -> None:
        if item == 1:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                heard.append("late")
        elif item == 2:
            async with asyncio.TaskGroup() as group:
                group.create_task(note("a"))
                group.create_task(note("b"))
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    await asyncio.Event().wait()
            except* LookupError:
                heard.append("failed")
            done.set()

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1, 2, 3)
    async with asyncio.timeout(5):
        await done.wait()
    assert heard == ["late", "a", "b", "failed"]
    assert not task.cancelling()
    await cancel(task)


async def test_a_callback_that_cancels_its_own_task_is_cancelled_where_it_waits() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    gate = asyncio.get_running_loop().create_future()

    async def hear(_: int) -> None:
        task.cancel()
        await gate

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled()


@pytest.mark.parametrize("waits", [True, False])
async def test_it_is_cancelled_as_well_where_nothing_can_be(waits: bool) -> None:
    loop = asyncio.get_running_loop()
    inbox: Inbox[int] = Inbox(loop)
    gate = loop.create_future()
    went_on = []

    async def hear(_: int) -> None:
        loop.call_soon(gate.set_result, None)
        task.cancel()
        await (gate if waits else asyncio.sleep(0))
        went_on.append(True)

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await put(inbox, 1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_a_cancelled_reader_ends_and_the_inbox_stays_usable() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())

    async def hear(_: int) -> None: ...

    task = started(inbox, hear)
    await asyncio.sleep(0)
    await cancel(task)
    inbox.put(7)
    assert await inbox.get() == 7


@pytest.mark.parametrize(("error", "waits"), [(None, False), (None, True), (LookupError, False), (LookupError, True)])
async def test_the_task_ends_as_the_reader_does(error: type[Exception] | None, waits: bool) -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())

    async def read() -> None:
        await inbox.get()
        if waits:
            await asyncio.sleep(0)
        if error is not None:
            raise error

    task = inbox.read(read())
    await asyncio.sleep(0)
    await put(inbox, 1)
    await asyncio.wait([task], timeout=5)
    assert isinstance(task.exception(), error or type(None))


async def test_an_exit_ends_the_loop_and_the_task_knows_it() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())

    async def hear(_: int) -> None:
        raise SystemExit

    task = started(inbox, hear)
    await asyncio.sleep(0)
    with pytest.raises(SystemExit):
        await put(inbox, 1)
    assert isinstance(task.exception(), SystemExit)


@pytest.mark.parametrize("ending", ["where it hears", "after it waited", "cancelled by itself"])
async def test_nothing_is_left_of_an_inbox_whose_reader_ended(ending: str) -> None:
    inbox: Inbox[int] | None = Inbox(asyncio.get_running_loop())
    assert inbox is not None

    async def read(inbox: Inbox[int]) -> None:
        while await inbox.get():
            pass
        if ending == "after it waited":
            await asyncio.sleep(0)
        elif ending == "cancelled by itself":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    tasks = {inbox.read(read(inbox))}
    for task in tasks:
        task.add_done_callback(tasks.discard)
    await asyncio.sleep(0)
    gone = weakref.ref(next(iter(tasks)))
    del task
    gc.disable()
    try:
        await put(inbox, 1, 0)
        del inbox
        for _ in range(3):
            await asyncio.sleep(0)
        assert not tasks
        assert gone() is None
    finally:
        gc.enable()


async def test_it_is_a_coroutine_to_asyncio() -> None:
    inbox: Inbox[int] = Inbox(asyncio.get_running_loop())
    assert asyncio.iscoroutine(inbox)

    async def hear(_: int) -> None: ...

    task = started(inbox, hear)
    assert "Inbox" in repr(task)
    await asyncio.sleep(0)
    await cancel(task)
    inbox.close()
