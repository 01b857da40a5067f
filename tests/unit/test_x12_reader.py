"""The 835 reader on small synthetic files: every feature, every bad input a biller meets."""

from __future__ import annotations

import datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medbill.errors import BadInput, NotX12
from medbill.model.remittances import ERA_TABLES
from medbill.x12 import era, values

CLAIM = (
    "CLP*A1*1*100*70*10*12*ICN1*11*1~NM1*QC*1*TESTER*PAT*Q***MI*M1~DTM*232*20260102~"
    "SVC*HC:99213*100*70**1~DTM*472*20260102~CAS*CO*45*20~CAS*PR*1*10~"
)
HEADER = (
    "BPR*I*{payment}*C*ACH*CCP*01*999999992*DA*123456*1512345678**01*999988880*DA*98765*20260115~TRN*1*T1*1512345678~"
    "DTM*405*20260114~N1*PR*SYNTH PLAN~N3*1 TEST ST~REF*2U*PAYER7~N1*PE*SYNTH CLINIC*XX*1234567893~REF*TJ*123456789~LX*1~"
)


def isa(control: str = "000000001", e: str = "*", c: str = ":", t: str = "~", r: str = "^") -> str:
    parts = ["ISA", "00", " " * 10, "00", " " * 10, "ZZ", f"{'PAYER':15}", "ZZ", f"{'CLINIC':15}", "260115", "1200"]
    return e.join([*parts, r, "00501", control, "0", "T", c]) + t


def transaction(body: str, payment: str = "70", control: str = "0001", header: str = HEADER) -> str:
    inner = f"ST*835*{control}~{header.format(payment=payment)}{body}"
    return f"{inner}SE*{inner.count('~') + 1}*{control}~"


def interchange(*transactions: str, control: str = "000000001", version: str = "005010X221A1") -> str:
    group = f"GS*HP*PAYER*CLINIC*20260115*1200*1*X*{version}~"
    return f"{isa(control)}{group}{''.join(transactions)}GE*{len(transactions)}*1~IEA*1*{control}~"


def one(body: str = CLAIM, payment: str = "70") -> str:
    return interchange(transaction(body, payment))


def read(*files: str | bytes, **options: Any) -> era.EraTables:
    tables = era.read([f if isinstance(f, bytes) else f.encode() for f in files], **options)
    for name, schema in ERA_TABLES.items():
        assert tables.table(name).schema.equals(schema)
        tables.table(name).validate(full=True)
    return tables


def codes(tables: era.EraTables) -> list[str]:
    return tables.problems["code"].to_pylist()


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()


