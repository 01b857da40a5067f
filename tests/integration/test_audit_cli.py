"""`medbill audit` against a real PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.cli import app
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.errors import MedbillError

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    for run, kind, token in (("r1", "landing.read", "[CLAIM_A]"), ("r2", "inbox.read", None)):
        ledger = Ledger(database, RunContext(on_behalf_of="ana", dag_id="d", run_id=run))
        with ledger.touch(Event("read", kind, "payment", "lakeside", "x", subject_token=token)) as touch:
            touch.note(claims=2)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=True)


def _lines(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_verify_prints_counts_and_exits_by_what_it_finds(cli: Any, database: sa.Engine) -> None:
    result = cli("verify")
    assert (result.exit_code, result.output) == (0, "rows 4  chains 16  problems 0  running 0\n")
    with database.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE audit.rows DISABLE TRIGGER append_only; UPDATE audit.rows SET actor = 'x' WHERE outcome = 'success';"
            "ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only"
        )
    result = cli("verify")
    assert result.exit_code == 1
    assert result.output.startswith("rows 4  chains 16  problems 2")
    assert result.output.count("ALTERED_COLUMN row ") == 2


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ((), 4),
        (("--purpose", "payment"), 4),
        (("--purpose", "treatment"), 0),
        (("--actor", "ana"), 4),
        (("--actor", "medbill"), 4),
        (("--dag", "d", "--run", "r1"), 2),
        (("--kind", "landing.read"), 2),
        (("--kind", "*"), 4),
        (("--kind", "in*"), 2),
        (("--subject", "[CLAIM_A]"), 2),
        (("--outcome", "intent"), 2),
        (("--since", "2020-01-01"), 4),
        (("--until", "2020-01-01"), 0),
        (("--limit", "1"), 1),
    ],
)
def test_search(cli: Any, options: tuple[str, ...], count: int) -> None:
    assert len(_lines(cli("search", *options))) == count


def test_search_prints_what_show_takes(cli: Any) -> None:
    *_, last = _lines(cli("search"))
    assert (last["kind"], last["outcome"], last["details"]) == ("inbox.read", "success", {"claims": 2})
    shown = json.loads(cli("show", str(last["number"])).output)
    assert last.items() <= shown.items()
    assert len(shown["row_hash"]) == 64
    missing = cli("show", "999999")
    assert isinstance(missing.exception, MedbillError) and missing.exception.code == "NO_SUCH_ROW"


def test_an_open_intent_can_be_abandoned_once_by_a_named_person(
    cli: Any, database: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Event("read", "landing.read", "payment", "lakeside", "x")
    number = Ledger(database, RunContext())._append(event, "intent", "0190b6ac-0000-7000-8000-000000000001")
    assert cli("verify", "--open-after", "0").exit_code == 1
    monkeypatch.delenv("MEDBILL_ACTOR", raising=False)
    assert cli("abandon", str(number)).exception.code == "ACTOR_MISSING"
    monkeypatch.setenv("MEDBILL_ACTOR", "kim")
    assert cli("abandon", str(number)).exit_code == 0
    assert cli("verify", "--open-after", "0").exit_code == 0
    assert cli("abandon", str(number)).exception.code == "NOT_AN_OPEN_INTENT"
    [row] = _lines(cli("search", "--outcome", "abandoned"))
    assert row["on_behalf_of"] == "kim"
