"""Which tokens stand with which claim in published tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from medbill.deid.reidentify import tokens_in


def pairs(tables: Mapping[str, pa.Table]) -> set[tuple[str, str]]:
    """(claim token, token) of every row about a claim; lines of remittances belong to their claim by claim_key.

    A claim's own token is one of its tokens.
    """
    claims = tables.get("claims")
    by_key: dict[str, str | None] = {}
    if claims is not None and "claim_key" in claims.column_names:
        by_key = dict(zip(claims["claim_key"].to_pylist(), claims["claim_token"].to_pylist(), strict=True))
    return {pair for table in tables.values() for pair in _of_table(table, by_key)}


def _of_table(table: pa.Table, by_key: Mapping[str, str | None]) -> Iterable[tuple[str, str]]:
    if "claim_token" in table.column_names:
        owners = table["claim_token"].to_pylist()
    elif "claim_key" in table.column_names:
        owners = [by_key.get(key) for key in table["claim_key"].to_pylist()]
    else:
        return
    for name in table.column_names:
        if name.endswith("_token"):
            yield from ((o, t) for o, t in zip(owners, table[name].to_pylist(), strict=True) if o and t)
        elif name == "text":
            for owner, text in zip(owners, table[name].to_pylist(), strict=True):
                yield from ((owner, token) for token in tokens_in(text) if owner)