def test_every_column_of_a_full_claim() -> None:
    body = (
        "CLP*A1*22*-100*-70*-10*MC*ICN1*21*7*01*470~CAS*OA*23*0~NM1*QC*1*DOE*JANE*Q***MI*M1~NM1*IL*1*DOE*JOHN****MI*M2~"
        "NM1*74*1*ROE*JAN****C*M3~NM1*82*1*DOC*ANN****XX*1999999984~NM1*TT*2*NEXT PAYER*****PI*999~NM1*PR*2*RIGHT PAYER~"
        "MIA*0***5*MA01***************N10~MOA***MA18*N89~REF*EA*MRN1~REF*1L*GRP1~REF*BB*AUTH1~REF*F8*OLD1~"
        "DTM*232*20260101~DTM*233*20260103~DTM*050*20260110~DTM*036*20261231~AMT*AU*55.5~AMT*I*1.25~"
        "SVC*HC:99213:25:59*-100*-70*0450*-1*HC:99214:25*2~DTM*150*20260101~DTM*151*20260103~CAS*CO*45*-20~CAS*PR*1*-10**2*0*1.5~"
        "REF*6R*LINE1~REF*HPI*1888888885~AMT*B6*-80~LQ*HE*N362~LQ*RX*75~LQ*ZZ*NO~"
    )
    t = read(one(body, "-70"))
    assert codes(t) == []
    remittance = rows(t.remittances)[0]
    assert remittance == {
        "remittance_index": 0,
        "file_index": 0,
        "interchange_control": "000000001",
        "interchange_date": datetime.date(2026, 1, 15),
        "group_control": "1",
        "version": "005010X221A1",
        "transaction_control": "0001",
        "production_date": datetime.date(2026, 1, 14),
        "handling_code": "I",
        "payment_amount": D("-70.00"),
        "credit_debit": "C",
        "payment_method": "ACH",
        "payment_date": datetime.date(2026, 1, 15),
        "trace_number": "T1",
        "payer_trace_id": "1512345678",
        "payer_name": "SYNTH PLAN",
        "payer_id": "PAYER7",
        "payee_name": "SYNTH CLINIC",
        "payee_npi": "1234567893",
        "payee_tax_id": "123456789",
        "claim_count": 1,
        "service_line_count": 1,
        "adjustment_count": 4,
        "charge": D("-100.00"),
        "paid": D("-70.00"),
        "provider_adjustment_amount": D("0.00"),
        "balance_difference": D("0.00"),
        "balanced": True,
        "complete": True,
    }
    assert rows(t.claims)[0] == {
        "remittance_index": 0,
        "claim_index": 0,
        "patient_control_number": "A1",
        "claim_status": "22",
        "charge": D("-100.00"),
        "paid": D("-70.00"),
        "patient_responsibility": D("-10.00"),
        "filing_indicator": "MC",
        "payer_claim_control_number": "ICN1",
        "facility_type": "21",
        "frequency_code": "7",
        "drg_code": "470",
        "patient_last_name": "DOE",
        "patient_first_name": "JANE",
        "patient_middle_name": "Q",
        "patient_id": "M1",
        "insured_last_name": "DOE",
        "insured_first_name": "JOHN",
        "insured_id": "M2",
        "corrected_last_name": "ROE",
        "corrected_first_name": "JAN",
        "corrected_id": "M3",
        "rendering_npi": "1999999984",
        "crossover_payer_name": "NEXT PAYER",
        "crossover_payer_id": "999",
        "corrected_payer_name": "RIGHT PAYER",
        "medical_record_number": "MRN1",
        "group_number": "GRP1",
        "authorization_number": "AUTH1",
        "original_reference": "OLD1",
        "statement_from": datetime.date(2026, 1, 1),
        "statement_to": datetime.date(2026, 1, 3),
        "received_date": datetime.date(2026, 1, 10),
        "coverage_expires": datetime.date(2026, 12, 31),
        "coverage_amount": D("55.50"),
        "interest": D("1.25"),
        "remark_codes": ["MA01", "N10", "MA18", "N89"],
        "is_reversal": True,
        "line_count": 1,
        "adjustment_total": D("-30.00"),
        "balance_difference": D("0.00"),
        "balanced": True,
        "complete": True,
    }
    assert rows(t.service_lines)[0] == {
        "remittance_index": 0,
        "claim_index": 0,
        "line_index": 0,
        "line_number": 1,
        "procedure_qualifier": "HC",
        "procedure_code": "99213",
        "modifiers": ["25", "59"],
        "submitted_code": "99214",
        "submitted_modifiers": ["25"],
        "charge": D("-100.00"),
        "paid": D("-70.00"),
        "revenue_code": "0450",
        "paid_units": D("-1.000"),
        "submitted_units": D("2.000"),
        "service_from": datetime.date(2026, 1, 1),
        "service_to": datetime.date(2026, 1, 3),
        "line_control_number": "LINE1",
        "rendering_npi": "1888888885",
        "allowed_amount": D("-80.00"),
        "remark_codes": ["N362", "75"],
        "adjustment_total": D("-30.00"),
        "balance_difference": D("0.00"),
        "balanced": True,
    }
    assert [
        (a["line_index"], a["group_code"], a["reason_code"], a["amount"], a["quantity"]) for a in rows(t.adjustments)
    ] == [
        (None, "OA", "23", D("0.00"), None),
        (0, "CO", "45", D("-20.00"), None),
        (0, "PR", "1", D("-10.00"), None),
        (0, "PR", "2", D("0.00"), D("1.500")),
    ]


def test_absent_units_are_one_and_absent_text_is_null() -> None:
    t = read(
        one("CLP*A1*1*100*100~SVC*HC:99213*100*100~"),
    )
    line, claim = rows(t.service_lines)[0], rows(t.claims)[0]
    assert line["paid_units"] == 1 and line["submitted_units"] is None
    assert line["modifiers"] == [] == line["remark_codes"] == claim["remark_codes"]
    assert claim["patient_last_name"] is None and claim["statement_from"] is None


