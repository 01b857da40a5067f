"""Who may do what in the database: what the logins of the default installation can and cannot do, on a real server."""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.verify import verify
from medbill.deid.vault import Vault
from medbill.errors import StoreUnavailable, TokenRefused
from medbill.store import db, rights, schema
from medbill.store.envelope import Envelopes
from medbill.store.keys import LocalKeyring
from medbill.store.tables import holds, metadata, proposals

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HOLD = {"day": date(2026, 1, 5), "reason_code": "X", "reason": "x", "claim_key": "c"}


def _login(admin: sa.Engine, *groups: str) -> sa.Engine:
    """An engine of a login of its own, a member of groups; one connection, so that every transaction has the same."""
    name = f"l{uuid.uuid4().hex[:12]}"
    with admin.begin() as connection:
        rights.login(connection, admin.url.set(username=name), groups)
    return sa.create_engine(admin.url.set(username=name), pool_size=1, max_overflow=0, hide_parameters=True)


@pytest.fixture
def app(module_database: sa.Engine) -> Iterator[sa.Engine]:
    """The login of the pipelines."""
    engine = _login(module_database, *rights.APP_GROUPS)
    yield engine
    engine.dispose()


@pytest.fixture
def held(module_database: sa.Engine) -> str:
    """One hold in each of two practices, put there by the superuser; the claim they are of."""
    claim = uuid.uuid4().hex
    with module_database.begin() as connection:
        for practice in ("lakeside", "hillside"):
            connection.execute(sa.insert(holds).values({**HOLD, "practice": practice, "claim_key": claim}))
    return claim


def _practices(engine: sa.Engine, practice: str | None, claim: str) -> list[str]:
    with db.transaction(engine, practice) as connection:
        return sorted(connection.scalars(sa.select(holds.c.practice).where(holds.c.claim_key == claim)))


def _state(engine: sa.Engine, statement: str, practice: str | None = "lakeside") -> str | None:
    """SQLSTATE of a statement; None where it is carried out."""
    with engine.connect() as connection:  # rolled back at its end
        if practice is not None:
            connection.exec_driver_sql("SELECT set_config('medbill.practice', %s, true)", (practice,))
        try:
            connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            return str(getattr(error.orig, "pgcode", None))
    return None


def test_a_transaction_sees_one_practice(app: sa.Engine, held: str) -> None:
    assert _practices(app, "lakeside", held) == ["lakeside"]
    assert _practices(app, "hillside", held) == ["hillside"]
    assert _practices(app, "elsewhere", held) == []
    assert _practices(app, None, held) == []
    assert _practices(app, "", held) == []
    assert _practices(app, db.EVERY_PRACTICE, held) == ["hillside", "lakeside"]


def test_rows_of_another_practice_are_neither_written_nor_changed(
    app: sa.Engine, held: str, module_database: sa.Engine
) -> None:
    row = {**HOLD, "claim_key": f"{held}-2"}
    for scope, practice in (("lakeside", "hillside"), (None, "lakeside"), ("", ""), (None, "")):
        with pytest.raises(StoreUnavailable, match="42501"), db.transaction(app, scope) as connection:
            connection.execute(sa.insert(holds).values({**row, "practice": practice}))
    with db.transaction(app, "lakeside") as connection:
        changed = connection.execute(sa.update(holds).where(holds.c.claim_key == held).values(status="released"))
        assert changed.rowcount == 1
    with pytest.raises(StoreUnavailable, match="42501"), db.transaction(app, "lakeside") as connection:
        connection.execute(sa.update(holds).where(holds.c.claim_key == held).values(practice="hillside"))
    with module_database.begin() as connection:
        found = connection.execute(sa.select(holds.c.practice, holds.c.status).where(holds.c.claim_key == held))
        assert dict(found.all()) == {"lakeside": "released", "hillside": "open"}


def test_all_practices_are_read_and_not_written(app: sa.Engine, held: str) -> None:
    for statement in (
        sa.update(holds).where(holds.c.claim_key == held).values(status="released"),
        sa.insert(holds).values({**HOLD, "practice": "lakeside", "claim_key": f"{held}-3"}),
        sa.select(sa.text("ciphertext FROM medbill.vault_tokens")),
        sa.select(sa.text("secret FROM medbill.vault_secrets")),
        sa.delete(holds),
    ):
        with pytest.raises(StoreUnavailable, match="42501"), db.transaction(app, db.EVERY_PRACTICE) as connection:
            connection.execute(statement)


