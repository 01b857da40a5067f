"""The egress guard: what stops a payload, what does not, and what a refusal says."""

from __future__ import annotations

import base64
import gzip
import json
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from medbill.deid.egress import EgressRefused
from medbill.deid.text.engine import Engine
from medbill.deid.vault import check_character
from medbill.errors import MedbillError

_TESTS = Path(__file__).parents[1]
cases = SimpleNamespace(**runpy.run_path(str(_TESTS / "egress_cases.py")))
notes = SimpleNamespace(**runpy.run_path(str(_TESTS / "deidtext_notes.py")))
BODY = "7KQ2M9XVB4T0HWZC"
TOKEN = f"[CLAIM_{BODY}{check_character(BODY)}]"

DENIAL = {
    "claim_token": TOKEN,
    "claim_key": "3f9a00c41b7e6d52-12",
    "remittance_key": "0e8d7731c2b94a65",
    "payer": {"name": "Blue Cross Blue Shield of Texas", "id": "84980"},
    "npi": "1992000004",
    "payment_date": "2025-03-14",
    "service_year": 2025,
    "lines": [
        {"procedure": "99213", "modifiers": ["25", "GA"], "charge_cents": 1234500, "paid": "1234.56", "carc": "CO-45"},
        {"procedure": "J1885", "ndc": "0002-1433-80", "units": 2, "charge": "$1,204.00", "rarc": ["N130", "MA130"]},
    ],
    "diagnoses": ["E11.65", "S72.001A", "Z79.4"],
    "content_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "policy": "LCD L33787; claims manual chapter 12 section 30.6.1; 45 CFR 164.514(b)(2)",
}
PROMPT = f"""You draft appeals. Claim {TOKEN} was denied with CO-197, remark N130, paid 2025-03-14 by Humana.
CPT 99285-25, HCPCS J1885 x 3, ICD-10 E11.65 and M54.50, NDC 00002-1433-80, revenue code 0450, DRG 470, POS 23.
Billed $12,345.67, allowed 8,000.00, BP 120/80, Foley catheter, Parkinson's disease, metformin 500 mg. Will he pay? May be.
Seen at [FACILITY_{BODY}{check_character(BODY)}] on [DATE_{BODY}{check_character(BODY)}]-2024 for 12-14 minutes."""


@pytest.fixture(scope="module")
def known() -> list[tuple[str, str]]:
    """A vault with values that coincide with codes and words, beside the ordinary ones."""
    coincidences = [
        ("PERSON", name)
        for name in ("Will", "May", "Foley", "Parkinson", "Bill", "Humana", "Cross", "Blue", "Lee", "Price")
    ] + [
        ("CLAIM", "99213"),
        ("CLAIM", "1234"),
        ("ZIP", "99285"),
        ("MRN", "470"),
        ("DATE", "2025-03-14"),
        ("NPI", "1992000004"),
    ]
    return [*cases.KNOWN, *coincidences]


@pytest.mark.parametrize(
    "payload", [DENIAL, json.dumps(DENIAL), json.dumps(DENIAL, indent=2).encode(), PROMPT, "", None, [], 12]
)
def test_what_may_leave_passes(payload: object, known: list[tuple[str, str]]) -> None:
    guard, rows = cases.guard(known)
    guard.check(payload, destination="model:gpt", purpose="operations")
    assert rows.rows == []


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ("SSN 219-09-9999", "SSN"),
        ("ssn: 219099999", "SSN"),
        ("social security number ***-**-1234", "SSN"),
        ({"patientSsn": "219099999"}, "SSN"),
        ("call (512) 555-0188", "PHONE"),
        ("+1 512-555-0188 x12", "PHONE"),
        ("512.555.0188", "PHONE"),
        ("a.b+c@mail.example.org", "EMAIL"),
        ("MRN: 4482137", "MRN"),
        ({"medical_record_number": "A-4482137"}, "MRN"),
        ("1EG4-TE5-MK72", "MEMBER"),
        ("1eg4te5mk72", "MEMBER"),
        ("Member ID# XQ4482137", "MEMBER"),
        ("card 4111 1111 1111 1111", "CARD"),
        ("account number 88213344", "ACCOUNT"),
        ("DOB 3/14/1961", "BIRTH_OR_DEATH_DATE"),
        ({"birthDate": "1961-03-14"}, "BIRTH_OR_DEATH_DATE"),
        ("born on March 14, 1961", "BIRTH_OR_DEATH_DATE"),
        ("from 10.20.30.41", "IP"),
        ("%53SN%20219%2D09%2D9999", "SSN"),
        ("&#40;512&#41; 555-0188", "PHONE"),
        (base64.b64encode(b"Her DOB 3/14/1961 was given.").decode(), "BIRTH_OR_DEATH_DATE"),
    ],
)
def test_certain_identifiers_are_refused(payload: object, kind: str) -> None:
    guard, rows = cases.guard([])
    with pytest.raises(EgressRefused) as refused:
        guard.check(payload, destination="lineage", purpose="operations")
    assert refused.value.code == "EGRESS_PATTERN"
    assert kind in refused.value.findings.patterns
    assert [outcome for _, outcome in rows.rows] == ["failure"]