def test_rendering_provider_only_where_it_is_an_npi() -> None:
    body = "CLP*A1*1*0*0~NM1*82*1*DOC*ANN****XX*1999999984~CLP*A2*1*0*0~NM1*82*1*DOC*ANN****BS*34426~"
    assert read(one(body, "0")).claims["rendering_npi"].to_pylist() == ["1999999984", None]


@pytest.mark.parametrize(
    ("e", "c", "t"), [("|", ">", "'"), ("\x1d", "\x1f", "\x1c"), ("*", ":", "\n"), ("^", "\\", "\r")]
)
def test_delimiters_come_from_the_isa(e: str, c: str, t: str) -> None:
    plain = one(CLAIM.replace("99213", "99213:25"))
    text = plain.translate(str.maketrans({"*": e, ":": c, "~": t, "^": "!"}))
    assert read(text).claims.equals(read(plain).claims)
    assert read(text).service_lines["modifiers"].to_pylist() == [["25"]]
    assert codes(read(text)) == []


def test_delimiters_beyond_ascii() -> None:
    text = one().encode().replace(b"~", b"\xa7").replace(b"*", b"\xb6").replace(b":", b"\xff")
    assert read(text).claims.equals(read(one()).claims)
    assert codes(read(text)) == []


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", " ", "\n \t", "\x00"])
def test_anything_blank_may_follow_a_terminator(ending: str) -> None:
    t = read(one().replace("~", "~" + ending))
    assert t.claims.equals(read(one()).claims) and codes(t) == []


def test_lines_wrapped_inside_of_segments() -> None:
    text = one()
    wrapped = "\r\n".join(text[i : i + 80] for i in range(0, len(text), 80))
    t = read(wrapped)
    assert t.claims.equals(read(text).claims) and t.adjustments.equals(read(text).adjustments)


def test_blanks_at_the_end_of_elements_are_no_data() -> None:
    t = read(one(CLAIM.replace("CLP*A1*1*", "CLP*A1  *1 *").replace("*20~", "* 20 ~")))
    assert rows(t.claims)[0]["patient_control_number"] == "A1" and rows(t.claims)[0]["balanced"]
    assert codes(t) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_encodings(encoding: str) -> None:
    text = one(CLAIM.replace("TESTER", "MÜLLER"))
    t = read(text.encode(encoding))
    assert t.claims["patient_last_name"].to_pylist() == ["MÜLLER"] and codes(t) == []


def test_utf16_with_byte_order_mark_big_endian() -> None:
    assert read(b"\xfe\xff" + one().encode("utf-16-be")).claims.num_rows == 1


def test_each_value_is_utf8_or_else_latin1() -> None:
    text = (
        one(CLAIM + CLAIM.replace("TESTER", "@"), "140")
        .encode()
        .replace(b"TESTER", "MÜLLER".encode())
        .replace(b"@", b"MU\xd1OZ")
    )
    assert read(text).claims["patient_last_name"].to_pylist() == ["MÜLLER", "MUÑOZ"]


def test_text_before_between_and_after_interchanges() -> None:
    text = f"Subject: ISA file\nDear sir,\n{one()}\nnext one follows\n{one()}\x1a\nkind regards"
    t = read(text)
    assert t.claims.num_rows == 2
    assert codes(t) == ["TEXT_SKIPPED"] * 3
    assert set(t.problems["severity"].to_pylist()) == {"info"}


def test_malformed_isa_widths() -> None:
    text = one().replace("PAYER          ", "PAYER", 1)
    t = read(text)
    assert t.claims.num_rows == 1 and codes(t) == ["ISA_MALFORMED"]


def test_interchanges_with_different_delimiters_in_one_file() -> None:
    second = one().translate(str.maketrans({"*": "|", "~": "\n", ":": ">"}))
    for joined in (one() + second, second + one(), one() + "\r\n" + second + one()):
        t = read(joined)
        assert t.claims.num_rows == joined.count("ISA") and codes(t) == []