def test_a_pooled_connection_keeps_neither_practice_nor_role(app: sa.Engine, held: str) -> None:
    with db.transaction(app, "lakeside") as connection:
        backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    assert _practices(app, db.EVERY_PRACTICE, held) != []
    with pytest.raises(ZeroDivisionError), db.transaction(app, "hillside"):
        raise ZeroDivisionError
    with db.transaction(app) as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) == backend, "the pool gave another connection"
        assert connection.scalar(sa.text("SELECT current_setting('medbill.practice', true)")) in (None, "")
        assert connection.scalar(sa.text("SELECT current_user = session_user"))
    assert _practices(app, None, held) == []


def test_a_plain_set_would_survive_and_is_nowhere_in_the_code(app: sa.Engine, held: str) -> None:
    with app.connect() as connection:  # what must not be written
        connection.exec_driver_sql("SET medbill.practice = 'lakeside'")
        connection.commit()
    assert _practices(app, None, held) == ["lakeside"], "the reason for the rule"
    app.dispose()
    text = "\n".join(p.read_text() for folder in ("include", "plugins", "dags") for p in (ROOT / folder).rglob("*.py"))
    assert re.search(r"set_config\('medbill\.practice', %s, true\)", text)
    for found in re.finditer(r"set\s+(session\s+)?(medbill\.practice|role\b)|set_config\([^)]*false\)", text, re.I):
        raise AssertionError(f"only SET LOCAL: {found.group()}")


def test_every_transaction_of_the_code_names_its_practice() -> None:
    """Without one it would see no rows and say nothing. Ledger and migrations touch no table of a practice."""
    found = 0
    for path in [p for folder in ("include/medbill", "plugins") for p in (ROOT / folder).rglob("*.py")]:
        if path.parent.name == "audit" or path.name == "schema.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "transaction":
                found += 1
                if node.args and ast.unparse(node.args[0]).endswith(("sealer", "audit_url)")):
                    continue  # logins that see the ledger alone
                assert len(node.args) + len(node.keywords) >= 2, f"{path.name}:{node.lineno} names no practice"
    assert found > 40


def test_every_table_has_an_owner_rights_and_row_security(module_database: sa.Engine) -> None:
    """A new table of a practice without a policy, or one that RIGHTS does not name, fails here."""
    with module_database.begin() as connection:
        tables = connection.execute(
            sa.text(
                "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS secured, c.relowner::regrole::text AS owner,"
                " ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1) AS policies,"
                " EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'practice') AS of_practice"
                " FROM pg_class c WHERE relnamespace = 'medbill'::regnamespace AND relkind IN ('r', 'p')"
            )
        ).mappings()
        found = {row["relname"]: dict(row) for row in tables}
    assert set(found) >= {table.name for table in metadata.tables.values()}
    for name, table in found.items():
        assert table["owner"] == rights.OWNER, name
        if name == "alembic_version":
            continue
        assert name in rights.RIGHTS, f"{name}: say in medbill.store.rights who may do what with it"
        if table["of_practice"] or name in rights.THROUGH:
            assert table["secured"] and table["policies"] == ["every_practice", "of_practice"], name
    assert {"holds", "proposals", "proposal_events", "vault_tokens", "data_keys"} <= {
        name for name, table in found.items() if table["secured"]
    }


def test_a_table_that_comes_later_is_closed_until_somebody_says_who_may(database: sa.Engine) -> None:
    app = _login(database, *rights.APP_GROUPS)
    url = database.url.render_as_string(hide_password=False)
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE medbill.later (practice text, value text)")
        connection.exec_driver_sql("INSERT INTO medbill.later VALUES ('lakeside', 'a'), ('hillside', 'b')")
    schema.upgrade(url)
    assert _state(app, "SELECT * FROM medbill.later") == "42501"
    with database.begin() as connection:
        connection.exec_driver_sql(f"GRANT SELECT ON medbill.later TO {rights.APP}")
    with db.transaction(app, "lakeside") as connection:
        assert connection.exec_driver_sql("SELECT value FROM medbill.later").all() == [("a",)]
    app.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE medbill.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE TEMP TABLE mine (a int)",
        "DROP TABLE medbill.holds",
        "ALTER TABLE medbill.holds DISABLE ROW LEVEL SECURITY",
        "DROP POLICY of_practice ON medbill.holds",
        "TRUNCATE medbill.proposals CASCADE",
        "DELETE FROM medbill.proposals",
        "DELETE FROM medbill.holds",
        "DELETE FROM medbill.inbox_files",
        "DELETE FROM medbill.vault_tokens",
        "DELETE FROM medbill.outbox",
        "UPDATE medbill.proposal_events SET actor = 'somebody'",
        "UPDATE medbill.data_keys SET wrapped = ''",
        "UPDATE medbill.token_grants SET expires_at = 'infinity'",
        "SELECT * FROM medbill.alembic_version",
        "SELECT * FROM audit.rows",
        "SELECT * FROM audit.heads",
        "INSERT INTO audit.heads VALUES (0, 0, '')",
        "UPDATE audit.heads SET seq = 0",
        "DELETE FROM audit.rows",
        "SELECT audit.first_hash(0::smallint)",
        f"SET ROLE {rights.OWNER}",
        f"SET ROLE {rights.AUDIT_OWNER}",
        f"SET ROLE {rights.AUDITOR}",
        f"SET ROLE {rights.ANALYST}",
        "CREATE ROLE mine",
        "COPY medbill.holds TO PROGRAM 'cat'",
    ],
)
def test_the_pipelines_login_may_not(app: sa.Engine, statement: str) -> None:
    assert _state(app, statement) == "42501"


