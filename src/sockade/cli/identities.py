"""Opens the users of a data directory for one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sockade.clock import SystemClock
from sockade.errors import StartError
from sockade.exposure import problems
from sockade.identity.passwords import Passwords
from sockade.identity.users import Users
from sockade.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from sockade.storage.database import Database


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator["Database"]:
    """Open the database, made if it is not there; close it in the end.

    Raises StartError where the data directory may not be used. How the server would listen does not matter here.
    """
    # Most of what a command takes to start is SQLAlchemy: only those that need it load it.
    from sockade.storage.database import Database

    data_dir = settings.server.data_dir
    for problem in problems(Settings(server=ServerSettings(data_dir=data_dir))):
        raise StartError(problem)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = await Database.open(data_dir)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_users(settings: Settings) -> AsyncIterator[Users]:
    """Open the users, to be administered."""
    async with open_database(settings) as database:
        passwords = Passwords()
        try:
            yield Users(database.users, passwords, SystemClock())
        finally:
            passwords.close()