def test_several_transactions_payers_interchanges_and_files() -> None:
    other = HEADER.replace("SYNTH PLAN", "OTHER PLAN").replace("T1", "T2")
    two = interchange(transaction(CLAIM), transaction(CLAIM + CLAIM, "140", "0002", other))
    t = read(two + one(), one())
    assert codes(t) == []
    assert t.remittances["payer_name"].to_pylist() == ["SYNTH PLAN", "OTHER PLAN", "SYNTH PLAN", "SYNTH PLAN"]
    assert t.remittances["file_index"].to_pylist() == [0, 0, 0, 1]
    assert t.remittances["remittance_index"].to_pylist() == [0, 1, 2, 3]
    assert t.claims["remittance_index"].to_pylist() == [0, 1, 1, 2, 3]
    assert t.claims["claim_index"].to_pylist() == [0, 1, 2, 3, 4]
    assert t.service_lines["claim_index"].to_pylist() == [0, 1, 2, 3, 4]
    assert t.adjustments["line_index"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("version", ["005010X221", "005010X221A1", "5010", "004010X091A1"])
def test_versions(version: str) -> None:
    t = read(interchange(transaction(CLAIM), version=version))
    assert t.claims.num_rows == 1 and t.remittances["version"].to_pylist() == [version] and codes(t) == []


def test_cas_with_six_triplets_and_empty_ones_in_the_middle() -> None:
    cas = "CAS*CO*45*1**97*2********B4*3~CAS*PR*1*1**2*2**3*3**66*4**187*5**177*6~"
    t = read(one(f"CLP*A1*1*100*73~{cas}", "73"))
    assert codes(t) == []
    assert t.adjustments["reason_code"].to_pylist() == ["45", "97", "B4", "1", "2", "3", "66", "187", "177"]
    assert rows(t.claims)[0]["adjustment_total"] == 27


def test_provider_adjustments_with_six_pairs_and_several_segments() -> None:
    pairs = "*".join(
        f"{r}:REF{i}*{a}"
        for i, (r, a) in enumerate([("WO", 1), ("L6", -2.5), ("FB", 0), ("72", 3), ("IR", 4), ("CS", 5)])
    )
    plb = f"PLB*1234567893*20261231*{pairs}~PLB*1234567893*20261231*J1*2~"
    t = read(one(CLAIM + plb, "57.5"))
    assert codes(t) == []
    assert t.provider_adjustments["reason_code"].to_pylist() == ["WO", "L6", "FB", "72", "IR", "CS", "J1"]
    assert rows(t.provider_adjustments)[1] == {
        "remittance_index": 0,
        "provider_id": "1234567893",
        "fiscal_period_end": datetime.date(2026, 12, 31),
        "reason_code": "L6",
        "reference": "REF1",
        "amount": D("-2.50"),
    }
    assert rows(t.remittances)[0]["provider_adjustment_amount"] == D("12.50")


def test_procedures_of_other_kinds() -> None:
    body = "CLP*A1*1*4*4~SVC*N4:00093722410*1*1~SVC*AD:D0120*1*1~SVC*NU:0450*1*1~SVC*HC:J1885::LT:RT:::TEXT*1*1~"
    t = read(one(body, "4"))
    assert t.service_lines["procedure_qualifier"].to_pylist() == ["N4", "AD", "NU", "HC"]
    assert t.service_lines["procedure_code"].to_pylist() == ["00093722410", "D0120", "0450", "J1885"]
    assert t.service_lines["modifiers"].to_pylist() == [[], [], [], ["LT", "RT"]]


def test_composite_with_another_separator_than_declared() -> None:
    t = read(one(CLAIM.replace("HC:99213", "HC>99213>25")))
    assert rows(t.service_lines)[0]["procedure_code"] == "99213"
    assert rows(t.service_lines)[0]["modifiers"] == ["25"]
    assert codes(t) == ["COMPONENT_SEPARATOR"]


def test_claim_with_ten_thousand_lines() -> None:
    lines = "".join(f"SVC*HC:99213*2*1**1~CAS*CO*45*1~REF*6R*L{i}~" for i in range(10_000))
    body = f"CLP*A1*1*20000*10000~{lines}CLP*A2*1*0*0~"
    for chunk in (1 << 14, 1 << 22):
        t = read(one(body, "10000"), chunk_bytes=chunk)
        assert codes(t) == []
        assert rows(t.claims)[0]["line_count"] == 10_000
        assert t.service_lines["line_number"].to_pylist() == list(range(1, 10_001))
        assert t.service_lines["line_control_number"].to_pylist()[-1] == "L9999"


@pytest.mark.parametrize(
    ("text", "cents"),
    [("0", 0), ("0.00", 0), ("-0", 0), ("70", 7000), ("70.5", 7050), (".5", 50), ("-.06", -6), ("5.", 500), ("+5", 500), ("70.500", 7050),
     ("1234567.89", 123456789), ("-123456.78", -12345678), ("99999999999.99", 9999999999999), ("12345678", 1234567800), ("000000000001.10", 110)],
)  # fmt: skip
def test_amounts_are_exact(text: str, cents: int) -> None:
    t = read(one(f"CLP*A1*1*{text}*{text}~", text))
    claim = rows(t.claims)[0]
    assert claim["charge"] == claim["paid"] == rows(t.remittances)[0]["payment_amount"] == D(cents).scaleb(-2)
    assert codes(t) == []


@pytest.mark.parametrize("text", ["x", "1,000.00", "70.005", "1E2", "--5", "-", ".", "1.2.3", "5-", "9" * 17, "١٢"])
def test_malformed_amounts_are_null_and_a_problem(text: str) -> None:
    t = read(one(CLAIM.replace("*100*70*10*", f"*{text}*70*10*")))
    claim = rows(t.claims)[0]
    assert claim["charge"] is None and claim["balance_difference"] is None and not claim["balanced"]
    assert rows(t.remittances)[0]["balanced"] is False
    assert codes(t) == ["AMOUNT_UNREADABLE"]
    assert t.problems["claim_index"].to_pylist() == [0]
    assert text not in t.problems["message"].to_pylist()[0] or len(text) == 1


def test_missing_amounts_and_claim_id() -> None:
    t = read(one("CLP**1**0~SVC*HC:1**0~CAS*CO*45~CAS*CO**5~", "0"))
    assert sorted(codes(t)) == [
        "ADJUSTMENT_INCOMPLETE",
        "AMOUNT_MISSING",
        "AMOUNT_MISSING",
        "AMOUNT_MISSING",
        "CLAIM_ID_MISSING",
    ]
    assert t.adjustments.num_rows == 2


def test_malformed_quantities_and_dates() -> None:
    body = (
        CLAIM.replace("**1~DTM*472*20260102", "**x~DTM*472*20260231")
        .replace("DTM*232*20260102", "DTM*232*1")
        .replace("*45*20", "*45*20*q")
    )
    t = read(one(body).replace("20260115~TRN", "20269999~TRN"))
    assert sorted(codes(t)) == ["DATE_UNREADABLE"] * 3 + ["QUANTITY_UNREADABLE"] * 2
    assert set(t.problems["severity"].to_pylist()) == {"warning"}
    assert rows(t.service_lines)[0]["paid_units"] is None and rows(t.service_lines)[0]["service_from"] is None


@pytest.mark.parametrize(
    "day", ["19000228", "19391231", "19400101", "20000229", "20240229", "21091231", "21100101", "99991231"]
)
def test_dates_of_any_century(day: str) -> None:
    t = read(one(CLAIM.replace("DTM*232*20260102", f"DTM*232*{day}")))
    assert rows(t.claims)[0]["statement_from"] == datetime.date(int(day[:4]), int(day[4:6]), int(day[6:]))


@pytest.mark.parametrize(
    "day", ["20230229", "20260431", "20261301", "20260100", "00000101", "2026010", "202601020", "2026O102"]
)
def test_no_such_day(day: str) -> None:
    t = read(one(CLAIM.replace("DTM*232*20260102", f"DTM*232*{day}")))
    assert rows(t.claims)[0]["statement_from"] is None and codes(t) == ["DATE_UNREADABLE"]


def test_unbalanced_line_claim_and_transaction() -> None:
    t = read(one(CLAIM.replace("SVC*HC:99213*100*70", "SVC*HC:99213*100*60")))
    assert codes(t) == ["LINE_UNBALANCED"]
    assert rows(t.claims)[0]["balanced"] is False and rows(t.claims)[0]["balance_difference"] == 0
    assert rows(t.service_lines)[0]["balance_difference"] == 10
    t = read(one(CLAIM.replace("CLP*A1*1*100*70", "CLP*A1*1*110*70")))
    assert codes(t) == ["CLAIM_UNBALANCED"]
    assert rows(t.claims)[0]["balance_difference"] == 10
    assert t.summary()["unbalanced_claims"] == 1
    t = read(one(payment="75"))
    assert codes(t) == ["TRANSACTION_UNBALANCED"]
    remittance = rows(t.remittances)[0]
    assert remittance["balanced"] is False and remittance["balance_difference"] == 5 and remittance["complete"]
    assert set(t.problems["severity"].to_pylist()) == {"error"}


def test_unknown_carc_and_group_code_are_warnings() -> None:
    t = read(one(CLAIM.replace("*PR*1*", "*PR*9999*").replace("*CO*45*", "*XX*45*")))
    assert sorted(codes(t)) == ["UNKNOWN_CARC", "UNKNOWN_GROUP_CODE"]
    assert set(t.problems["severity"].to_pylist()) == {"warning"}
    assert t.adjustments["reason_code"].to_pylist() == ["45", "9999"]
    assert not any("9999" in m for m in t.problems["message"].to_pylist())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("SE*18*0001", "SE*99*0001", "SE_COUNT"),
        ("SE*18*0001", "SE*18*0002", "SE_CONTROL"),
        ("GE*1*1", "GE*2*1", "GE_COUNT"),
        ("GE*1*1", "GE*1*7", "GE_CONTROL"),
        ("IEA*1*", "IEA*2*", "IEA_COUNT"),
        ("IEA*1*000000001", "IEA*1*000000009", "IEA_CONTROL"),
        ("GE*1*1~", "", "GE_MISSING"),
        ("ST*835*0001~", "", "ST_MISSING"),
        ("ST*835*", "ST*8E5*", "ST_UNREADABLE"),
        ("BPR*I*", "XXX*I*", "BPR_MISSING"),
        ("BPR*I*70", "BPR*I*", "AMOUNT_MISSING"),
        ("N3*1 TEST ST", "ZZZ*1 TEST ST", "UNKNOWN_SEGMENT"),
    ],
)
def test_envelope_problems_lose_nothing(old: str, new: str, code: str) -> None:
    text = one()
    assert old in text
    t = read(text.replace(old, new))
    assert code in codes(t)
    assert t.claims.num_rows == 1 and t.adjustments.num_rows == 2


