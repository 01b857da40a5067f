"""The public 837P worked examples: every CLM and every line is read, charges add up."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from medbill.x12 import claim837


def test_public_examples(shared: Path) -> None:
    files = sorted((shared / "data" / "x12" / "samples").glob("*/*837_005010X222*"))
    assert len(files) > 10
    for path in files:
        text = path.read_bytes()
        found = list(claim837.records(text))
        sep = text[3:4]
        assert len(found) == text.count(b"CLM" + sep), path.name
        assert sum(len(r["lines"]) for r in found if r) == text.count(b"SV1" + sep), path.name
        for record in found:
            assert record is not None, path.name
            assert record["claim_id"]
            assert record["diagnoses"]
            for line in record["lines"]:
                assert line["code"]
                assert Decimal(line["units"]) > 0
                assert line["date_of_service"]
