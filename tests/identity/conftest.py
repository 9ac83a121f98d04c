from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.world import World, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path / "data") as made:
        yield made