def test_segments_out_of_place() -> None:
    t = read(one("CAS*CO*45*1~SVC*HC:1*1*1~" + CLAIM))
    assert codes(t) == ["SEGMENT_OUT_OF_PLACE"] * 2
    assert t.claims.num_rows == 1 and t.adjustments.num_rows == 2


@pytest.mark.parametrize(("kind", "severity"), [("999", "info"), ("277", "info"), ("123", "warning")])
def test_other_transaction_sets_beside_the_835(kind: str, severity: str) -> None:
    other = f"ST*{kind}*0009~AK1*HC*1~CLP*NOT*1*1*1~SE*4*0009~"
    t = read(interchange(other, transaction(CLAIM)))
    assert t.claims.num_rows == 1 == t.remittances.num_rows
    assert codes(t) == ["TRANSACTION_SKIPPED"] and t.problems["severity"].to_pylist() == [severity]
    t = read(interchange(other))
    assert codes(t) == ["TRANSACTION_SKIPPED", "NO_REMITTANCE"] and t.remittances.num_rows == 0


def test_payment_without_claims_is_said() -> None:
    t = read(one("PLB*1234567893*20261231*WO:X*-70~"))
    assert codes(t) == ["NO_CLAIMS"] and rows(t.remittances)[0]["balanced"]


