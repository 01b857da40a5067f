"""The remittances: valid, counted by an independent splitter, stable by day, with the flaws that were promised."""

import hashlib
import json
from datetime import date, timedelta
from decimal import Decimal

import pytest

from medbill.errors import BadInput
from medbill.sandbox import era
from medbill.sandbox.adjudication import payment_day
from medbill.sandbox.practice import PAYERS, RATES, generate
from medbill.sandbox.seed import seed_practice

TODAY = date(2026, 6, 25)


@pytest.fixture(scope="module")
def built():
    return era.build(generate(7, TODAY - timedelta(days=52)))


def segments(data: bytes) -> list[list[str]]:
    return [s.strip("\n").split("*") for s in data.decode().split("~") if s.strip()]


def cents(text: str) -> int:
    return int(Decimal(text) * 100) if text else 0


def test_each_file_holds_what_the_truth_says(built):
    files, truth = built
    by_name = {f.name: f for f in files}
    for entry in truth.files:
        file = by_name[entry["name"]]
        assert hashlib.sha256(file.data).hexdigest() == entry["sha256"]
        if not entry["counted"]:
            continue
        found = segments(file.data)

        def of(tag, found=found):
            return [s for s in found if s[0] == tag]

        triplets = [(s[1], s[i], s[i + 1]) for s in of("CAS") for i in range(2, len(s), 3)]
        assert entry["transactions"] == len(of("ST"))
        assert entry["claims"] == len(of("CLP"))
        assert entry["service_lines"] == len(of("SVC"))
        assert entry["adjustments"] == len(triplets)
        assert entry["charge"] == sum(cents(s[3]) for s in of("CLP"))
        assert entry["paid"] == sum(cents(s[4]) for s in of("CLP"))
        assert entry["payment"] == sum(cents(s[2]) for s in of("BPR"))
        assert entry["patient_responsibility"] == sum(cents(a) for g, _, a in triplets if g == "PR")
        assert entry["reversals"] == sum(s[2] == "22" for s in of("CLP"))


def test_envelopes_and_dates(built):
    files, _ = built
    for file in files:
        if file.kind in ("pdf", "truncated"):
            continue
        found = segments(file.data)
        assert file.data[:3] == b"ISA"
        assert len(file.data.split(b"~")[0]) == 105
        assert found[0][9] == f"{file.day:%y%m%d}"
        assert found[0][13] == found[-1][2]
        starts = [i for i, s in enumerate(found) if s[0] == "ST"]
        ends = [i for i, s in enumerate(found) if s[0] == "SE"]
        assert [int(found[e][1]) for e in ends] == [e - s + 1 for s, e in zip(starts, ends, strict=True)]
        assert [s[8] for s in found if s[0] == "GS"] == ["005010X221A1"]
    names = [f.name for f in files]
    assert len(names) == len(set(names))
    controls = [segments(f.data)[0][13] for f in files if f.kind not in ("pdf", "duplicate")]
    assert len(controls) == len(set(controls))


def test_files_cover_thirty_days_up_to_yesterday(built):
    files, truth = built
    days = {f.day for f in files}
    assert truth.last_day == (TODAY - timedelta(days=1)).isoformat()
    assert min(days) >= TODAY - timedelta(days=30)
    assert TODAY - timedelta(days=1) in days
    assert len(days) >= 25


def test_the_promised_mix_is_there(built):
    _, truth = built
    share = 1 - truth.first_pass_paid / truth.first_decisions
    assert 0.08 <= share <= 0.16
    assert len(truth.denied_by_reason) >= 12
    assert truth.overturned >= 2
    assert truth.underpayments
    kinds = {c["kind"] for c in truth.claims}
    assert {"paid", "denied", "reversal", "correction", "overturn", "secondary"} <= kinds
    assert {"WO", "L6"} <= {r["reason"] for r in truth.recoveries}


def test_underpayments_are_below_contract_to_the_cent(built):
    _, truth = built
    for row in truth.underpayments:
        assert row["expected"] == RATES[row["payer"]][row["code"]] * row["units"]
        assert row["variance"] == row["expected"] - row["allowed"] > 0


def test_payer_habits(built):
    files, _ = built
    for file in files:
        payer, codes = None, []
        for s in segments(file.data) if file.kind == "regular" else []:
            if s[0] == "REF" and s[1] == "2U":
                payer = s[2]
            if s[0] == "SVC" and len(s) > 6 and s[6]:
                codes.append((payer, s[1], s[6]))
            if payer == "MCD00":
                assert s[:2] != ["REF", "6R"]
            if payer == "UNW03":
                assert s[:2] != ["AMT", "B6"]
        assert all(p == "UNW03" and a == "HC:99213" and b == "HC:99214" for p, a, b in codes)
    assert any(b"*HC:99214~" in f.data for f in files)


def test_planted_inputs(built):
    files, truth = built
    by_name = {f.name: f for f in files}
    planted = {p["kind"]: p for p in truth.planted}
    assert set(planted) == {era.planted_kind(TODAY - timedelta(days=k)) for k in range(1, 29)} - {None}
    assert by_name[planted["pdf"]["file"]].data.startswith(b"%PDF")
    again = by_name[planted["duplicate"]["file"]]
    assert [f.name for f in files if f.data == again.data and f.name != again.name]
    assert (
        b"N1*PE*HARBOR POINT CLINIC*XX*" + era.OTHER_PRACTICE_NPI.encode()
        in by_name[planted["other_practice"]["file"]].data
    )
    assert b"IEA" not in by_name[planted["truncated"]["file"]].data
    assert era.UNKNOWN_CARC.encode() in by_name[planted["unknown_carc"]["file"]].data
    assert by_name[planted["two_payers"]["file"]].data.count(b"~\nST*835*") == 2
    own = {str(v.id) for v in generate(7, TODAY - timedelta(days=52)).visits}
    assert not own & {*planted["unknown_claim"]["claim_ids"], *planted["other_practice"]["claim_ids"]}


def test_a_later_window_adds_days_and_keeps_the_rest(built):
    files, _ = built
    later, _ = era.build(generate(7, TODAY - timedelta(days=49)))
    before = {f.name: f.data for f in files}
    after = {f.name: f.data for f in later}
    shared = before.keys() & after.keys()
    assert len(shared) > 40
    assert all(before[name] == after[name] for name in shared)
    assert all(f.name in before or f.day >= TODAY for f in later)


def test_payment_runs_fall_on_the_payers_days():
    for payer in PAYERS:
        assert payment_day(payer, TODAY).weekday() in PAYERS[payer].pays_on


@pytest.mark.parametrize(("cents_", "text"), [(0, "0"), (7150, "71.5"), (-1, "-0.01"), (10000, "100"), (1234, "12.34")])
def test_amounts_as_x12_writes_them(cents_, text):
    assert era.amount(cents_) == text


def test_seeding_again_changes_nothing(tmp_path):
    inbox, state = tmp_path / "inbox", tmp_path / "state"
    seed_practice(inbox, state, TODAY, claims=120)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    truth = seed_practice(inbox, state, TODAY, claims=120)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    assert before == after
    assert json.loads((state / "truth.json").read_text())["totals"] == truth.totals
    assert len(list((inbox / "lakeside").iterdir())) == truth.totals["files"]


def test_seeding_another_practice_over_it_is_refused(tmp_path):
    seed_practice(tmp_path / "i", tmp_path / "s", TODAY, claims=40)
    with pytest.raises(BadInput, match="another seed"):
        seed_practice(tmp_path / "i", tmp_path / "s", TODAY, seed=8, claims=40)
