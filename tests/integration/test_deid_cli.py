"""`medbill deid run` with the practice's vault: tokens that can be revealed, and a ledger row around it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.deid.cli import app
from medbill.deid.vault import Vault
from medbill.store.keys import LocalKeyring

pytestmark = pytest.mark.slow


def test_run_with_the_vault(database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    text = "Called Jane Quillsworth at 617-555-0134 about CPT 99213."
    source.write_text(json.dumps({"id": "n1", "text": text, "record": {"patient_last_name": "Quillsworth"}}) + "\n")
    done = CliRunner().invoke(app, ["run", str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    row = json.loads(out.read_text())
    assert "Quillsworth" not in row["text"] and "555-0134" not in row["text"] and "99213" in row["text"]
    tokens = [re.search(r"\[[^\]]+\]", s["token"]).group(0) for s in row["spans"]]
    revealed = Vault(database, LocalKeyring(tmp_path / "keyring.json"), "lakeside").reveal(tokens)
    assert any("Quillsworth" in value for value in revealed.values())
    with database.connect() as connection:
        rows = connection.execute(sa.text("SELECT row_to_json(t)::text FROM audit.rows t")).scalars().all()
    assert sum("deid.run" in r for r in rows) == 2 and sum("token.issue" in r for r in rows) == 2 and len(rows) == 4
    assert not any("Quillsworth" in r for r in rows)


def test_reveal_needs_purpose_run_and_person_and_leaves_a_ledger_row(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    source, out, back = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    text = "Called Jane Quillsworth at 617-555-0134 about CPT 99213."
    source.write_text(json.dumps({"id": "n1", "text": text}) + "\n")
    done = CliRunner().invoke(app, ["run", str(source), "--out", str(out)])
    run = json.loads(done.output)["run"]
    whole = ["reveal", str(out), "--out", str(back), "--purpose", "review", "--run", run, "--actor", "Eva Holm"]
    shown = CliRunner().invoke(app, whole)
    assert shown.exit_code == 0, shown.output
    assert json.loads(back.read_text()) == {"id": "n1", "text": text}
    assert back.stat().st_mode & 0o777 == 0o600 and "Quillsworth" not in shown.output
    for change, code in (
        ({"--purpose": "payer_letter"}, "TOKEN_NOT_ISSUED"),
        ({"--purpose": "curiosity"}, "PURPOSE_UNKNOWN"),
        ({"--run": "deid-another"}, "TOKEN_NOT_ISSUED"),
        ({"--practice": "demo"}, "TOKEN_NOT_ISSUED"),
        ({"--actor": " "}, "DECISION_REFUSED"),
        ({"--actor": "medbill"}, "DECISION_REFUSED"),
    ):
        options = dict(zip(whole[2::2], whole[3::2], strict=True)) | change
        back.unlink(missing_ok=True)
        refused = CliRunner().invoke(app, [*whole[:2], *(x for pair in options.items() for x in pair)])
        assert refused.exit_code != 0 and code in refused.output, (change, refused.output)
        assert not back.exists() and not list(tmp_path.glob("*.partial"))
    altered = out.read_text().replace("[PERSON_", "[person_")
    out.write_text(altered)
    assert "TOKEN_MANGLED" in CliRunner().invoke(app, whole).output
    with database.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT outcome, on_behalf_of, purpose FROM audit.rows WHERE kind = 'token.restore' ORDER BY recorded_at"
            )
        ).all()
    assert [tuple(r) for r in rows[:2]] == [("intent", "Eva Holm", "operations"), ("success", "Eva Holm", "operations")]
    assert [r.outcome for r in rows].count("failure") == 4


def test_whoever_lacks_the_role_reveals_nothing_and_the_ledger_says_so(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    out = tmp_path / "clear.jsonl"
    source = tmp_path / "tokens.jsonl"
    source.write_text("{}\n")
    command = ["reveal", str(source), "--out", str(out), "--purpose", "review", "--run", "r", "--actor", "Gia Moss"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0 and not out.exists()
    with database.connect() as connection:
        told = connection.execute(sa.text("SELECT on_behalf_of, kind, outcome FROM audit.rows")).all()
    assert told == [("Gia Moss", "command.reveal", "failure")]