def test_truncation_at_every_byte() -> None:
    text = interchange(transaction(CLAIM + CLAIM.replace("*A1*", "*A2*"), "140")).encode()
    whole = read(text)
    for cut in range(len(text)):
        try:
            t = read(text[:cut])
        except NotX12:
            assert cut < 106
            continue
        last = text[:cut].rstrip(b"~")
        if last == text[:-1]:
            assert codes(t) in ([], ["TERMINATOR_MISSING"])
            continue
        assert "TRUNCATED" in codes(t)
        assert t.claims.num_rows == text[: text.rfind(b"~", 0, cut) + 1].count(b"CLP*")
        assert t.adjustments.num_rows == text[: text.rfind(b"~", 0, cut) + 1].count(b"CAS*")
        assert set(t.claims["patient_control_number"].to_pylist()) <= set(
            whole.claims["patient_control_number"].to_pylist()
        )


def test_a_segment_that_is_cut_off_is_no_data() -> None:
    text = one(CLAIM + "CLP*A2*1*100*100~")
    t = read(text[: text.index("CLP*A2*1*10") + 11])
    assert t.claims.num_rows == 1
    assert rows(t.claims)[0]["complete"] is False and rows(t.remittances)[0]["complete"] is False
    truncated = next(p for p in rows(t.problems) if p["code"] == "TRUNCATED")
    assert truncated["place"] == "file 1, transaction 1, claim 1, line 1, segment 17"
    assert truncated["severity"] == "error" and "cut off" in truncated["message"]


