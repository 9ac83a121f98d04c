"""What alembic executes: migrate on the connection that `sockade.storage.migrate` hands over."""

from __future__ import annotations

from alembic import context

from sockade.storage.tables import METADATA

# transactional_ddl: SQLite rolls DDL back too, once transactions are begun explicitly, as ours are.
context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
