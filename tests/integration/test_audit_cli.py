"""`medbill audit` against a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit import fhir
from medbill.audit.cli import app
from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.errors import MedbillError

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(database: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
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
        (("--claim", "[CLAIM_A]"), 2),
        (("--token", "[CLAIM_A]"), 2),
        (("--token", "[CLAIM_B]"), 0),
        (("--proposal", "p1"), 0),
        (("--detail", "model=m"), 0),
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
    assert cli("abandon", str(number)).exception.code == "DECISION_REFUSED"
    monkeypatch.setenv("MEDBILL_ACTOR", "medbill")  # a service account decides nothing
    assert cli("abandon", str(number)).exception.code == "DECISION_REFUSED"
    monkeypatch.setenv("MEDBILL_ACTOR", "Eva Holm")
    assert cli("abandon", str(number)).exit_code == 0
    assert cli("verify", "--open-after", "0").exit_code == 0
    assert cli("abandon", str(number)).exception.code == "NOT_AN_OPEN_INTENT"
    [row] = _lines(cli("search", "--outcome", "abandoned"))
    assert row["on_behalf_of"] == "Eva Holm"


HASH = "ab" * 32


@pytest.fixture
def answered(cli: Any, database: sa.Engine) -> Any:
    """What a model was asked about a claim, a decision, a write-back, and two disclosures outside of the rule."""
    ledger = Ledger(database, RunContext(service="llm", dag_id="d", run_id="r3", map_index=1, try_number=2))
    asked = {"prompt_hash": HASH, "response_hash": "cd" * 32, "model": "m-1", "tokens": ["[CLAIM_7Z]", "[MRN_9Q]"]}
    ledger.record(Event("execute", "llm.ask", "payment", "lakeside", "prompt:denial", details=asked))
    decided = Event("update", "proposal.decision", "payment", "lakeside", "proposal:p1", "[CLAIM_7Z]", "ef" * 32,
                    details={"decision": "approved"})  # fmt: skip
    ledger.record(decided)
    ledger.record(Event("execute", "llm.check", "payment", "lakeside", "x", details={"proposal_hash": "ef" * 32}))
    ledger.record(Event("update", "proposal.apply", "payment", "lakeside", "proposal:p1", "[CLAIM_7Z]", "ef" * 32,
                        details={"platform": "drchrono"}))  # fmt: skip
    sent = {"recipient": "state:insurance-board", "recipient_address": "board-office", "what": "denial letter"}
    ledger.record(Event("read", "disclosure.send", "legal", "lakeside", "letter:1", "[CLAIM_7Z]", details=sent))
    ledger.record(
        Event("read", "disclosure.send", "legal", "lakeside", "letter:2", "[CLAIM_7Z]", details=sent), "failure"
    )
    return cli


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--token", "[CLAIM_7Z]"), 5),
        (("--token", "[MRN_9Q]"), 1),
        (("--claim", "[CLAIM_7Z]"), 4),
        (("--proposal", "p1"), 2),
        (("--proposal", "ef" * 32), 3),
        (("--detail", f"prompt_hash={HASH}"), 1),
        (("--detail", "model=m-1"), 1),
        (("--detail", "model=m-1", "--detail", "model=m-2"), 0),
        (("--detail", "decision=approved", "--run", "r3"), 1),
    ],
)
def test_search_by_what_is_in_the_details(answered: Any, options: tuple[str, ...], count: int) -> None:
    assert len(_lines(answered("search", *options))) == count


def test_only_known_details_are_searched(answered: Any) -> None:
    assert answered("search", "--detail", "claims=2").exception.code == "DETAIL_UNKNOWN"


def test_a_row_is_shown_by_its_event_id_too(cli: Any) -> None:
    *_, last = _lines(cli("search"))
    assert json.loads(cli("show", last["event_id"]).output)["number"] == last["number"]
    assert cli("show", "x").exception.code == "NO_SUCH_ROW"
    assert cli("show", "0190b6ac-0000-7000-8000-000000000001").exception.code == "NO_SUCH_ROW"


def test_export_as_json_lines_carries_the_hashes(answered: Any) -> None:
    lines = _lines(answered("export", "--format", "jsonl"))
    assert len(lines) == 10
    assert all(len(line["row_hash"]) == 64 for line in lines)
    assert [line["recorded_at"] for line in lines] == sorted(line["recorded_at"] for line in lines)


def test_export_as_fhir_gives_valid_audit_events(answered: Any) -> None:
    events = _lines(answered("export", "--format", "fhir"))
    assert len(events) == 10
    assert [problem for event in events for problem in fhir.problems(event)] == []
    [asked] = [e for e in events if e["subtype"][0]["code"] == "llm.ask"]
    assert {"type": "prompt_hash", "valueString": HASH} in asked["entity"][0]["detail"]
    assert asked["purposeOfEvent"][0]["coding"][0]["code"] == "HPAYMT"
    assert asked["agent"] == [
        {"who": {"identifier": {"system": "urn:medbill:service", "value": "llm"}}, "requestor": True}
    ]
    [last] = [e for e in events if e["subtype"][0]["code"] == "inbox.read" and e["outcomeDesc"] == "success"]
    assert [agent["requestor"] for agent in last["agent"]] == [False, True]
    assert (last["action"], last["outcome"]) == ("R", "0")


def test_disclosures_leave_out_what_the_rule_leaves_out(answered: Any) -> None:
    [one] = _lines(answered("disclosures", "--subject", "[CLAIM_7Z]"))
    assert {k: one[k] for k in ("recipient", "address", "what", "purpose", "exempt")} == {
        "recipient": "state:insurance-board", "address": "board-office", "what": "denial letter", "purpose": "legal",
        "exempt": False,
    }  # fmt: skip
    both = _lines(answered("disclosures", "--subject", "[CLAIM_7Z]", "--subject", "[MRN_9Q]", "--include-exempt"))
    assert [(d["recipient"], d["exempt"]) for d in both] == [("drchrono", True), ("state:insurance-board", False)]
    assert _lines(answered("disclosures", "--subject", "[CLAIM_OTHER]", "--include-exempt")) == []


def test_checkpoint_then_verify(cli: Any, database: sa.Engine, tmp_path: Path) -> None:
    assert cli("checkpoint").output.startswith("checkpoint 1  rows sealed 4  digest ")
    assert cli("checkpoint").output.startswith("checkpoint 2  rows sealed 4  digest ")
    result = cli("verify")
    assert (result.exit_code, result.output) == (
        0,
        "rows 4  chains 16  problems 0  running 0\ncheckpoints 2  rows sealed 4  signed by a pinned key\n",
    )
    (tmp_path / "audit_signing.pub").unlink()
    assert "signed by the first checkpoint's key" in cli("verify").output
    elsewhere = tmp_path / "elsewhere"
    missing = cli("verify", "--checkpoints", str(elsewhere))
    assert missing.exit_code == 1
    assert missing.output.count("CHECKPOINT_MISSING") == 2
    assert cli("checkpoint", "--checkpoints", str(elsewhere)).exception.code == "CHECKPOINT_MISSING"
    assert not elsewhere.exists()
    assert cli("verify", "--public-key", str(tmp_path / "nothing.pub")).exception.code == "KEY_UNAVAILABLE"


def test_checkpoints_keep_coming_through_trouble(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from medbill.audit import cli as module
    from medbill.errors import StoreUnavailable

    turns = iter([False, False, True])
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds=None: next(turns))
    real, calls = module.seal, []

    def flaky(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise StoreUnavailable("down")
        return real(*arguments)

    monkeypatch.setattr(module, "seal", flaky)
    result = cli("checkpoint", "--every", "60")
    assert result.exit_code == 0
    assert result.output.count("checkpoint ") == 2
    assert "STORE_UNAVAILABLE" in result.output
    assert cli("checkpoint", "--every", "301").exit_code == 2  # the promise is five minutes
