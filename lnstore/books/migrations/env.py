"""Run by Alembic: migrate on the connection that upgrade.py hands over, in one transaction."""

from alembic import context

from lnstore.books.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with connection.begin(), context.begin_transaction():
    context.run_migrations()
