"""Business keys are positions in an immutable file; splitting off refused records loses no row."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medbill.pipelines import keys


def tables(shape: list[tuple[int, list[list[int]]]]) -> dict[str, pa.Table]:
    """shape: per transaction (file index, per claim a list of adjustments per line)."""
    remittances, claims, lines, adjustments, plb = [], [], [], [], []
    for r, (file_index, its_claims) in enumerate(shape):
        remittances.append({"remittance_index": r, "file_index": file_index})
        plb += [{"remittance_index": r, "amount": n} for n in range(2)]
        for its_lines in its_claims:
            c = len(claims)
            claims.append({"remittance_index": r, "claim_index": c})
            adjustments.append({"remittance_index": r, "claim_index": c, "line_index": None})
            for number, count in enumerate(its_lines, 1):
                adjustments += [
                    {"remittance_index": r, "claim_index": c, "line_index": len(lines)} for _ in range(count)
                ]
                lines.append({"remittance_index": r, "claim_index": c, "line_index": len(lines), "line_number": number})
    i, s = pa.int32(), pa.string()
    made = {
        "remittances": (remittances, {"remittance_index": i, "file_index": i}),
        "claims": (claims, {"remittance_index": i, "claim_index": i}),
        "service_lines": (lines, {"remittance_index": i, "claim_index": i, "line_index": i, "line_number": i}),
        "adjustments": (adjustments, {"remittance_index": i, "claim_index": i, "line_index": i}),
        "provider_adjustments": (plb, {"remittance_index": i, "amount": i}),
        "problems": ([], {"remittance_index": i, "code": s}),
    }
    return {
        name: pa.Table.from_pylist(rows, schema=pa.schema(list(fields.items())))
        for name, (rows, fields) in made.items()
    }


def test_keys_of_two_files() -> None:
    keyed = keys.with_keys(tables([(0, [[1, 2], []]), (0, [[1]]), (1, [[0, 1]])]), ["aa", "bb"])
    first, second, third = keys.remittance_key("aa", 0), keys.remittance_key("aa", 1), keys.remittance_key("bb", 0)
    assert keyed["remittances"]["remittance_key"].to_pylist() == [first, second, third]
    assert keyed["claims"]["claim_key"].to_pylist() == [f"{first}-0", f"{first}-1", f"{second}-0", f"{third}-0"]
    of_first = [
        (a["line_number"], a["sequence"]) for a in keyed["adjustments"].to_pylist() if a["claim_key"] == f"{first}-0"
    ]
    assert of_first == [(None, 1), (1, 2), (2, 3), (2, 4)]
    assert keyed["provider_adjustments"]["sequence"].to_pylist() == [1, 2, 1, 2, 1, 2]


def test_a_file_that_joins_the_partition_changes_no_key() -> None:
    alone = keys.with_keys(tables([(0, [[1], [2]])]), ["bb"])
    joined = keys.with_keys(tables([(0, [[3]]), (1, [[1], [2]])]), ["aa", "bb"])
    assert joined["claims"]["claim_key"].to_pylist()[1:] == alone["claims"]["claim_key"].to_pylist()


def test_empty_tables() -> None:
    assert keys.with_keys(tables([]), [])["claims"].num_rows == 0


@given(
    st.data(),
    st.lists(st.tuples(st.just(0), st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=3)), max_size=4),
)
def test_every_row_passes_or_is_refused(data: st.DataObject, shape: list) -> None:
    keyed = keys.with_keys(tables(shape), ["aa"])
    bad_r = data.draw(st.sets(st.integers(0, max(len(shape) - 1, 0))))
    bad_c = data.draw(st.sets(st.integers(0, max(keyed["claims"].num_rows - 1, 0))))
    passed, refused = keys.split(keyed, bad_r, bad_c)
    for name, table in passed.items():
        assert table.num_rows + refused[name].num_rows == keyed[name].num_rows
    assert not set(passed["claims"]["claim_index"].to_pylist()) & bad_c
    assert not set(passed["adjustments"]["remittance_index"].to_pylist()) & bad_r
