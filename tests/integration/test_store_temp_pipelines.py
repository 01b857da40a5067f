"""No pipeline writes protected data in clear to any file: everything opened for writing is sealed, de-identified or ours."""

from __future__ import annotations

import importlib.util
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.pipelines.report import denials
from medbill.store import temp

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("faults_world", ROOT / "tests" / "faults" / "world.py")
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
if not hasattr(w, "Office"):
    _spec.loader.exec_module(w)

pytestmark = pytest.mark.slow
DAY = date(2026, 9, 15)
_written: set[str] = set()
_on = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Every file Python opens for writing, in this process, while the test looks."""
    if not _on or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _written.add(os.fsdecode(arguments[0]))


def test_pipelines_write_sealed_or_deidentified_files_only(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    global _on
    home = tmp_path / "home"
    for name in ("TMPDIR", "TMP", "TEMP"):
        monkeypatch.setenv(name, str(temp.folder(home)))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    office = w.Office()
    world = w.open_world(database, home, office)
    claims = [office.claim() for _ in range(3)]
    world.drop("a.835", w.interchange(DAY, w.Payment(tuple(claims))))
    world.drop("b.835", b"ISA nothing of this is an interchange, ZQBROKEN")
    sys.addaudithook(_hook)
    _on = True
    try:
        world.bill()
        world.run()
        denials(world.ctx, w.PRACTICE, DAY, DAY, home / "reports" / "r", DAY)
    finally:
        _on = False
    assert any(path.startswith(str(home / "objects")) for path in _written)  # the hook sees what is written
    secrets = [value.encode() for value in (*office.canaries, "ZQBROKEN")]
    kept = [Path(path) for path in _written if Path(path).is_file()] + [p for p in home.rglob("*") if p.is_file()]
    leaks = [path for path in kept if any(value in path.read_bytes() for value in secrets)]
    assert leaks == []
    # beside the home: results of Great Expectations, which are counts (and were searched above), and compiled modules
    known = (str(home), str(world.ctx.settings.great_expectations), "/dev/", "/proc/")
    assert {p for p in _written if not p.startswith(known) and "__pycache__" not in p} == set()
    assert not list((home / "temp").iterdir()) and not (tmp_path / ".tmp").exists()