def test_a_refusal_says_kinds_and_counts_and_nothing_else() -> None:
    guard, rows = cases.guard()
    with pytest.raises(MedbillError) as refused:
        guard.check("Ngozi Okonkwo, Zebrowski, 0048213, a@b.org", destination="platform:drchrono", purpose="payment")
    event, outcome = rows.rows[0]
    assert (event.kind, event.resource, event.purpose, event.practice, outcome) == (
        "egress.refuse", "platform:drchrono", "payment", "lakeside", "failure",
    )  # fmt: skip
    assert event.details == {
        "code": "EGRESS_KNOWN_VALUE", "kinds": ["EMAIL", "MRN", "PERSON"], "counts": [1, 1, 2], "damaged_tokens": 0,
    }  # fmt: skip
    said = (str(refused.value) + repr(refused.value) + repr(refused.value.findings) + repr(event)).lower()
    assert not any(value in said for value in ("okonkwo", "ngozi", "zebrowski", "0048213", "a@b.org"))


@pytest.mark.parametrize(
    "text",
    ["Okonkwo Ngozi", "NGOZI OKONKWO", "okonkwo,ngozi", "Ngozi\nOkonkwo", "ngozi.okonkwo", "NgoziOkonkwo", "Ngozi A. Okonkwo",
     "Dr. Ngozi  Okonkwo's", "XQK8821407", "XQK 88214 07", "xqk.88214.07", "mrn0048213", "4417 LARKSPUR TERRACE APT 12",
     "Mr. Zebrowski", "ZEBROW-\nSKI", "Jose Nunez Alvarado", "Will May", "MAY, WILL", "5550142-8836"],
)  # fmt: skip
def test_spellings_of_known_values_are_found(text: str) -> None:
    guard, _ = cases.guard()
    assert guard.inspect(f"remark: {text} .").known


def test_a_name_in_two_fields_is_found() -> None:
    guard, _ = cases.guard([("PERSON", "Will"), ("PERSON", "May")])
    assert guard.inspect({"first_name": "Will", "last_name": "May"}).known
    assert guard.inspect([{"a": "x"}, {"person": ["May", "Will"]}]).known
    assert not guard.inspect("He will do it in May.").known
    assert not guard.inspect({"remark": "Will call in", "month": "May"}).known


def test_a_town_counts_with_its_zip() -> None:
    guard, _ = cases.guard([("CITY", "Reading"), ("ZIP", "19601")])
    assert guard.inspect("Reading, PA 19601").known
    assert not guard.inspect("Reading the chart; code 19601").known


def test_public_texts_are_let_through_and_nothing_more() -> None:
    values = [("PERSON", "Harvard"), ("PERSON", "Pilgrim"), ("PERSON", "Zebrowski")]
    guard, _ = cases.guard(values, public=["Zebrowski Health", "Harvard Pilgrim Health Care", "1-800-555-0142"])
    assert guard.inspect("Zebrowski Health, HARVARD PILGRIM HEALTH CARE, 1-800-555-0142").code is None
    assert guard.inspect("Zebrowski called").code == "EGRESS_KNOWN_VALUE"
    assert guard.inspect("Zebrowski Health, Zebrowski").code == "EGRESS_KNOWN_VALUE"
    assert guard.inspect("1-800-555-0143").code == "EGRESS_PATTERN"


@pytest.mark.parametrize(
    "text",
    [TOKEN.lower(), TOKEN[:-2] + "]", TOKEN[:-1], TOKEN[1:-1], TOKEN.replace(BODY[3], "3", 1), TOKEN.replace("_", " "), f"[claim_{BODY}{check_character(BODY)}]"],
)  # fmt: skip
def test_a_damaged_token_is_refused(text: str) -> None:
    guard, _ = cases.guard()
    with pytest.raises(EgressRefused) as refused:
        guard.check(f"Pay {text} now", destination="report", purpose="operations")
    assert refused.value.code == "EGRESS_TOKEN"


