"""Generated 835 files: whatever the delimiters, line ends, encoding and chunks, the tables say what was put in.

And whatever the bytes: nothing but NotX12 is raised, and no whole claim is lost in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medbill.errors import BadInput, NotX12
from medbill.x12 import era

SLOW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

money = st.integers(-(10**9), 10**9)
name = st.text(st.characters(codec="utf-8", categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=12)
identifier = st.from_regex(r"[A-Z0-9]{1,20}", fullmatch=True)


def amount(cents: int, spelling: int = 0) -> str:
    """A spelling of the amount: as X12 suppresses zeros, with two decimals, or with more zeros."""
    text = f"{abs(cents) // 100}.{abs(cents) % 100:02d}"
    if spelling == 0:
        text = text.rstrip("0").rstrip(".")
        text = text.removeprefix("0") if text.startswith("0.") else text
    elif spelling == 2:
        text += "000"
    return ("-" if cents < 0 else "") + text


@dataclass
class Line:
    code: str
    modifiers: list[str]
    charge: int
    triplets: list[tuple[str, str, int]]


@dataclass
class Claim:
    id: str
    status: str
    last_name: str
    triplets: list[tuple[str, str, int]]
    lines: list[Line] = field(default_factory=list)


@dataclass
class File:
    transactions: list[tuple[list[Claim], list[tuple[str, int]]]]


triplets = st.lists(
    st.tuples(st.sampled_from(["CO", "PR", "OA"]), st.sampled_from(["45", "1", "2", "97", "B4", "253"]), money),
    max_size=8,
)
lines = st.builds(
    Line,
    st.from_regex(r"[A-Z0-9]{5}", fullmatch=True),
    st.lists(st.from_regex(r"[A-Z0-9]{2}", fullmatch=True), max_size=4),
    money,
    triplets,
)
claims = st.builds(
    Claim, identifier, st.sampled_from(["1", "2", "4", "22"]), name, triplets, st.lists(lines, max_size=4)
)
files = st.builds(
    File,
    st.lists(
        st.tuples(st.lists(claims, max_size=5), st.lists(st.tuples(st.sampled_from(["WO", "L6"]), money), max_size=7)),
        min_size=1,
        max_size=3,
    ),
)
styles = st.fixed_dictionaries(
    {
        "e": st.sampled_from("*|^\x1d"),
        "c": st.sampled_from(":>\\\x1f"),
        "t": st.sampled_from("~'\n\x1c"),
        "ending": st.sampled_from(["", "\n", "\r\n", "  ", "\n\n"]),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
        "spelling": st.integers(0, 2),
        "per_cas": st.integers(1, 6),
        "interchanges": st.booleans(),
    }
)


def _cas(given: list[tuple[str, str, int]], style: dict[str, Any]) -> list[list[str]]:
    segments: list[list[str]] = []
    for group, reason, cents in given:
        last = segments[-1] if segments else None
        if last is None or last[1] != group or len(last) >= 2 + 3 * style["per_cas"]:
            last = ["CAS", group]
            segments.append(last)
        last += [reason, amount(cents, style["spelling"]), ""]
    return [s[:-1] for s in segments]


def paid(claim: Claim) -> int:
    return charge(claim) - sum(t[2] for t in claim.triplets) - sum(t[2] for line in claim.lines for t in line.triplets)


def charge(claim: Claim) -> int:
    return sum(line.charge for line in claim.lines)


def write(file: File, style: dict[str, Any]) -> bytes:
    e, c, t = style["e"], style["c"], style["t"]

    def spell(cents: int) -> str:
        return amount(cents, style["spelling"])

    out: list[str] = []

    def emit(*elements: str) -> None:
        out.append(e.join(elements) + t + style["ending"])

    groups = [[x] for x in file.transactions] if style["interchanges"] else [file.transactions]
    for number, group in enumerate(groups, 1):
        control = f"{number:09d}"
        emit(
            "ISA",
            "00",
            " " * 10,
            "00",
            " " * 10,
            "ZZ",
            " " * 15,
            "ZZ",
            "X" * 15,
            "260115",
            "1200",
            "!",
            "00501",
            control,
            "0",
            "T",
            c,
        )
        emit("GS", "HP", "A", "B", "20260115", "1200", str(number), "X", "005010X221A1")
        for ordinal, (own, plb) in enumerate(group, 1):
            before = len(out)
            payment = sum(map(paid, own)) - sum(a for _, a in plb)
            emit("ST", "835", f"{ordinal:04d}")
            emit("BPR", "I", spell(payment), "C", "ACH", *[""] * 11, "20260115")
            emit("TRN", "1", f"T{ordinal}", "1512345678")
            for claim in own:
                emit("LX", "1")
                emit("CLP", claim.id, claim.status, spell(charge(claim)), spell(paid(claim)))
                for segment in _cas(claim.triplets, style):
                    emit(*segment)
                emit("NM1", "QC", "1", claim.last_name)
                for line in claim.lines:
                    own_paid = line.charge - sum(x[2] for x in line.triplets)
                    emit("SVC", c.join(["HC", line.code, *line.modifiers]), spell(line.charge), spell(own_paid))
                    for segment in _cas(line.triplets, style):
                        emit(*segment)
            for i in range(0, len(plb), 6):
                emit(
                    "PLB",
                    "1",
                    "20261231",
                    *[x for reason, cents in plb[i : i + 6] for x in (f"{reason}{c}R", spell(cents))],
                )
            emit("SE", str(len(out) - before + 1), f"{ordinal:04d}")
        emit("GE", str(len(group)), str(number))
        emit("IEA", "1", control)
    return "".join(out).encode(style["encoding"])


def _dollars(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


@SLOW
@given(files, styles, st.integers(1, 400))
def test_tables_say_what_was_written(file: File, style: dict[str, Any], chunk: int) -> None:
    data = write(file, style)
    tables = era.read([data])
    own = [claim for claims_, _ in file.transactions for claim in claims_]
    assert [p["code"] for p in tables.problems.to_pylist() if p["code"] != "NO_CLAIMS"] == []
    assert tables.claims["patient_control_number"].to_pylist() == [claim.id for claim in own]
    assert tables.claims["patient_last_name"].to_pylist() == [claim.last_name for claim in own]
    assert tables.claims["charge"].to_pylist() == [_dollars(charge(claim)) for claim in own]
    assert tables.claims["paid"].to_pylist() == [_dollars(paid(claim)) for claim in own]
    assert all(tables.claims["balanced"].to_pylist()) and all(tables.service_lines["balanced"].to_pylist())
    own_lines = [line for claim in own for line in claim.lines]
    assert tables.service_lines["procedure_code"].to_pylist() == [line.code for line in own_lines]
    assert tables.service_lines["modifiers"].to_pylist() == [line.modifiers for line in own_lines]
    expected = [(i, None, t) for i, claim in enumerate(own) for t in claim.triplets]
    line_index = 0
    for i, claim in enumerate(own):
        for line in claim.lines:
            expected += [(i, line_index, t) for t in line.triplets]
            line_index += 1
    expected.sort(key=lambda x: (x[0], -1 if x[1] is None else x[1]))
    got = [
        (a["claim_index"], a["line_index"], (a["group_code"], a["reason_code"], int(a["amount"] * 100)))
        for a in tables.adjustments.to_pylist()
    ]
    assert got == expected
    assert [(p["reason_code"], int(p["amount"] * 100)) for p in tables.provider_adjustments.to_pylist()] == [
        pair for _, plb in file.transactions for pair in plb
    ]
    assert all(tables.remittances["balanced"].to_pylist()) and all(tables.remittances["complete"].to_pylist())
    in_parts = era.read([data], chunk_bytes=chunk)
    for table in era.TABLES:
        assert tables.table(table).equals(in_parts.table(table)), table


def _check(data: bytes, chunk: int) -> era.EraTables | None:
    """Reads without any error but NotX12, gives valid tables, and the same ones in chunks."""
    try:
        tables = era.read([data])
    except NotX12:
        tables = None
    except BadInput as error:
        assert error.code == "AMOUNTS_TOO_LARGE"
        return None
    try:
        parts = era.read([data], chunk_bytes=chunk)
    except NotX12:
        assert tables is None
        return None
    assert tables is not None
    for name in era.TABLES:
        tables.table(name).validate(full=True)
        assert tables.table(name).equals(parts.table(name)), name
    if tables.claims.num_rows == 0:
        assert tables.problems.num_rows > 0
    return tables


@SLOW
@given(st.binary(max_size=600), st.integers(1, 50))
def test_arbitrary_bytes(data: bytes, chunk: int) -> None:
    _check(data, chunk)


@SLOW
@given(
    st.lists(
        st.sampled_from(
            [
                b"ISA*",
                b"CLP*",
                b"ST*835*",
                b"SE*",
                b"SVC*HC:1*",
                b"CAS*CO*45*",
                b"~",
                b"*",
                b":",
                b"1",
                b"GS*HP*",
                b"\n",
                b"PLB*",
                b"IEA*1*",
            ]
        ),
        max_size=60,
    ),
    st.integers(1, 50),
)
def test_arbitrary_segments_after_a_header(parts: list[bytes], chunk: int) -> None:
    header = write(
        File([]),
        {
            "e": "*",
            "c": ":",
            "t": "~",
            "ending": "",
            "encoding": "utf-8",
            "spelling": 0,
            "per_cas": 1,
            "interchanges": False,
        },
    )
    _check(header[:106] + b"".join(parts), chunk)


@SLOW
@given(files, styles, st.data())
def test_truncation_keeps_whole_claims_and_says_where(file: File, style: dict[str, Any], data: st.DataObject) -> None:
    style = {**style, "encoding": "utf-8"}
    whole = write(file, style)
    cut = data.draw(st.integers(106, len(whole)))
    tables = _check(whole[:cut], 77)
    assert tables is not None
    terminator = style["t"].encode()
    segments = whole[:cut].split(terminator)[:-1]
    assert tables.claims.num_rows == sum(s.strip().startswith(b"CLP") for s in segments)
    assert tables.service_lines.num_rows == sum(s.strip().startswith(b"SVC") for s in segments)
    if not whole[cut:].strip(terminator + b"\r\n "):
        return
    codes = tables.problems["code"].to_pylist()
    at_end_of_interchange = whole[:cut].rstrip().rsplit(terminator, 2)[-2:][0].strip().startswith(b"IEA")
    assert "TRUNCATED" in codes or "TERMINATOR_MISSING" in codes or at_end_of_interchange


@SLOW
@given(files, styles, st.data())
def test_a_changed_byte_loses_no_claim_in_silence(file: File, style: dict[str, Any], data: st.DataObject) -> None:
    style = {**style, "encoding": "utf-8"}
    whole = bytearray(write(file, style))
    claims_before = era.read([bytes(whole)]).claims.num_rows
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    tables = _check(bytes(whole), 61)
    if tables is not None and tables.claims.num_rows < claims_before:
        assert tables.problems.num_rows > 0
