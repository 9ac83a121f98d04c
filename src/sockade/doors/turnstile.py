"""Spreads what arrives at once over many turns of the loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Turnstile:
    """Lets at most `a_turn` through in each turn of the loop, in the order in which they came.

    A thousand clients that come back together would otherwise march through each step of the handshake in one turn,
    and everybody who is connected would wait for all of them. Nothing is held back as long as few come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, a_turn: int) -> None:
        self._loop = loop
        self._a_turn = a_turn
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for one's turn."""
        if self._passed < self._a_turn and not self._waiting:
            self._count()
            return
        mine = self._loop.create_future()
        self._waiting.append(mine)
        await mine

    def _count(self) -> None:
        if not self._passed:
            self._loop.call_soon(self._turn)
        self._passed += 1

    def _turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._a_turn:
            first = self._waiting.popleft()
            if not first.done():  # whoever was dropped while waiting takes nobody's place
                self._count()
                first.set_result(None)
