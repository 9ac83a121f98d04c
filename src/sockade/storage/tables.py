"""The tables, as the newest migration leaves them. Times are POSIX seconds; `user` columns hold folded names."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, MetaData, String, Table, Text

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

users = Table(
    "users",
    METADATA,
    Column("folded", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(32), nullable=False),
    Column("password_hash", Text),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
    # What looks alike is one name (UTS #39). NULL for users older than this column that look like an older one.
    Column("skeleton", Text, unique=True),
)

sessions = Table(
    "sessions",
    METADATA,
    # The public id; token sessions have no cookie, so its digest cannot be the key.
    Column("id", String(16), primary_key=True),
    Column("cookie", String(64), unique=True),
    Column("user", Text, ForeignKey("users.folded"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("ended_at", Double, index=True),
    Column("ended_reason", String(64)),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Index(None, "user", "created_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("session", String(16), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("replaced_at", Double),
)

revocations = Table(
    "revocations",
    METADATA,
    Column("kind", String(16), primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("before", Double, nullable=False),
    Column("at", Double, nullable=False, index=True),
    Column("until", Double, nullable=False),
    Column("reason", String(64), nullable=False),
)

sign_in_links = Table(
    "sign_in_links",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("user", Text, ForeignKey("users.folded")),
    Column("role", String(32), nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
)
