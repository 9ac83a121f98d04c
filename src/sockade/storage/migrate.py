"""Brings a database to the newest schema, inside the process that opens it, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

from sockade.errors import StartError

if TYPE_CHECKING:
    from sqlalchemy import Connection


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that are missing, on a connection that is in a transaction.

    Raises `StartError` for a database that a newer version wrote.
    """
    config = Config()
    config.set_main_option("script_location", "sockade.storage:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise StartError("The database was written by a newer Sockade: install that version.") from error
