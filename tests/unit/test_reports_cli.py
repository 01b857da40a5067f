"""`medbill report denials`: what it hands on and what it says."""

from __future__ import annotations

import importlib.util
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import medbill.pipelines
from medbill.errors import PolicyError
from medbill.reports import cli
from medbill.reports import denials as report

_spec = importlib.util.spec_from_file_location("reports_rows", Path(__file__).parents[1] / "reports_rows.py")
assert _spec and _spec.loader
rows = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rows)

RANGE = ["--from", "2026-06-01", "--to", "2026-06-30", "--as-of", "2026-07-01"]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stands in for the pipelines, which read the store; keeps what the command asked for."""
    asked: list[tuple[Any, ...]] = []

    def denials(_: Any, practice: str, start: date, end: date, out: Path, as_of: date) -> report.ReportPaths:
        asked.append((practice, start, end, as_of))
        found = [rows.denial("a.1", start, 100, 62)] if start == date(2026, 6, 1) else []
        return report.build(rows.denials_table(found), rows.claims_table([]), start, end, rows.PRACTICE, out, as_of)

    opened = SimpleNamespace(settings=SimpleNamespace(practices=lambda: [rows.PRACTICE]))
    context = SimpleNamespace(Context=SimpleNamespace(open=lambda: opened))
    for name, module in (("report", SimpleNamespace(denials=denials)), ("context", context)):
        monkeypatch.setitem(sys.modules, f"medbill.pipelines.{name}", module)
        monkeypatch.setattr(medbill.pipelines, name, module, raising=False)
    return asked


def test_says_the_headline_and_where_the_page_is(tmp_path: Path, pipeline: list[tuple[Any, ...]]) -> None:
    done = CliRunner().invoke(cli.app, ["denials", *RANGE, "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "$100.00 denied on 1 claim, $62.00 recoverable, $0.00 due within 14 days" in done.output
    assert (tmp_path / "r" / "denials.html").exists()
    assert pipeline == [("lakeside", date(2026, 6, 1), date(2026, 6, 30), date(2026, 7, 1))]


def test_an_empty_period_is_said(tmp_path: Path, pipeline: list[tuple[Any, ...]]) -> None:
    done = CliRunner().invoke(
        cli.app, ["denials", "--from", "2026-05-01", "--to", "2026-05-31", "--out", str(tmp_path)]
    )
    assert done.exit_code == 0 and "no denials in this period" in done.output


def test_several_practices_need_a_choice(tmp_path: Path, pipeline: list[tuple[Any, ...]]) -> None:
    medbill.pipelines.context.Context.open().settings.practices = lambda: [rows.PRACTICE, rows.PRACTICE]
    done = CliRunner().invoke(cli.app, ["denials", *RANGE, "--out", str(tmp_path)])
    assert isinstance(done.exception, PolicyError)
    assert (
        CliRunner().invoke(cli.app, ["denials", *RANGE, "--out", str(tmp_path), "--practice", "lakeside"]).exit_code
        == 0
    )


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli.app, ["denials", "--from", "06/01/2026", "--to", "2026-06-30", "--out", str(tmp_path)]
    )
    assert done.exit_code == 2
