"""The SOAP reader and writer on anything: exact values back, hostile bytes refused with one typed error."""

from __future__ import annotations

import string
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medbill.errors import PlatformError
from medbill.platforms import pdf, soap, values
from medbill.platforms.values import Unreadable

NAMESPACE = "http://www.kareo.com/api/schemas/"
NAMES = st.text(string.ascii_letters, min_size=1, max_size=12)
# what XML keeps as it is: no control characters, and no white space at the ends
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), max_size=40).filter(
    lambda t: "\ufffe" not in t and "\uffff" not in t
)


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=8))
def test_what_is_written_is_read_in_the_same_order(given_members: list[tuple[str, str]]) -> None:
    sent = soap.envelope(NAMESPACE, "Op", [("Filter", given_members)])
    called = soap.body("x", sent)
    assert soap.name(called) == "Op" and soap.name(called[0]) == "request"
    read = [(soap.name(child), child.text or "") for child in called[0][0]]
    assert read == [(name, text) for name, text in given_members]
    assert soap.members(called[0][0]) == {name: text.strip() for name, text in given_members}


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: f"<a>{t}</a>".encode("utf-8", "replace")))
def test_any_bytes_are_an_envelope_or_a_typed_error(content: bytes) -> None:
    with pytest.raises(PlatformError) as error:
        soap.body("POST x", content)
    assert error.value.code == "PLATFORM_BAD_ANSWER" and error.value.__cause__ is None


@given(st.text(max_size=60))
def test_any_text_can_be_sent(text: str) -> None:
    soap.body("x", soap.envelope(NAMESPACE, "Op", [("Member", text)]))


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE x [<!ENTITY a "1234567890"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
    ],
)
def test_document_types_and_entities_are_refused(head: str) -> None:
    inside = "<ID>&a;</ID>" if "ENTITY a" in head else ""
    text = f'{head}<s:Envelope xmlns:s="{soap.ENVELOPE}"><s:Body><R>{inside}</R></s:Body></s:Envelope>'
    with pytest.raises(PlatformError):
        soap.body("x", text.encode())


def test_a_tree_without_end_is_refused() -> None:
    deep = f'<s:Envelope xmlns:s="{soap.ENVELOPE}"><s:Body>' + "<a>" * 5000 + "</a>" * 5000 + "</s:Body></s:Envelope>"
    with pytest.raises(PlatformError):
        soap.body("x", deep.encode())


@given(st.decimals(min_value=-999_999_999, max_value=999_999_999, places=2, allow_nan=False))
def test_money_is_exact_however_it_is_written(amount: Decimal) -> None:
    for written in (str(amount), f"${amount:,.2f}", f"{amount}00", amount):
        assert values.money(written, "X") == amount


@given(st.text(max_size=20))
def test_no_text_is_money_or_a_day_by_accident(text: str) -> None:
    for read in (values.money, lambda t, r: values.day(t, r, ("%m/%d/%Y",))):
        try:
            found = read(text, "X")
        except Unreadable as error:
            assert error.reason == "X"
        else:
            assert found is None or isinstance(found, Decimal | date)


@pytest.mark.parametrize("text", ["10.005", "NaN", "Infinity", "1e400", "--1", "12 dollars"])
def test_what_is_no_amount_of_cents_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        values.money(text, "X")


@given(st.text(max_size=400))
def test_any_text_becomes_a_document_and_the_same_one(text: str) -> None:
    made = pdf.document("Post payment", text)
    assert made == pdf.document("Post payment", text)
    assert made.startswith(b"%PDF-1.4") and made.endswith(b"%%EOF\n")
    start = int(made.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    assert made[start : start + 4] == b"xref"


def test_a_long_text_has_several_pages() -> None:
    assert b"/Count 3" in pdf.document("t", "line\n" * 150)