def test_the_pipelines_login_appends_to_the_ledger_and_the_auditor_verifies(
    module_database: sa.Engine, app: sa.Engine
) -> None:
    Ledger(app, RunContext()).record(Event("read", "landing.read", "payment", "lakeside", "r"))
    auditor = _login(module_database, rights.AUDITOR)
    report = verify(auditor)
    assert report.ok and report.problems == []
    for statement in (
        "INSERT INTO audit.heads VALUES (0, 0, '')",
        "UPDATE audit.rows SET actor = 'x'",
        "SELECT audit.append('{}')",
        "SELECT * FROM medbill.holds",
        "SELECT * FROM medbill.vault_tokens",
    ):
        assert _state(auditor, statement) == "42501", statement
    auditor.dispose()


def test_the_analyst_reads_what_is_de_identified_and_nothing_else(module_database: sa.Engine, held: str) -> None:
    analyst = _login(module_database, rights.ANALYST)
    with analyst.connect() as connection:
        seen = set(connection.scalars(sa.select(holds.c.practice).where(holds.c.claim_key == held)))
    assert seen == {"hillside", "lakeside"}
    for table in metadata.tables.values():
        allowed = rights.RIGHTS.get(table.name, {}).get(rights.ANALYST)
        assert allowed in (None, "SELECT"), table.name
        assert _state(analyst, f"SELECT 1 FROM {table.fullname}") == (None if allowed else "42501"), table.name
        assert _state(analyst, f"DELETE FROM {table.fullname}") == "42501", table.name
    closed = {"vault_tokens", "vault_secrets", "token_grants", "data_keys", "inbox_files", "payments"}
    assert not closed & {name for name, groups in rights.RIGHTS.items() if rights.ANALYST in groups}
    assert _state(analyst, "SELECT * FROM audit.rows") == "42501"
    analyst.dispose()


def test_a_login_without_the_vault_group_reads_no_value(module_database: sa.Engine) -> None:
    triage = _login(module_database, rights.APP, rights.WRITER, rights.EVERY)
    assert _state(triage, "SELECT 1 FROM medbill.proposals") is None
    for table in ("vault_tokens", "vault_secrets", "vault_state", "token_grants"):
        assert _state(triage, f"SELECT 1 FROM medbill.{table}") == "42501", table
    triage.dispose()


def test_vault_and_keys_work_as_the_pipelines_login(app: sa.Engine, keys: LocalKeyring) -> None:
    ours, theirs = Vault(app, keys, "lakeside"), Vault(app, keys, "hillside")
    values = pa.array(["a", "b", "a"])
    tokens = ours.tokenize("MRN", values).to_pylist()
    assert ours.tokenize("MRN", values).to_pylist() == tokens
    assert ours.reveal(tokens) == dict(zip(tokens, ["a", "b", "a"], strict=True))
    foreign = theirs.tokenize("MRN", pa.array(["a"])).to_pylist()
    with pytest.raises(TokenRefused) as caught:
        ours.reveal(foreign)
    assert caught.value.code == "TOKEN_FOREIGN"
    assert ours.rotate().left == 0
    assert ours.reveal(tokens[:1]) == {tokens[0]: "a"}
    assert ours.shred(tokens[:1]) == 1
    envelopes = Envelopes(app, keys)
    assert envelopes.open("lakeside", "landing", "c", envelopes.seal("lakeside", "landing", "c", b"x")) == b"x"
    assert envelopes.rewrap().left == 0
    assert {v.practice for v in envelopes.versions()} == {"lakeside", "hillside"}


