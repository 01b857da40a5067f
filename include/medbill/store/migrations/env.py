"""Alembic environment; medbill.store.schema hands over an open connection, there is no configuration file."""

from alembic import context

from medbill.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema="medbill",
)
with context.begin_transaction():
    context.run_migrations()
