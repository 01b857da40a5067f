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
    assert len(rows) == 2 and all("deid.run" in r for r in rows)
    assert not any("Quillsworth" in r for r in rows)