def test_events_belong_to_the_practice_of_their_proposal(app: sa.Engine) -> None:
    id = uuid.uuid4().hex
    row = {
        "id": id,
        "practice": "lakeside",
        "kind": "posting",
        "day": date(2026, 1, 5),
        "claim_token": "t",
        "title": "t",
    }
    event = "INSERT INTO medbill.proposal_events (proposal_id, event, actor, content_hash) VALUES (%s, 'proposed', 'a', 'h')"
    count = "SELECT count(*) FROM medbill.proposal_events WHERE proposal_id = %s"
    with db.transaction(app, "lakeside") as connection:
        connection.execute(
            sa.insert(proposals).values(**row, amount=1, payload={}, content_hash="h", status="proposed")
        )
        connection.exec_driver_sql(event, (id,))
        assert connection.exec_driver_sql(count, (id,)).scalar() == 1
    with db.transaction(app, "hillside") as connection:
        assert connection.exec_driver_sql(count, (id,)).scalar() == 0
    with pytest.raises(StoreUnavailable, match="42501"), db.transaction(app, "hillside") as connection:
        connection.exec_driver_sql(event, (id,))


def test_a_superuser_is_bound_by_nothing(module_database: sa.Engine, held: str) -> None:
    """PostgreSQL's rule; it is why pipelines never connect as one, and why checkpoints lie outside."""
    assert _practices(module_database, "lakeside", held) == ["hillside", "lakeside"]


def test_an_account_that_may_create_roles_migrates_and_then_owns_nothing(database: sa.Engine) -> None:
    """As in the compose deployment: no superuser, the owner of an empty database."""
    name = f"m{uuid.uuid4().hex[:12]}"
    with database.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA medbill CASCADE; DROP SCHEMA audit CASCADE")
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN CREATEROLE")
        connection.exec_driver_sql(f"ALTER DATABASE {database.url.database} OWNER TO {name}")
        for group in rights.GROUPS:  # made by it, where it comes first to a server
            connection.exec_driver_sql(f"GRANT {group} TO {name} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    url = database.url.set(username=name).render_as_string(hide_password=False)
    app = database.url.set(username=f"{name}_app", password="secret of the app")
    schema.upgrade(url, logins={app.render_as_string(hide_password=False): rights.APP_GROUPS})
    schema.upgrade(url)
    with database.begin() as connection:
        owners = connection.execute(
            sa.text(
                "SELECT DISTINCT relnamespace::regnamespace::text, relowner::regrole::text FROM pg_class"
                " WHERE relnamespace IN ('medbill'::regnamespace, 'audit'::regnamespace)"
            )
        ).all()
        assert set(owners) == {("medbill", rights.OWNER), ("audit", rights.AUDIT_OWNER)}
        stored = connection.scalar(
            sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = :n"), {"n": f"{name}_app"}
        )
        assert str(stored).startswith("SCRAM-SHA-256$")
    engine = sa.create_engine(app, poolclass=sa.NullPool)
    Ledger(engine, RunContext()).record(Event("read", "a", "payment", "lakeside", "r"))
    assert _state(engine, "SELECT * FROM medbill.holds") is None
    assert _state(sa.create_engine(url, poolclass=sa.NullPool), "DELETE FROM audit.rows") == "42501"


def test_what_the_ledgers_groups_lack_is_given_by_the_next_migration(database: sa.Engine) -> None:
    """A ledger made by an account that could not make roles has none of its grants."""
    with database.begin() as connection:
        for name, groups in rights.AUDIT_RIGHTS.items():
            for group in groups:
                connection.exec_driver_sql(f"REVOKE ALL ON {name} FROM {group}")
    app, sealer = _login(database, *rights.APP_GROUPS), _login(database, rights.SEALER)
    assert _state(sealer, "SELECT 1 FROM audit.rows") == "42501"
    schema.upgrade(database.url.render_as_string(hide_password=False))
    Ledger(app, RunContext()).record(Event("read", "a", "payment", "lakeside", "r"))
    assert _state(sealer, "SELECT 1 FROM audit.rows") is None
    assert _state(sealer, "INSERT INTO audit.checkpoints (number, content) VALUES (1, '')") is None
    assert _state(sealer, "INSERT INTO audit.heads VALUES (0, 0, '')") == "42501"
    app.dispose()
    sealer.dispose()


def test_an_account_that_may_not_is_told(database: sa.Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE nobody_special LOGIN")
        connection.exec_driver_sql(f"ALTER ROLE {rights.ANALYST} RENAME TO medbill_away")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            schema.upgrade(database.url.set(username="nobody_special").render_as_string(hide_password=False))
        assert caught.value.code == "STORE_UNAVAILABLE"  # not even let into the database
        with database.begin() as connection:
            connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {database.url.database} TO nobody_special")
        with pytest.raises(StoreUnavailable) as caught:
            schema.upgrade(database.url.set(username="nobody_special").render_as_string(hide_password=False))
        assert caught.value.code == "ROLES_MISSING"
    finally:
        with database.begin() as connection:
            connection.exec_driver_sql(f"ALTER ROLE medbill_away RENAME TO {rights.ANALYST}")
