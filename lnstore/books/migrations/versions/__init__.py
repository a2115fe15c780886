"""One module for each schema; Alembic loads them."""
