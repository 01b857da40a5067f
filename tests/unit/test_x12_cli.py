"""`medbill era read`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from medbill.model.remittances import ERA_TABLES
from medbill.x12 import era
from medbill.x12.cli import app

KEYS = [
    "transactions", "claims", "service_lines", "adjustments", "charge", "paid", "patient_responsibility", "reversals",
    "provider_adjustments", "provider_adjustment_amount", "payment", "unbalanced_claims", "by_group",
    "by_group_and_reason", "problems",
]  # fmt: skip
FILE = (
    "ISA*00*          *00*          *ZZ*PAYER          *ZZ*CLINIC         *260115*1200*^*00501*000000001*0*T*:~"
    "GS*HP*PAYER*CLINIC*20260115*1200*1*X*005010X221A1~ST*835*0001~BPR*I*42.5*C*ACH************20260115~TRN*1*T1*1512345678~"
    "N1*PR*SYNTH PLAN~N1*PE*SYNTH CLINIC*XX*1234567893~LX*1~CLP*A1*1*100*70*10*12*ICN1*11*1~SVC*HC:99213*100*70**1~"
    "CAS*CO*45*20~CAS*PR*1*10~CLP*A2*22*-100*-70*-10*12*ICN1*11*1~CAS*CO*45*-20~CAS*PR*9999*-10~CLP*A3*1*100*70~"
    "CAS*CO*45*29.9~PLB*1234567893*20261231*WO:A9*30*L6:INT*-2.5~SE*17*0001~GE*1*1~IEA*1*000000001~"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "era.835"
    file.write_text(FILE)
    return file


def test_json_has_exactly_the_promised_keys_and_exact_amounts(path: Path) -> None:
    result = CliRunner().invoke(app, ["read", str(path), "--json"])
    assert result.exit_code == 0 and result.stderr == ""
    got = json.loads(result.stdout)
    assert list(got) == KEYS
    assert got["problems"] == [
        {
            "code": "UNKNOWN_CARC",
            "severity": "warning",
            "where": "file 1, transaction 1, claim 2, segment 13",
            "message": "the claim adjustment reason code is not in the list of valid codes",
        },
        {
            "code": "CLAIM_UNBALANCED",
            "severity": "error",
            "where": "file 1, transaction 1, claim 3, segment 14",
            "message": "CLP03 less all adjustments of the claim is not CLP04",
        },
    ]
    assert {k: got[k] for k in KEYS if isinstance(got[k], int | float)} == {
        "transactions": 1,
        "claims": 3,
        "service_lines": 1,
        "adjustments": 5,
        "charge": 100.0,
        "paid": 70.0,
        "patient_responsibility": 0.0,
        "reversals": 1,
        "provider_adjustments": 2,
        "provider_adjustment_amount": 27.5,
        "payment": 42.5,
        "unbalanced_claims": 1,
    }
    assert got["by_group"] == {"CO": 29.9, "PR": 0.0}
    assert got["by_group_and_reason"] == {"CO-45": 29.9, "PR-1": 10.0, "PR-9999": -10.0}
    for line in ('"charge": 100.00,', '"payment": 42.50,', '"CO-45": 29.90,', '"PR-9999": -10.00'):
        assert line in result.stdout


def test_summary_for_a_person(path: Path) -> None:
    result = CliRunner().invoke(app, ["read", str(path)])
    assert result.exit_code == 0
    assert "claims" in result.stdout and "42.50" in result.stdout and "2 problems" in result.stdout


def test_several_files_are_added_up(path: Path) -> None:
    got = json.loads(CliRunner().invoke(app, ["read", str(path), str(path), "--json"]).stdout)
    assert got["claims"] == 6 and got["payment"] == 85.0
    assert [p["where"].split(",")[0] for p in got["problems"]] == ["file 1", "file 1", "file 2", "file 2"]


def test_out_writes_the_six_tables(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert CliRunner().invoke(app, ["read", str(path), "--out", str(out)]).exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{name}.parquet" for name in ERA_TABLES)
    whole = era.read([path])
    for name, schema in ERA_TABLES.items():
        table = pq.read_table(out / f"{name}.parquet")
        assert table.schema.equals(schema) and table.equals(whole.table(name))


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", FILE.encode()[:80]])
def test_not_x12_is_one_line_exit_2_and_nothing_on_stdout(path: Path, tmp_path: Path, data: bytes) -> None:
    bad = tmp_path / "bad.835"
    bad.write_bytes(data)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["read", str(path), str(bad), "--json", "--out", str(out)])
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("NOT_X12: ") and result.stderr.count("\n") == 1
    assert list(out.iterdir()) == []


def test_a_truncated_file_is_read_and_said(tmp_path: Path) -> None:
    cut = tmp_path / "cut.835"
    cut.write_text(FILE[: FILE.index("CAS*PR*9999") + 5])
    result = CliRunner().invoke(app, ["read", str(cut), "--json"])
    assert result.exit_code == 0
    got = json.loads(result.stdout)
    assert got["claims"] == 2 and "TRUNCATED" in [p["code"] for p in got["problems"]]


def test_starting_imports_neither_pandas_nor_compute(path: Path) -> None:
    script = (
        "import sys; from medbill.x12.cli import app\n"
        f"app(['read', {str(path)!r}, '--json'], standalone_mode=False)\n"
        "print(sorted({'pandas', 'pyarrow.compute', 'duckdb'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