def test_truncated_interchange_before_a_whole_one() -> None:
    text = one()
    t = read(text[: text.index("SE*")] + text)
    assert t.claims.num_rows == 2 and "TRUNCATED" in codes(t)
    assert t.remittances["complete"].to_pylist() == [False, True]
    assert t.claims["complete"].to_pylist() == [False, True]


def test_last_terminator_missing() -> None:
    t = read(one()[:-1])
    assert codes(t) == ["TERMINATOR_MISSING"] and rows(t.remittances)[0]["complete"]


def test_header_of_a_second_interchange_cut_off() -> None:
    t = read(one() + isa("000000002")[:60])
    assert t.claims.num_rows == 1 and "TRUNCATED" in codes(t)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  \r\n",
        b"%PDF-1.4 obj",
        b"ISA*00*   ",
        one().encode()[:90],
        b"\xff\xfe",
        b"\x00" * 5000,
        "Überweisung".encode(),
    ],
)
def test_not_x12(data: bytes) -> None:
    with pytest.raises(NotX12) as caught:
        era.read([data])
    assert caught.value.code == "NOT_X12"


def test_one_bad_source_among_good_ones_is_not_hidden() -> None:
    with pytest.raises(NotX12):
        read(one(), "no x12")


def test_sums_too_large_for_the_schema_are_refused_not_wrong() -> None:
    body = "CLP*A*1*99999999999.99*0~" * 1001
    t = read(one(body, "0"))
    assert rows(t.remittances)[0]["charge"] == 1001 * D("99999999999.99")
    with pytest.raises(BadInput) as caught:
        read(one("CLP*A*1*99999999999.99*0~" * 100_001, "0"))
    assert caught.value.code == "AMOUNTS_TOO_LARGE"


def test_messages_and_places_hold_no_values() -> None:
    secret = "SECRET77"
    body = CLAIM.replace("A1", secret).replace("ICN1", secret).replace("TESTER", secret).replace("M1", secret)
    body = (
        body.replace("*CO*45*20", f"*{secret}*{secret}*{secret}")
        .replace("20260102", secret)
        .replace("**1~", f"**{secret}~")
    )
    t = read(one(body + f"{secret}*1~", secret)[:-20])
    assert t.problems.num_rows > 5
    for row in rows(t.problems):
        assert secret not in row["place"] + row["message"] + row["code"]


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_chunks_change_nothing(tmp_path: Path, chunk: int) -> None:
    odd = CLAIM.replace("*45*", "*bad*").replace("20260102", "x")
    text = "prose\n" + interchange(transaction(CLAIM + odd + "PLB*1*20261231*WO:1*5~"), transaction(odd)) + one()[:-40]
    whole = read(text)
    path = tmp_path / "a.835"
    path.write_text(text)
    parts = list(era.stream(path, chunk_bytes=chunk))
    for name in era.TABLES:
        assert pa.concat_tables([p.table(name) for p in parts]).equals(whole.table(name)), name


def test_streams_give_whole_claims_early(tmp_path: Path) -> None:
    path = tmp_path / "a.835"
    path.write_text(one(CLAIM * 200, "14000"))
    batches = list(era.stream(path, chunk_bytes=4096))
    assert len(batches) > 5
    assert all(b.service_lines.num_rows == b.claims.num_rows for b in batches)
    assert [b.remittances.num_rows for b in batches].index(1) >= len(batches) - 2


