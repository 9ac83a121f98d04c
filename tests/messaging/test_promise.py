"""An answer that is heard once, by who awaits it or is called with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sockade.errors import StorageError
from sockade.messaging.promise import Promise

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def answer_of(promise: Awaitable[int]) -> int:
    return await promise


async def test_an_answer_is_heard_when_it_is_there_already() -> None:
    heard: list[int | StorageError] = []
    promise = Promise(1)
    promise.then(heard.append)
    assert heard == [1]
    assert await promise == 1


async def test_an_answer_is_heard_as_soon_as_it_is_given() -> None:
    heard: list[int | StorageError] = []
    promise: Promise[int] = Promise()
    promise.then(heard.append)
    assert heard == []
    promise.resolve(1)
    assert heard == [1]


async def test_who_awaits_gets_the_answer_or_its_error() -> None:
    good: Promise[int] = Promise()
    bad: Promise[int] = Promise()
    waiting = [asyncio.ensure_future(answer_of(promise)) for promise in (good, bad)]
    await asyncio.sleep(0)
    good.resolve(1)
    bad.resolve(StorageError("disk full"))
    assert await waiting[0] == 1
    with pytest.raises(StorageError, match="disk full"):
        await waiting[1]
    with pytest.raises(StorageError, match="disk full"):
        await Promise[int](StorageError("disk full"))


async def test_an_answer_is_heard_by_all_who_wait_for_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(answer: int | StorageError) -> None:
        raise ValueError("cannot hear")

    heard: list[int | StorageError] = []
    promise: Promise[int] = Promise()
    promise.then(fail)
    promise.then(heard.append)
    waiting = [asyncio.ensure_future(answer_of(promise)) for _ in range(2)]
    await asyncio.sleep(0)
    promise.resolve(1)
    assert heard == [1]
    assert await asyncio.gather(*waiting) == [1, 1]
    assert "cannot hear" in caplog.text


async def test_who_leaves_is_not_waited_for() -> None:
    promise: Promise[int] = Promise()
    waiting = asyncio.ensure_future(answer_of(promise))
    await asyncio.sleep(0)
    waiting.cancel()
    promise.resolve(1)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await promise == 1


async def test_a_listener_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(answer: int | StorageError) -> None:
        raise ValueError("cannot hear")

    promise: Promise[int] = Promise()
    promise.then(fail)
    promise.resolve(1)
    assert "cannot hear" in caplog.text
