"""Schema 1, as its text was then: what schema.py says may change, this never does."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of schema 1 (SQLite; other databases begin at a later schema)."""
    for statement in Path(__file__).with_name("schema_0001.sql").read_text().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
