"""Every store contract is run against every store. PostgreSQL joins where `SOCKADE_TEST_POSTGRES` holds a URL."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from sockade.identity.stores import Store
from sockade.storage.database import Database
from sockade.storage.tables import METADATA

POSTGRES = os.environ.get("SOCKADE_TEST_POSTGRES", "")


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRES else ["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    database = await Database.open(POSTGRES if request.param == "postgresql" else tmp_path)
    try:
        yield database
        if request.param == "postgresql":
            async with database.writing() as connection:
                for table in reversed(METADATA.sorted_tables):
                    await connection.execute(text(f"DELETE FROM {table.name}"))
    finally:
        await database.close()
