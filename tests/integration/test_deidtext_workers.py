"""The engine on several processors: the same answer, and a process that dies loses nothing in silence."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medbill.deid.cli import app
from medbill.deid.text.engine import Engine
from medbill.deid.text.errors import TextTooHard
from medbill.deid.text.workers import WorkerLost, Workers

pytestmark = pytest.mark.slow
NOTES = runpy.run_path(str(Path(__file__).parents[1] / "deidtext_notes.py"))["notes"](60, seed=4242)
TEXTS, RECORDS = [n["text"] for n in NOTES], [n.get("record") for n in NOTES]


@pytest.fixture(scope="module")
def many() -> Iterator[Workers]:
    with Workers(count=2) as engine:
        yield engine


def test_spans_are_those_of_one_engine_in_the_same_order(many: Workers) -> None:
    one = Engine()
    assert many.analyze(TEXTS, RECORDS) == one.analyze(TEXTS, RECORDS)
    assert many.analyze(TEXTS) == one.analyze(TEXTS)
    assert many.analyze([]) == []
    found = many.deidentify(TEXTS[:3], RECORDS[:3])
    assert [[s.start for s in d.spans] for d in found] == [
        [s.start for s in d.spans] for d in one.deidentify(TEXTS[:3], RECORDS[:3])
    ]


def test_a_record_for_each_text(many: Workers) -> None:
    with pytest.raises(ValueError, match="one record"):
        many.analyze(TEXTS, RECORDS[:1])


def test_an_error_comes_across_processes_as_it_is() -> None:
    told = pickle.loads(pickle.dumps(TextTooHard("a pattern ran out of time on a text; it was not released")))
    assert (type(told), told.code) == (TextTooHard, TextTooHard.code) and "ran out of time" in str(told)


def test_a_process_that_dies_releases_nothing() -> None:
    with Workers(count=1) as engine:
        assert engine.analyze(["Seen 04/12/2023."])[0]
        for number in list(engine._pool._processes):
            os.kill(number, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            engine.analyze(TEXTS[:1])


def test_the_command_gives_the_same_with_workers(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(TEXTS)))
    outs = []
    for count in ("1", "2"):
        out = tmp_path / f"out{count}.jsonl"
        done = CliRunner().invoke(app, ["run", str(source), "--out", str(out), "--no-vault", "--workers", count])
        assert done.exit_code in (0, 3), done.output
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        outs.append([(row["id"], [(s["start"], s["end"], s["type"]) for s in row["spans"]]) for row in rows])
    assert outs[0] == outs[1] and outs[0]
