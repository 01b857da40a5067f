"""837P and 837I as records of the scrubber."""

from __future__ import annotations

import pytest

from medbill.errors import BadInput, NotX12
from medbill.x12 import claim837

ISA = "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *260803*1200*^*00501*000000001*0*P*:~"
ABOVE = "HL*1**20*1~NM1*85*2*CLINIC*****XX*1992000004~N3*1 ST~N4*TOWN*IL*60601~"
SUBSCRIBER = "HL*2*1*22*0~SBR*P*18*******CI~NM1*IL*1*DOE*ANN****MI*M1~DMG*D8*19800804*F~NM1*PR*2*PAYER*****PI*LHP01~"
CLAIM = "CLM*C1*150***11:B:1*Y*A*Y*Y~REF*G1*AUTH9~HI*ABK:I10*ABF:E119~NM1*DN*1*REF*R****XX*1234567893~NM1*82*1*DOC*D****XX*1992000004~"
LINES = "LX*1~SV1*HC:99213:25:LT*100*UN*1***1:2~DTP*472*D8*20260803~LX*2~SV1*HC:J1885*50*UN*2.5***2~DTP*472*RD8*20260803-20260804~NM1*82*1*X*Y****XX*1992000012~"


def file(*loops: str, version: str = "005010X222A1") -> bytes:
    body = "".join(loops)
    return f"{ISA}GS*HC*S*R*20260803*1200*1*X*{version}~ST*837*0001*{version}~BHT*0019*00*1*20260803*1200*CH~{body}SE*9*0001~GE*1*1~IEA*1*000000001~".encode()  # fmt: skip


def test_a_professional_claim() -> None:
    (record,) = claim837.records(file(ABOVE, SUBSCRIBER, CLAIM, LINES))
    assert record == {
        "claim_id": "C1",
        "payer_id": "LHP01",
        "practice": "1992000004",
        "claim_type": "professional",
        "patient": {"id": "M1/19800804/ANN", "sex": "F", "age_years": 45},
        "place_of_service": "11",
        "state": "IL",
        "mac": None,
        "billing_npi": "1992000004",
        "diagnoses": ["I10", "E119"],
        "authorization": "AUTH9",
        "referring_npi": "1234567893",
        "lines": [
            {"line_item": "1", "code": "99213", "modifiers": ["25", "LT"], "charge": "100", "units": "1", "diagnoses": ["I10", "E119"], "date_of_service": "20260803", "rendering_npi": "1992000004"},
            {"line_item": "2", "code": "J1885", "modifiers": [], "charge": "50", "units": "2.5", "diagnoses": ["E119"], "date_of_service": "20260803", "rendering_npi": "1992000012"},
        ],
    }  # fmt: skip


def test_an_institutional_claim_has_its_statement_date() -> None:
    claim = "CLM*I1*500***13:A:1~DTP*434*RD8*20260801-20260802~HI*ABK:I10~LX*1~SV2*0450*HC:99283*500*UN*1~"
    (record,) = claim837.records(file(ABOVE, SUBSCRIBER, claim, version="005010X223A2"))
    assert record is not None
    assert record["claim_type"] == "institutional"
    (line,) = record["lines"]
    assert (line["code"], line["charge"], line["units"], line["date_of_service"]) == ("99283", "500", "1", "20260801")


def test_a_dependent_is_the_patient_and_the_next_subscriber_is_another() -> None:
    dependent = "HL*3*2*23*0~PAT*19~NM1*QC*1*DOE*TIM~DMG*D8*20180101*M~"
    second = SUBSCRIBER.replace("M1~", "M2~").replace("ANN", "EVE").replace("HL*2", "HL*4")
    found = list(claim837.records(file(ABOVE, SUBSCRIBER, dependent, CLAIM, LINES, second, CLAIM, LINES)))
    assert [r and r["patient"] for r in found] == [
        {"id": "M1/20180101/TIM", "sex": "M", "age_years": 8},
        {"id": "M2/19800804/EVE", "sex": "F", "age_years": 45},
    ]


def test_loops_of_other_payers_are_passed_over() -> None:
    other = "SBR*S*18*******MB~NM1*IL*1*DOE*ANN****MI*X9~NM1*PR*2*OTHER*****PI*ZZZ~NM1*82*1*N*N****XX*1999999984~REF*G1*NOT~"
    (record,) = claim837.records(file(ABOVE, SUBSCRIBER, CLAIM, other, LINES))
    assert record is not None
    assert (record["payer_id"], record["authorization"]) == ("LHP01", "AUTH9")
    assert record["lines"][0]["rendering_npi"] == "1992000004"


def test_other_delimiters_and_line_breaks() -> None:
    data = file(ABOVE, SUBSCRIBER, CLAIM, LINES)
    expected = list(claim837.records(data))
    assert list(claim837.records(data.replace(b"~", b"~\r\n"))) == expected
    assert list(claim837.records(data.replace(b"*", b"|").replace(b":", b">"))) == expected
    assert list(claim837.records(data.decode().encode("utf-16"))) == expected


def test_a_file_that_breaks_off_gives_what_is_whole() -> None:
    data = file(ABOVE, SUBSCRIBER, CLAIM, LINES, CLAIM.replace("C1", "C2"), LINES)
    found = list(claim837.records(data[: data.rindex(b"DTP*472*RD8")]))
    assert [r and r["claim_id"] for r in found] == ["C1", None]


@pytest.mark.parametrize(("data", "error"), [(b"", NotX12), (b"no x12", NotX12), (file(ABOVE), BadInput), (file(ABOVE, SUBSCRIBER, CLAIM, LINES, version="004010X098A1"), BadInput)])  # fmt: skip
def test_what_is_no_837_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(claim837.records(data))
