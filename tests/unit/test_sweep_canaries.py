"""What is searched for: the ways to write a value, what is too common alone, and a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medbill.errors import BadInput
from medbill.sandbox import canaries as sandbox
from medbill.sweep.canaries import Canary, needles, read
from medbill.sweep.search import Searcher


def hits(kind: str, value: str, text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [hit.variant for hit in Searcher([Canary(1, kind, value)]).find(data)]


@pytest.mark.parametrize(
    "text",
    [
        "1931-02-07",
        "02/07/1931",
        "19310207",
        "February 7, 1931",
        "7 Feb 1931",
        "07-FEB-1931",
        "07.02.1931",
        "Feb 07 1931",
    ],
)
def test_a_date_in_every_usual_form(text: str) -> None:
    assert hits("birth_date", "1931-02-07", f"DOB {text}.")


@pytest.mark.parametrize("text", ["17 Feb 1931", "1931-02-071", "219310207", "1931", "02/1931", "1931-02-08"])
def test_another_date_is_no_hit(text: str) -> None:
    assert hits("birth_date", "1931-02-07", f"on {text} it") == []


def test_a_name_in_both_orders() -> None:
    assert hits("name", "Zorvath Quillimane", "Quillimane, Zorvath J.") == ["order"]
    assert hits("name", "Zorvath Quillimane", "ZORVATH_QUILLIMANE") == ["split"]
    assert hits("name", "Zorvath Quillimane", "Zorvath Quillimane") == ["plain"]


def test_a_telephone_with_its_country_code() -> None:
    assert hits("phone", "(617) 555-0134", "+16175550134")
    assert hits("phone", "(617) 555-0134", "617.555.0134")


def test_a_number_within_another_is_no_hit() -> None:
    for text in ("9412556789", "4125567890", "0.412556789012"):
        assert hits("ssn", "412-55-6789", text) == []
    assert hits("ssn", "412-55-6789", "x412556789y")


def test_figures_of_many_cells_are_no_number() -> None:
    assert hits("ssn", "412-55-6789", "4\n1\n2\n5\n5\n6\n7\n8\n9\n") == []
    assert hits("ssn", "412-55-6789", "4 1 2 - 5 5 - 6 7 8 9") == ["split"]


def test_what_is_common_counts_after_its_label_alone() -> None:
    assert hits("zip", "60671", "took 60671 ms") == []
    assert hits("zip", "60671", '{"zip_code": "60671"}') == ["plain"]
    assert hits("zip", "60671", "Oak Park, IL 60671") == ["plain"]
    assert hits("service_date", "2026-11-03", "2026-11-03T10:00:00Z INFO started") == []
    assert hits("service_date", "2026-11-03", "DOS: 11/03/2026") == ["date form"]
    assert hits("age", "93", "aged 93 years") == ["plain"] and hits("age", "93", "93 rows") == []


def test_what_is_too_short_is_said_to_be_left_out() -> None:
    found, excluded = needles(
        [Canary(1, "last_name", "Ng"), Canary(2, "mrn", "4711"), Canary(3, "last_name", "Quillimane")]
    )
    assert [n.canary.ordinal for n in found] == [3]
    assert [(e.canary.ordinal, e.reason) for e in excluded] == [(n, "too short to be told from chance") for n in (1, 2)]


def test_the_offset_is_where_it_lies() -> None:
    (hit,) = Searcher([Canary(7, "email", "zorv@canary.invalid")]).find(b"\x00" * 1000 + b"<zorv@canary.invalid>")
    assert (hit.offset, hit.canary, hit.kind) == (1001, 7, "email")


@pytest.mark.parametrize(
    "text", ["", "\n\n", "no json\n", '{"kind": "ssn"}\n', '{"kind": "SSN!", "value": "1"}\n', "[1]\n"]
)
def test_a_file_that_is_none_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "canaries.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert "SSN!" not in str(refused.value) and "no json" not in str(refused.value)
    with pytest.raises(BadInput):
        read(tmp_path / "nowhere")


def test_ordinals_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "canaries.jsonl"
    path.write_text("\n".join(["", *(json.dumps({"kind": "mrn", "value": v}) for v in ("AB12345678", "AB12345679"))]))
    assert [c.ordinal for c in read(path)] == [2, 3]


#: 45 CFR 164.514(b)(2)(i), its letters -> the kinds that the sandbox plants for each.
LETTERS = {
    "A": {"first_name", "last_name", "relative"},
    "B": {"street", "city", "zip"},
    "C": {"birth_date"},
    "D": {"phone"},
    "E": {"fax"},
    "F": {"email"},
    "G": {"ssn"},
    "H": {"mrn", "patient_id"},
    "I": {"member_id", "policy", "group"},
    "J": {"account"},
    "K": {"licence", "dea"},
    "L": {"vin", "plate"},
    "M": {"device"},
    "N": {"url"},
    "O": {"ip_address"},
    "P": {"biometric"},
    "Q": {"photo"},
    "R": {"employee", "authorization"},
}


def test_a_planted_person_has_every_kind_and_nobody_shares_a_value() -> None:
    people = [sandbox.person(5, n) for n in range(1, 8)]
    assert set().union(*LETTERS.values()) == people[0].values.keys()
    values = [value for one in people for kind, value in one.values.items() if kind != "zip"]
    assert len(set(values)) == len(values)
    assert people[2] == sandbox.person(5, 3) and people[2] != sandbox.person(6, 3)
    assert needles([Canary(1, kind, value) for kind, value in people[0].values.items()])[1] == []
