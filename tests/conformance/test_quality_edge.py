"""Gate 1 over the reader's tables of the shared edge files: what a biller must not post is refused, the rest passes."""

from __future__ import annotations

from pathlib import Path

from medbill.model.remittances import ERA_TABLES
from medbill.quality import gates
from medbill.x12 import era

GX = Path(__file__).resolve().parents[2] / "great_expectations"
REFUSED = {
    "10_unbalanced_line.835": ("claim", "CLAIM_UNBALANCED"),
    "11_unbalanced_bpr.835": ("transaction", "TRANSACTION_UNBALANCED"),
    "12_bad_se_count.835": ("transaction", "ENVELOPE_ERROR"),
    "13_truncated.835": ("transaction", "TRUNCATED"),
}


def test_edge_files_are_refused_for_their_reason_or_pass(shared: Path) -> None:
    files = sorted((shared / "data/x12/edge").glob("*.835"))
    assert len(files) == 19
    read = [era.read([f]) for f in files]
    results = gates.check_landing([{name: tables.table(name) for name in ERA_TABLES} for tables in read], GX)
    for file, result in zip(files, results, strict=True):
        first = (result.refused[0].level, result.refused[0].reason_code) if result.refused else None
        assert first == REFUSED.get(file.name), file.name
