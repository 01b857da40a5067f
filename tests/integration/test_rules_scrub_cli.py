"""`medbill scrub` and `medbill reference` together, on files."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from medbill.errors import BadInput
from medbill.pipelines.scrub_cli import app
from medbill.rules.reference import load
from medbill.store.objects import ObjectStore

t = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "rules_scrub.py")))


def test_a_file_of_claims_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_OBJECTS", str(tmp_path / "objects"))
    for kind, paths in t.files(tmp_path).items():
        load.load(ObjectStore(str(tmp_path / "objects")), kind, paths)
    claims = [
        t.claim(),
        t.claim(
            t.line(t.CODES[0]), t.line(t.CODES[1]), claim_id="c2", patient={"id": "p2", "age_years": 50, "sex": "M"}
        ),
    ]
    file = tmp_path / "claims.jsonl"
    file.write_text("".join(json.dumps(c) + "\n\n" for c in claims) + "no claim\n")
    done = CliRunner().invoke(app, [str(file), "--as-of", str(t.AS_OF)])
    assert done.exit_code == 0
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(r["claim_id"], r["validation_result"]) for r in records] == [
        ("c1", "pass"),
        ("c2", "fail"),
        (None, "fail"),
    ]
    assert set(records[1]) == {"claim_id", "validation_result", "issues", "suggested_actions"}
    assert "3 claims: 1 pass, 0 needs_review, 2 fail; clean-claim rate 33.3 %" in done.stderr
    out = tmp_path / "out.jsonl"
    CliRunner().invoke(app, [str(file), "--as-of", str(t.AS_OF), "--out", str(out)])
    assert [json.loads(line) for line in out.read_text().splitlines()] == records


def test_without_tables_every_claim_goes_to_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_OBJECTS", str(tmp_path / "objects"))
    file = tmp_path / "claims.jsonl"
    file.write_text(json.dumps(t.claim()))
    done = CliRunner().invoke(app, [str(file), "--as-of", str(t.AS_OF)])
    record = json.loads(done.stdout.splitlines()[0])
    assert record["validation_result"] == "needs_review"
    assert {i["rule_id"] for i in record["issues"]} == {"NO-TABLE-IN-FORCE"}
    gone = CliRunner().invoke(app, [str(tmp_path / "absent.jsonl")])
    assert isinstance(gone.exception, BadInput)


def test_an_837_is_checked_as_the_same_claim_in_json_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDBILL_OBJECTS", str(tmp_path / "objects"))
    for kind, paths in t.files(tmp_path).items():
        load.load(ObjectStore(str(tmp_path / "objects")), kind, paths)
    version = "005010X222A1"
    isa = "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *260803*1200*^*00501*000000001*0*P*:~"
    (tmp_path / "claims.837").write_text(
        f"{isa}GS*HC*S*R*20260803*1200*1*X*{version}~ST*837*0001*{version}~HL*1**20*1~NM1*85*2*C*****XX*{t.NPI}~N4*T*IL*60601~"
        "HL*2*1*22*0~SBR*P*18*******CI~NM1*IL*1*DOE*ANN****MI*M1~DMG*D8*19800804*F~NM1*PR*2*PAYER*****PI*PAY09~"
        "CLM*c2*200***11:B:1*Y*A*Y*Y~HI*ABK:I10~"
        f"LX*1~SV1*HC:{t.CODES[0]}*100*UN*1***1~DTP*472*D8*20260803~LX*2~SV1*HC:{t.CODES[1]}*100*UN*1***1~DTP*472*D8*20260803~"
        "SE*9*0001~GE*1*1~IEA*1*000000001~"
    )
    record = t.claim(t.line(t.CODES[0]), t.line(t.CODES[1]), claim_id="c2")
    (tmp_path / "claims.jsonl").write_text(json.dumps(record))
    seen = [
        CliRunner().invoke(app, [str(tmp_path / name), "--as-of", str(t.AS_OF)]).stdout.splitlines()[0]
        for name in ("claims.837", "claims.jsonl")
    ]
    assert seen[0] == seen[1]
    assert '"NCCI-PTP"' in seen[0]
