"""`medbill sandbox seed`: what a size means, and that the same size is the same bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medbill.sandbox.cli import app
from medbill.sandbox.practice import SIZES, Size


def _seed(folder: Path, *arguments: str) -> dict[str, str]:
    """Path -> SHA-256 of every file written."""
    where = ["--inbox", str(folder / "inbox"), "--state", str(folder / "state"), "--today", "2026-11-20"]
    done = CliRunner().invoke(app, ["seed", *where, "--only", "drchrono", *arguments])
    assert done.exit_code == 0, done.output
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_small_is_what_comes_without_a_size_and_always_the_same_bytes(tmp_path: Path) -> None:
    assert _seed(tmp_path / "a", "--size", "small") == _seed(tmp_path / "b")


@pytest.mark.parametrize("size", list(Size))
def test_a_size_sets_the_days_and_the_claims_unless_they_are_given(tmp_path: Path, size: Size) -> None:
    _seed(tmp_path, "--size", size.value, "--claims", "40")
    seeded = json.loads((tmp_path / "state" / "seeded.json").read_text())
    assert (seeded["claims"], seeded["days"]) == (40, SIZES[size][1])


def test_an_unknown_size_is_refused() -> None:
    assert CliRunner().invoke(app, ["seed", "--inbox", "i", "--state", "s", "--size", "huge"]).exit_code == 2
