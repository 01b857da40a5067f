"""Who may do what in the medbill database: roles, rights on tables, and rows by practice.

Roles belong to the server, rights to the database. Both are put in order after every migration (medbill.store.schema);
a table that RIGHTS does not name can be read by its owner alone. docs/roles.md describes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

from medbill.errors import StoreUnavailable

OWNER: Final = "medbill_owner"
APP: Final = "medbill_app"
VAULT: Final = "medbill_vault"
EVERY: Final = "medbill_every_practice"
ANALYST: Final = "medbill_analyst"
AUDIT_OWNER: Final = "medbill_audit_owner"
WRITER: Final = "medbill_audit_writer"
SEALER: Final = "medbill_audit_sealer"
AUDITOR: Final = "medbill_auditor"
#: None of them can log in; logins are members.
GROUPS: Final = (OWNER, APP, VAULT, EVERY, ANALYST, AUDIT_OWNER, WRITER, SEALER, AUDITOR)
#: Groups of the login medbill's processes use. Rights of EVERY are taken up by SET LOCAL ROLE only, never inherited.
APP_GROUPS: Final = (APP, VAULT, WRITER, EVERY)

_KEPT = "SELECT, INSERT, UPDATE"  # what the product never deletes
#: Table of schema medbill -> group -> rights. DELETE stands only where a pipeline replaces or shreds.
RIGHTS: Final[dict[str, dict[str, str]]] = {
    "inbox_files": {APP: _KEPT, EVERY: "SELECT"},
    "payments": {APP: _KEPT, EVERY: "SELECT"},
    "partitions": {APP: _KEPT, EVERY: "SELECT", ANALYST: "SELECT"},
    "results": {APP: _KEPT, EVERY: "SELECT", ANALYST: "SELECT"},
    "quarantine": {APP: f"{_KEPT}, DELETE", EVERY: "SELECT"},
    "holds": {APP: _KEPT, EVERY: "SELECT", ANALYST: "SELECT"},
    "watermarks": {APP: _KEPT},
    "proposals": {APP: _KEPT, EVERY: "SELECT", ANALYST: "SELECT"},
    "proposal_events": {APP: "SELECT, INSERT", EVERY: "SELECT"},
    "outbox": {APP: _KEPT, EVERY: "SELECT"},
    "platform_budgets": {APP: _KEPT},
    "platform_circuits": {APP: _KEPT},
    "work_items": {APP: _KEPT, EVERY: "SELECT"},
    "webhook_events": {APP: _KEPT},
    # a token of another practice is told from one that was never made: token and practice, never the value
    "vault_tokens": {VAULT: _KEPT, EVERY: "SELECT (practice, token)"},
    "vault_secrets": {VAULT: f"{_KEPT}, DELETE"},
    "vault_state": {VAULT: _KEPT},
    # half of each sealed object's key; deleted where the object is purged
    "object_secrets": {APP: "SELECT, INSERT, DELETE"},
    "token_traces": {APP: "SELECT, INSERT, DELETE"},
    "token_grants": {VAULT: "SELECT, INSERT, DELETE"},
    # wrapped keys; making one looks at the newest of all practices, so that no second master key comes in beside the first
    "data_keys": {APP: "SELECT", VAULT: "SELECT, DELETE", EVERY: _KEPT},
}
#: What the ledger's groups may, as its migrations say; they skip it where an account that may not make roles runs them.
AUDIT_RIGHTS: Final[dict[str, dict[str, str]]] = {
    "TABLE audit.rows": {SEALER: "SELECT", AUDITOR: "SELECT"},
    "TABLE audit.heads": {SEALER: "SELECT", AUDITOR: "SELECT"},
    "TABLE audit.checkpoints": {SEALER: "SELECT, INSERT", AUDITOR: "SELECT"},
    "FUNCTION audit.append(bytea)": {WRITER: "EXECUTE"},
}
#: Tables whose rows belong to a practice through another table.
THROUGH: Final = {"proposal_events": "EXISTS (SELECT FROM medbill.proposals p WHERE p.id = proposal_id)"}
_OF_PRACTICE = "practice = nullif(current_setting('medbill.practice', true), '')"


def prepare(connection: sa.Connection) -> None:
    """Make the groups where they are missing, and let a migrating account that is no superuser act for the owners.

    Raises StoreUnavailable where groups are missing and the account may not make them.
    """
    known = set(connection.scalars(sa.text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'medbill%'")))
    missing = [group for group in GROUPS if group not in known]
    superuser, maker = connection.execute(
        sa.text("SELECT rolsuper, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    ).one()
    if missing and not maker:
        raise StoreUnavailable(
            "the database's roles are missing; migrate with an account that may create roles", code="ROLES_MISSING"
        )
    for group in missing:  # another database of this server may be making them now
        connection.exec_driver_sql(
            f"DO $$ BEGIN CREATE ROLE {group} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    if not superuser:
        for owner in (OWNER, AUDIT_OWNER):
            connection.exec_driver_sql(f"GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE")


def apply(connection: sa.Connection) -> None:
    """Put owners, rights and row security of the database in order; doing it again changes nothing."""
    database = connection.dialect.identifier_preparer.quote(
        str(connection.scalar(sa.text("SELECT current_database()")))
    )
    reachable = ", ".join(GROUPS)
    statements = [
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {database} TO {reachable}",
        f"GRANT USAGE ON SCHEMA medbill TO {APP}, {VAULT}, {EVERY}, {ANALYST}",
    ]
    for schema, owner in (("medbill", OWNER), ("audit", AUDIT_OWNER)):
        statements += _owned(connection, schema, owner)
    for table in connection.execute(_TABLES).mappings():
        statements += _secured(table)
        name = f"medbill.{table['name']}"
        statements += [f"REVOKE ALL ON {name} FROM {group}" for group in (APP, VAULT, EVERY, ANALYST)]
        statements += [f"GRANT {what} ON {name} TO {group}" for group, what in RIGHTS.get(table["name"], {}).items()]
    found = set(connection.scalars(_AUDITED))
    if found:
        statements.append(f"GRANT USAGE ON SCHEMA audit TO {WRITER}, {SEALER}, {AUDITOR}")
    for name in sorted(found & AUDIT_RIGHTS.keys()):
        statements += [f"GRANT {what} ON {name} TO {group}" for group, what in AUDIT_RIGHTS[name].items()]
    for statement in statements:
        connection.exec_driver_sql(statement)
    if not connection.scalar(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
        connection.exec_driver_sql(f"REVOKE {AUDIT_OWNER} FROM CURRENT_USER")  # until the next migration


def login(connection: sa.Connection, url: URL, groups: Iterable[str]) -> None:
    """Make or renew the login a URL names, with the URL's password and as a member of groups; nothing for one's own."""
    name = url.username
    if name is None or name == connection.scalar(sa.text("SELECT session_user")):
        return
    quoted = connection.dialect.identifier_preparer.quote(name)
    if not connection.scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :name"), {"name": name}):
        connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN")
    if url.password is not None:
        from psycopg2.extensions import encrypt_password  # so that the server never sees the password itself

        driver: Any = connection.connection.driver_connection
        hashed = encrypt_password(str(url.password), name, scope=driver, algorithm="scram-sha-256")
        connection.exec_driver_sql(f"ALTER ROLE {quoted} PASSWORD '{hashed}'")
    for group in groups:
        inherit = "FALSE" if group == EVERY else "TRUE"
        connection.exec_driver_sql(f"GRANT {group} TO {quoted} WITH INHERIT {inherit}, SET TRUE")


def _owned(connection: sa.Connection, schema: str, owner: str) -> list[str]:
    found = connection.execute(_OWNED, {"schema": schema, "owner": owner})
    return [f"ALTER {kind} {name} OWNER TO {owner}" for kind, name in found]


def _secured(table: Any) -> list[str]:
    """Row security of one table. FORCE: it holds for the owner as well; a superuser is never bound by it."""
    name, condition = f"medbill.{table['name']}", THROUGH.get(table["name"])
    if table["by_practice"]:
        condition = _OF_PRACTICE
    if condition is None:
        return []
    done = []
    if not (table["secured"] and table["forced"]):
        done += [f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"]
    if "of_practice" not in table["policies"]:
        done.append(f"CREATE POLICY of_practice ON {name} TO {APP}, {VAULT} USING ({condition})")
    if "every_practice" not in table["policies"]:
        done.append(f"CREATE POLICY every_practice ON {name} TO {EVERY}, {ANALYST} USING (true)")
    return done


_TABLES = sa.text("""
SELECT c.relname AS name, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'practice' AND NOT a.attisdropped)
         AS by_practice,
       ARRAY(SELECT p.polname::text FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_class c WHERE c.relnamespace = 'medbill'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
""")
_AUDITED = sa.text("""
SELECT 'TABLE ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'audit'
""")
# The schema first: who owns a table must be able to make one there.
_OWNED = sa.text("""
SELECT kind, name FROM (
  SELECT 1 AS place, 'SCHEMA' AS kind, quote_ident(n.nspname) AS name, n.nspowner AS owner
  FROM pg_namespace n WHERE n.nspname = :schema
  UNION ALL
  SELECT 2, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relkind IN ('r', 'p', 'v')
  UNION ALL
  SELECT 3, 'FUNCTION', p.oid::regprocedure::text, p.proowner
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = :schema
) o WHERE owner::regrole::text <> :owner ORDER BY place, name
""")
