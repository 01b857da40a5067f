"""What is found in one text, and what is left alone."""

from __future__ import annotations

import pytest

from medbill.deid.text.engine import Engine

ENGINE = Engine()


def found(text: str, record: dict[str, object] | None = None) -> dict[str, str]:
    spans = ENGINE.analyze([text], [record])[0]
    return {text[s.start : s.end]: s.type for s in spans}


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Called by Maria Garcia-Lopez today.", "Maria Garcia-Lopez", "PERSON"),
        ("Patient HERNANDEZ, MARIO R called.", "HERNANDEZ, MARIO R", "PERSON"),
        ("seen by dr. patel", "dr. patel", "PERSON"),
        ("signed, Anna K. Novak, RN", "Anna K. Novak", "PERSON"),
        ("like James T., who", "James T.", "PERSON"),
        ("wife Svetlana answered", "Svetlana", "PERSON"),
        ("lives at 1400 N Elm St Apt 5B now", "1400 N Elm St Apt 5B", "ADDRESS"),
        ("mail to P.O. Box 1182 please", "P.O. Box 1182", "ADDRESS"),
        ("from Tulsa, OK yesterday", "Tulsa, OK", "CITY"),
        ("in Cook County since", "Cook County", "COUNTY"),
        ("Springfield, IL 62704-1182", "62704-1182", "ZIP"),
        ("admitted to St. Mary's Hospital for", "St. Mary's Hospital", "FACILITY"),
        ("employed at Brady Ltd since", "Brady Ltd", "EMPLOYER"),
        ("DOB 03/14/1962.", "03/14/1962", "DATE"),
        ("on the 5th of March 2024", "5th of March 2024", "DATE"),
        ("seen Setpember 9, 2023", "Setpember 9, 2023", "DATE"),
        ("DOS 08/30 denied", "08/30", "DATE"),
        ("a 93-year-old woman", "93", "AGE"),
        ("a lady in her nineties", "nineties", "AGE"),
        ("ph (857) 555-9754 x12", "(857) 555-9754 x12", "PHONE"),
        ("fax 318-555-6252", "318-555-6252", "FAX"),
        ("mail ray.b@example.org", "ray.b@example.org", "EMAIL"),
        ("SSN 123-45-6789", "123-45-6789", "SSN"),
        ("MRN: YM288200", "YM288200", "MRN"),
        ("Subscriber ID W56908068-04", "W56908068-04", "MEMBER"),
        ("account # A-5328704", "A-5328704", "ACCOUNT"),
        ("claim 6859952890786 denied", "6859952890786", "CLAIM"),
        ("prior auth number PA-88231", "PA-88231", "AUTHORIZATION"),
        ("license W013962", "W013962", "LICENSE"),
        ("DEA BC1234563", "BC1234563", "DEA"),
        ("NPI 2901092815", "2901092815", "NPI"),
        ("VIN NS2RN8ZBBU7TNZ5Z5", "NS2RN8ZBBU7TNZ5Z5", "VIN"),
        ("plate HZK-0722", "HZK-0722", "PLATE"),
        ("implant serial PM388853", "PM388853", "DEVICE"),
        ("see https://portal.example.com/p/163726 now", "https://portal.example.com/p/163726", "URL"),
        ("from IP 68.4.188.13.", "68.4.188.13", "IP"),
        ("fingerprint template FP-99812", "FP-99812", "BIOMETRIC"),
        ("photo jones_face.jpg attached", "jones_face.jpg", "PHOTO"),
        ("call ref # 88-2231-A", "88-2231-A", "REFERENCE"),
    ],
)
def test_each_identifier_is_found_whole(text: str, value: str, kind: str) -> None:
    spans = found(text)
    assert any(value in span for span in spans), spans
    assert any(value in span and k == kind for span, k in spans.items()), spans


@pytest.mark.parametrize(
    "text",
    [
        "CPT 99285-25, 27447 and 71046; HCPCS J1885, G0439; ICD-10 E11.9, S72.001A, M17.11, Z79.4",
        "Denied CO-45, PR-1, OA-23 with remark N130, MA04 and M15.",
        "NDC 0002-8215-01 and NDC 00002821501 given",
        "POS 11, revenue code 0450, DRG 470, type of bill 0131",
        "$1,245.00 billed, 128.50 allowed, 80% paid",
        "BP 128/76, HR 72, EF 55%, A1c 7.2, pain 5/10, strength 5/5",
        "metformin 500 mg twice daily, lisinopril 10 mg, Losartan and Eliquis",
        "positive Chaddock reflex, Gleason score 7, Wells score, Crohn's disease, Wilson's disease, Marfan syndrome",
        "a 60-year-old male diagnosed in 2021 with stage III COPD",
        "evaluated at a community clinic; seen in the ER and then the ICU",
        "Aetna denied; Medicare is primary and Cigna secondary.",
        "CHA2DS2-VASc of 3, HAS-BLED 2, COVID-19 negative, HbA1c 8.1",
        "Will the claim be paid? It may be. Mark as corrected.",
    ],
)
def test_codes_amounts_vitals_drugs_and_eponyms_survive(text: str) -> None:
    assert found(text) == {}


def test_the_record_is_found_in_all_its_spellings() -> None:
    record = {
        "first_name": "Will",
        "last_name": "Oyelaran",
        "dob": "1962-03-14",
        "phone": "(857) 555-9754",
        "member_id": "XQP-100-200-300",
        "address": "12 Quince Hollow Apt 4",
    }
    text = (
        "OYELARAN, WILL born 14 Mar 1962; cell 857.555\n.9754; id XQP100200300, lives 12 quince hollow; Oyelarna called."
        " Will tolerates it. Will it be paid?"
    )
    spans = found(text, record)
    for value in ("OYELARAN, WILL", "14 Mar 1962", "857.555\n.9754", "XQP100200300", "12 quince hollow", "Oyelarna"):
        assert any(value in s for s in spans), (value, spans)
    assert sum(k == "PERSON" for k in spans.values()) >= 3
    assert ENGINE.analyze([text], [record])[0][-1].end < text.index("Will it be paid")


def test_a_record_without_fields_or_with_odd_ones_changes_nothing() -> None:
    text = "Spoke with billing about CPT 99213."
    for record in ({}, {"first": None, "last": ""}, {"cpt": "99213", "n": 5, "nested": {"a": [None, {}]}}):
        assert found(text, record) == {}
