"""Whatever is landed: applying the policy keeps every row in its place and every amount to the cent."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medbill.deid.policy import LANDED, load
from medbill.model.types import MONEY

POLICY = load(Path(__file__).resolve().parents[2] / "include" / "policies" / "deidentification.yml")
amounts = st.decimals(Decimal("-9999999999999999.99"), Decimal("9999999999999999.99"), places=2)
rows = st.lists(st.tuples(st.text(max_size=12), st.one_of(st.none(), amounts), amounts), max_size=30)


class FakeVault:
    def tokenize(self, kind: str, values: pa.ChunkedArray) -> pa.Array:
        return pa.array([None if v is None else f"{kind} {n}" for n, v in enumerate(values.to_pylist())], pa.string())


@given(rows, st.integers(1, 5))
def test_rows_and_money_are_kept(content: list[tuple[str, Decimal | None, Decimal]], chunk: int) -> None:
    fields = LANDED["remittances"]["claims"]
    given_columns = {
        "claim_key": pa.array([text for text, _, _ in content], pa.string()),
        "remittance_key": pa.array(["r"] * len(content), pa.string()),
        "interest": pa.array([a for _, a, _ in content], MONEY),
        "paid": pa.array([b for _, _, b in content], MONEY),
        "adjustment_total": pa.array([b for _, _, b in content], MONEY),
        "is_reversal": pa.array([False] * len(content)),
        "balanced": pa.array([True] * len(content)),
        "line_count": pa.array([1] * len(content), pa.int32()),
    }
    table = pa.table({n: given_columns.get(n, pa.nulls(len(content), kind)) for n, kind in fields.items()})
    if content:
        table = pa.Table.from_batches(table.to_batches(max_chunksize=chunk))
    published = POLICY.apply("remittances", "claims", table, FakeVault())
    assert published.num_rows == len(content)
    for name in ("interest", "paid", "adjustment_total"):
        assert published[name].to_pylist() == table[name].to_pylist()
    assert [k.replace("[\\", "[") for k in published["claim_key"].to_pylist()] == [
        k.replace("[\\", "[") for k in table["claim_key"].to_pylist()
    ]
