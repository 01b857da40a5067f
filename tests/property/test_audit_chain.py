"""Whatever is done to the rows of a chain, short of rewriting it to its end, the verifier sees it. No database."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from medbill.audit.hashing import first_hash, row_hash
from medbill.audit.ledger import _canonical
from medbill.audit.problems import REPEATED, Checker

KEYS = [k for k in (f"k{n}" for n in range(400)) if hashlib.sha256(k.encode()).digest()[0] % 16 == 0]
START = datetime(2026, 1, 5, tzinfo=UTC)


def _chain(counts: list[int]) -> list[dict[str, Any]]:
    rows, link = [], first_hash(0)
    for seq, count in enumerate(counts, 1):
        content = dict.fromkeys(REPEATED) | {
            "idempotency_key": KEYS[seq - 1], "actor": "medbill", "outcome": "success", "map_index": count % 7,
        }  # fmt: skip
        at = START + timedelta(microseconds=seq * 7)
        stored = {k: v for k, v in content.items() if v is not None} | {
            "occurred_at": at.isoformat(), "details": {"n": count},
        }  # fmt: skip
        payload = rfc8785.dumps(stored)
        digest = row_hash(0, seq, at, payload, link)
        rows.append(
            {**content, "chain": 0, "seq": seq, "recorded_at": at, "occurred_at": at, "payload": payload,
             "prev_hash": link, "row_hash": digest}
        )  # fmt: skip
        link = digest
    return rows


def _problems(rows: list[dict[str, Any]], head: tuple[int, bytes]) -> list[str]:
    checker = Checker()
    found = [p.code for row in sorted(rows, key=lambda r: r["seq"]) for p in checker.row(row)]
    heads = {chain: (0, first_hash(chain)) for chain in range(16)} | {0: head}
    return found + [p.code for p in checker.end(heads)]


counts = st.lists(st.integers(0, 2**50), min_size=2, max_size=12)


def _head(rows: list[dict[str, Any]]) -> tuple[int, bytes]:
    return rows[-1]["seq"], rows[-1]["row_hash"]


@given(counts)
def test_an_untouched_chain_has_no_problem(values: list[int]) -> None:
    rows = _chain(values)
    assert _problems(rows, _head(rows)) == []


@given(counts, st.data())
def test_any_changed_byte_or_time_is_seen(values: list[int], data: st.DataObject) -> None:
    rows = _chain(values)
    head = _head(rows)
    row = data.draw(st.sampled_from(rows))
    name = data.draw(
        st.sampled_from(["payload", "prev_hash", "row_hash", "recorded_at", "occurred_at", "actor", "map_index"])
    )
    if isinstance(row[name], bytes):
        at = data.draw(st.integers(0, len(row[name]) - 1))
        flip = data.draw(st.integers(1, 255))
        row[name] = row[name][:at] + bytes([row[name][at] ^ flip]) + row[name][at + 1 :]
    elif isinstance(row[name], datetime):
        row[name] += timedelta(microseconds=data.draw(st.integers(1, 10**9)))
    else:
        row[name] = f"{row[name]}x"
    assert _problems(rows, head)


@given(counts, st.data())
def test_any_missing_row_is_seen(values: list[int], data: st.DataObject) -> None:
    rows = _chain(values)
    head = _head(rows)
    del rows[data.draw(st.integers(0, len(rows) - 1))]
    assert _problems(rows, head)


@given(counts, st.data())
def test_any_two_exchanged_rows_are_seen(values: list[int], data: st.DataObject) -> None:
    rows = _chain(values)
    head = _head(rows)
    a, b = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    assume(a != b)
    rows[a]["seq"], rows[b]["seq"] = rows[b]["seq"], rows[a]["seq"]
    assert _problems(rows, head)


@given(counts)
def test_a_row_added_at_the_end_without_its_head_is_seen(values: list[int]) -> None:
    rows = _chain([*values, 1])
    assert _problems(rows, _head(rows[:-1])) == ["HEAD_MISMATCH"]


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=2), st.lists(st.binary(max_size=8), min_size=2, max_size=2))
def test_parts_of_a_row_cannot_flow_into_each_other(a: list[bytes], b: list[bytes]) -> None:
    assume(a != b)
    assert row_hash(0, 1, START, *a) != row_hash(0, 1, START, *b)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.integers(-(2**50), 2**50), st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
        max_size=5,
    )
)
def test_stored_bytes_are_canonical(details: dict[str, Any]) -> None:
    assert rfc8785.dumps(json.loads(rfc8785.dumps(details))) == rfc8785.dumps(details)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
values = st.one_of(st.none(), st.booleans(), st.integers(1 - 2**53, 2**53 - 1), names, st.lists(names, max_size=3))


@given(st.dictionaries(names, values, max_size=5))
def test_what_is_written_is_rfc_8785(details: dict[str, Any]) -> None:
    fields = {"actor": "medbill", "details": details, "map_index": -1, "kind": next(iter(details), "k")}
    assert _canonical(fields) == rfc8785.dumps(fields)
