"""Names that look alike: what was called the skeleton is the folded name, and the skeleton is UTS #39's.

Everyone who exists keeps their name. Of several whose names look alike, the one who was there first has the skeleton,
and so nobody can add one more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sockade.guard.text import skeleton

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

users = sa.table(
    "users", sa.column("folded", sa.Text), sa.column("skeleton", sa.Text), sa.column("name"), sa.column("created_at")
)


def upgrade() -> None:
    op.execute("ALTER TABLE users RENAME COLUMN skeleton TO folded")
    op.add_column("users", sa.Column("skeleton", sa.Text))
    connection, first = op.get_bind(), dict[str, str]()
    rows = connection.execute(sa.select(users.c.folded, users.c.name).order_by(users.c.created_at, users.c.folded))
    for row in rows:
        first.setdefault(skeleton(row.name), row.folded)
    for looks, name in first.items():
        connection.execute(sa.update(users).where(users.c.folded == name).values(skeleton=looks))
    op.create_index("uq_users_skeleton", "users", ["skeleton"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_users_skeleton", "users")
    op.drop_column("users", "skeleton")
    op.execute("ALTER TABLE users RENAME COLUMN folded TO skeleton")