@pytest.mark.parametrize(
    "text",
    [TOKEN, f"{TOKEN}{TOKEN}", r"[\CLAIM_7KQ2M9XVB4T0HWZC1]", f"%5B{TOKEN[1:-1]}%5D", "[see_attached]", "[CLAIM_ID]"],
)
def test_tokens_and_what_was_escaped_pass(text: str) -> None:
    guard, _ = cases.guard()
    assert guard.inspect(f"Pay {text} now").code is None
    assert guard.inspect(json.dumps({"remark": f"Pay {text} now"})).code is None


def _encoded(text: str, times: int) -> str:
    for _ in range(times):
        text = base64.b64encode(text.encode()).decode()
    return text


@pytest.mark.parametrize(
    "payload",
    [
        random.Random(1).randbytes(4000),
        b"%PDF-1.7\n\xff\xfe\xfd" + bytes(200),
        b"\x89PNG\r\n\x1a\n" + random.Random(2).randbytes(100),
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + random.Random(2).randbytes(100)).decode(),
        base64.b64encode(random.Random(3).randbytes(4000)).decode(),
        base64.b64encode(gzip.compress(b"a" * 10_000_000)).decode(),
        "see " + _encoded("nothing to see here at all", 8),
        "%25252525252541",
        "[" * 500 + "]" * 500,
        object(),
        "a" * 9_000_000,
    ],
    ids=["bytes", "pdf", "png", "png in text", "blob", "bomb", "nested", "percent", "deep", "object", "long"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(payload: object) -> None:
    guard, rows = cases.guard()
    with pytest.raises(EgressRefused) as refused:
        guard.check(payload, destination="model:gpt", purpose="operations")
    assert refused.value.code == "EGRESS_TOO_COMPLEX"
    assert len(rows.rows) == 1


def test_compressed_text_is_read() -> None:
    guard, _ = cases.guard()
    packed = base64.b64encode(gzip.compress(b"a note about Zebrowski and his claim")).decode()
    assert guard.inspect(f"see {packed}").known


def test_values_in_names_of_fields_and_behind_a_second_field_of_the_same_name() -> None:
    guard, _ = cases.guard()
    assert guard.inspect({"Zebrowski": 1}).known
    assert guard.inspect('{"a": "Zebrowski", "a": "x"}').known
    assert guard.inspect(json.dumps({"inner": json.dumps({"x": json.dumps(["Zebrowski"])})})).known


def test_a_long_payload_is_searched_to_its_end_and_across_its_parts() -> None:
    guard, _ = cases.guard()
    for at in (59_990, 119_000, 180_000):
        text = "denied claim " * 16_000
        assert guard.inspect(text[:at] + " Ngozi Okonkwo " + text[at:]).known
    assert guard.inspect("denied claim " * 16_000).code is None


def test_very_long_values_are_found() -> None:
    value = "https://portal.example.com/" + "-".join(f"part{n}" for n in range(60))
    guard, _ = cases.guard([("URL", value)])
    assert guard.inspect(f"see {value} there").known


@pytest.mark.parametrize("name", ["", "to John Smith", "x" * 200, "a\nb"])
def test_destinations_are_names(name: str) -> None:
    guard, _ = cases.guard()
    with pytest.raises(ValueError, match="names"):
        guard.check("x", destination=name, purpose="operations")


def test_deidentified_notes_pass() -> None:
    rows = notes.notes(300, seed=3_000)
    done = Engine().deidentify([row["text"] for row in rows], [row["record"] for row in rows])
    values = {
        (span.type, row["text"][span.start : span.end])
        for row, one in zip(rows, done, strict=True)
        for span in one.spans
    }
    values |= {("PERSON", row["record"][name]) for row in rows for name in ("first_name", "last_name")}
    guard, _ = cases.guard(sorted(values))
    refused = sum(guard.inspect(one.text).code is not None for one in done)
    assert refused <= len(done) // 100, "what is refused should be what the de-identifier left"
    raw = sum(
        guard.inspect(row["text"]).code is None for row, one in zip(rows, done, strict=True) if len(one.spans) > 1
    )
    assert raw <= 3


def test_numbers_in_fields_of_amounts_are_no_ids() -> None:
    guard, _ = cases.guard([("MRN", "482137")])
    assert guard.inspect({"charge_cents": 482137, "totalCharge": 482137, "paid": 482137.0}).code is None
    assert guard.inspect({"paid": "482137"}).known, "a text is no number"
    assert guard.inspect({"patient": 482137}).known