def test_interchange_date() -> None:
    assert era.interchange_date(one().encode()) == datetime.date(2026, 1, 15)
    assert era.interchange_date(b"\xff\xfe" + one().encode("utf-16-le")) == datetime.date(2026, 1, 15)
    assert era.interchange_date(b"prose " + one().encode()) == datetime.date(2026, 1, 15)
    assert era.interchange_date(one().replace("*260115*", "*991399*").encode()) is None
    assert era.interchange_date(b"no") is None


def test_payee_and_payer_by_other_identifiers() -> None:
    header = HEADER.replace("REF*2U*PAYER7~", "").replace("*XX*1234567893~REF*TJ*123456789", "*FI*987654321")
    row = rows(read(interchange(transaction(CLAIM, header=header))).remittances)[0]
    assert (row["payer_id"], row["payee_npi"], row["payee_tax_id"]) == ("1512345678", None, "987654321")
    header = HEADER.replace("N1*PR*SYNTH PLAN", "N1*PR*SYNTH PLAN*XV*55")
    assert rows(read(interchange(transaction(CLAIM, header=header))).remittances)[0]["payer_id"] == "55"


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 60])
def test_text_of_any_length(length: int) -> None:
    names = [("é" * length)[:length], "ABCDEFGHIJ" * 6, "Z" * length, ""]
    body = "".join(f"CLP*1*1*0*0~NM1*QC*1*{name}~" for name in names)
    assert read(one(body)).claims["patient_last_name"].to_pylist() == [name or None for name in names]


def test_procedures_longer_than_one_load() -> None:
    words = [
        "HC:99213:25:59:GT:76",
        "HC:99213",
        "HC:" + "9" * 14 + ":25",
        "HC:99213:25:59:GT:76:A DESCRIPTION OF FORTY SIGNS",
    ]
    odd = "HC;99213;25;59;GT;76"  # another separator than ISA16 declares, among longer ones
    lines = rows(read(one("CLP*1*1*0*0~" + "".join(f"SVC*{w}*0*0~" for w in [*words, odd, words[0]]))).service_lines)
    four = ["25", "59", "GT", "76"]
    assert [line["modifiers"] for line in lines] == [four, [], ["25"], four, four, four]
    assert [line["procedure_code"] for line in lines] == ["99213", "99213", "9" * 14, "99213", "99213", "99213"]


def test_dates_as_the_calendar_has_them() -> None:
    texts = [
        "19000101", "19000228", "19000229", "18991231", "19391231", "19691231", "19700101", "20000229",
        "20230229", "20240229", "20240230", "20241231", "20240001", "20240100", "20241301", "20240132",
        "20991231", "21000101", "21000229", "99991231", "00000101", "2024010", "202401011", "2024011x",
    ]  # fmt: skip
    found = read(one("".join(f"CLP*1*1*0*0~DTM*232*{text}~" for text in texts))).claims["statement_from"].to_pylist()
    assert found == [values.parse_date(text.encode()) for text in texts]


def test_numbers_as_they_are_read_one_by_one() -> None:
    texts = [
        "0", "00", "1", "12", "1234567", "12345678", "123456789", "1.5", ".5", "-.5", "5.", "-5.", "1.50",
        "1.5000", "1.505", "-1", "-12.5", "-12.34", "+1", "+12.34", "-", ".", "--", "1-2", "1..2", "1.2.3",
        "12345.67", "123456.7", "-1234.56", "-12345.67", "1234567.89", "-1234567.89", "99999999999",
        "100000000000", "1e3", "1,2", "0x1", "A", "::::::::", "//", "00000.10", "0.1", "0.01", "0.001",
        "1.10x", ".00", "12:34", "1/234.56",
    ]  # fmt: skip
    cents = [values.parse_one(text.encode(), 2) for text in texts]
    found = read(one("".join(f"CLP*1*1*{text}*0~" for text in texts))).claims["charge"].to_pylist()
    assert found == [None if c is None else D(c).scaleb(-2) for c in cents]
    thousandths = [values.parse_one(text.encode(), 3) for text in texts]
    lines = "".join(f"SVC*HC:1*0*0**{text}~" for text in texts)
    found = read(one("CLP*1*1*0*0~" + lines)).service_lines["paid_units"].to_pylist()
    assert found == [None if c is None else D(c).scaleb(-3) for c in thousandths]
