"""The reference edge files and the public worked examples, against totals that were made without this reader."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from medbill.x12 import era

#: What each edge file is about, as a problem; the others have none.
EXPECTED = {
    "10_unbalanced_line": {"LINE_UNBALANCED", "CLAIM_UNBALANCED"},
    "11_unbalanced_bpr": {"TRANSACTION_UNBALANCED"},
    "12_bad_se_count": {"SE_COUNT"},
    "13_truncated": {"TRUNCATED", "LINE_UNBALANCED", "CLAIM_UNBALANCED"},
    "16_unknown_carc": {"UNKNOWN_CARC"},
}


def _edge(shared: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((shared / "data/x12/edge/truth.json").read_text())
    return truth


def test_all_edge_files_give_their_true_totals(shared: Path) -> None:
    truth = _edge(shared)
    files = sorted((shared / "data/x12/edge").glob("*.835"))
    assert len(files) == 19 and {f.stem for f in files} == set(truth)
    for file in files:
        s = era.read([file]).summary()
        assert {p["code"] for p in s["problems"]} == EXPECTED.get(file.stem, set()), file.stem
        true = truth[file.stem]
        if true is None:  # truncated: what is whole is read
            assert (s["claims"], s["service_lines"]) == (1, 1)
            continue
        assert (s["claims"], s["service_lines"]) == (true["claims"], true["svc"]), file.stem
        assert s["paid"] == Decimal(true["paid"]), file.stem
        assert s["by_group"].get("CO", 0) == Decimal(true["CO"]), file.stem
        assert s["patient_responsibility"] == Decimal(true["PR"]), file.stem
        assert s["provider_adjustment_amount"] == Decimal(true["plb"]), file.stem


def test_edge_files_in_tiny_chunks_and_all_at_once(shared: Path) -> None:
    files = sorted((shared / "data/x12/edge").glob("*.835"))
    whole = era.read(files)
    assert whole.summary() == era.read(files, chunk_bytes=64).summary()
    assert whole.claims.equals(era.read(files, chunk_bytes=64).claims)
    assert whole.remittances["file_index"].to_pylist()[-1] == 18


def _segments(data: bytes) -> list[list[str]]:
    """Segments of a file by plain splitting, independent of the reader."""
    text = data.decode("latin-1")
    start = text.index("ISA")
    element, terminator = text[start + 3], text[start + 105]
    return [s.strip().split(element) for s in text[start:].split(terminator) if s.strip()]


def _triplets(cas: list[str]) -> int:
    return sum(any(cas[i : i + 3]) for i in range(2, len(cas), 3))


def _pairs(plb: list[str]) -> int:
    return sum(any(plb[i : i + 2]) for i in range(3, len(plb), 2))


def _samples(shared: Path) -> list[Path]:
    files = [f for f in sorted((shared / "data/x12/samples").rglob("*")) if f.is_file()]
    return [f for f in files if re.search(rb"ST.835", f.read_bytes())]


def test_every_public_835_has_the_counts_of_an_independent_count(shared: Path) -> None:
    files = _samples(shared)
    assert len(files) > 30
    for file in files:
        segments = _segments(file.read_bytes())
        s = era.read([file]).summary()
        by_id: dict[str, list[list[str]]] = {name: [] for name in ("ST", "BPR", "CLP", "SVC", "CAS", "PLB")}
        for segment in segments:
            by_id.setdefault(segment[0], []).append(segment)
        assert s["transactions"] == len([x for x in by_id["ST"] if x[1] == "835"]), file.name
        assert s["claims"] == len(by_id["CLP"]), file.name
        assert s["service_lines"] == len(by_id["SVC"]), file.name
        assert s["adjustments"] == sum(map(_triplets, by_id["CAS"])), file.name
        assert s["provider_adjustments"] == sum(map(_pairs, by_id["PLB"])), file.name
        assert s["charge"] == sum(Decimal(x[3]) for x in by_id["CLP"]), file.name
        assert s["paid"] == sum(Decimal(x[4]) for x in by_id["CLP"]), file.name
        assert s["payment"] == sum(Decimal(x[2]) for x in by_id["BPR"]), file.name


#: Flaws that the public examples really have; the reader must say so, and read them all the same.
FLAWS = {
    "tertiary-payment": {"LINE_UNBALANCED"},  # a stray separator inside of SVC01
    "managed-care": {"DATE_UNREADABLE"},  # BPR16 is 20002316
    "cob-contractural-adjustment": {"COMPONENT_SEPARATOR"},
    "secondary-payment": {"COMPONENT_SEPARATOR", "UNKNOWN_CARC"},  # CARC 42 was retired
}


def test_problems_of_the_public_examples_are_theirs(shared: Path) -> None:
    for file in _samples(shared):
        expected = next((codes for part, codes in FLAWS.items() if part in file.name), set())
        assert {p["code"] for p in era.read([file]).summary()["problems"]} == expected, file.name


def test_files_that_hold_no_835_say_so(shared: Path) -> None:
    with_835 = set(_samples(shared))
    for file in sorted((shared / "data/x12/samples").rglob("*")):
        if not file.is_file() or file in with_835:
            continue
        tables = era.read([file])
        assert tables.claims.num_rows == 0
        assert "NO_REMITTANCE" in tables.problems["code"].to_pylist()


@pytest.mark.parametrize("size", [50, 4096])
def test_samples_streamed_equal_samples_read(shared: Path, size: int) -> None:
    for file in _samples(shared):
        whole, parts = era.read([file]), era.read([file], chunk_bytes=size)
        for name in era.TABLES:
            assert whole.table(name).equals(parts.table(name)), (file.name, name)


def test_oxedi_agrees_on_the_edge_files(shared: Path) -> None:
    oxedi = pytest.importorskip("oxedi")
    for file in sorted((shared / "data/x12/edge").glob("*.835")):
        theirs, ours = oxedi.parse_file(str(file)).tables, era.read([file])
        assert len(theirs["claims"]) == ours.claims.num_rows, file.stem
        assert len(theirs["services"]) == ours.service_lines.num_rows, file.stem
        assert len(theirs["adjustments"]) == ours.adjustments.num_rows, file.stem
