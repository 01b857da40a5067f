"""The database schema: Alembic migrations that travel inside the package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from medbill.settings import Settings
from medbill.store import rights
from medbill.store.db import engine, transaction

#: Advisory lock that lets one process at a time migrate; any constant will do.
_LOCK = 0x6D656462696C6C


def upgrade(url: str, revision: str = "head", logins: Mapping[str, Iterable[str]] | None = None) -> None:
    """Bring schemas `medbill` and `audit` of the database at `url` to `revision`, with roles and rights (medbill.store.rights).

    url: of an account that may create roles. logins: URLs of the accounts to make, and the groups each is a member of.
    All of it is one transaction under an advisory lock: safe to run again, and from several processes at once.
    Raises StoreUnavailable where the database cannot be reached or refuses.
    """
    with transaction(engine(url)) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        rights.prepare(connection)
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS medbill"))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        rights.apply(connection)
        for account, groups in (logins or {}).items():
            rights.login(connection, sa.make_url(account), groups)


def migrate(settings: Settings) -> None:
    """upgrade() as the account of settings.admin_url, with the logins of the other URLs. Raises StoreUnavailable."""
    upgrade(
        settings.admin_url,
        logins={  # the last counts where two are the same
            settings.seal_url: (rights.SEALER,),
            settings.audit_url: (rights.AUDITOR,),
            settings.database_url: rights.APP_GROUPS,
        },
    )
