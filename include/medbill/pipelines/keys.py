"""Business keys of remittances and claims: positions in an immutable file, so they are stable and derived from no value."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc


def remittance_key(file_sha256: str, ordinal: int) -> str:
    return hashlib.sha256(f"{file_sha256}:{ordinal}".encode()).hexdigest()[:16]


def _run_ordinals(keys: pa.Array) -> pa.Array:
    """Position of each row within its key, from 0, for rows that are grouped by key."""
    import numpy as np

    values = keys.to_numpy(zero_copy_only=False)
    n = len(values)
    if n == 0:
        return pa.array([], pa.int32())
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    counts = np.diff(np.r_[starts, n])
    return pa.array(np.arange(n) - np.repeat(starts, counts), pa.int32())


def _lookup(index: pa.ChunkedArray, values: pa.Array) -> pa.Array:
    return pc.take(values, index.combine_chunks())


def with_keys(tables: dict[str, pa.Table], files: list[str]) -> dict[str, pa.Table]:
    """The reader's tables with business keys added.

    files: SHA-256 of each file given to the reader, in order (remittances.file_index points into it).
    Adds remittance_key everywhere (but problems), claim_key to claims, service_lines and adjustments, line_number and
    sequence to adjustments, sequence to provider_adjustments. Row order is kept.
    """
    remittances, claims = tables["remittances"].combine_chunks(), tables["claims"].combine_chunks()
    file_of = remittances["file_index"].to_pylist()
    ordinal = _run_ordinals(remittances["file_index"].combine_chunks()).to_pylist()
    remittance_keys = pa.array(
        [remittance_key(files[f], o) for f, o in zip(file_of, ordinal, strict=True)], pa.string()
    )
    of_remittance = {
        name: _lookup(tables[name]["remittance_index"], remittance_keys) for name in tables if name != "problems"
    }
    # claim ordinals: claims of one transaction follow each other, and claim_index is the row number
    ordinals = _run_ordinals(claims["remittance_index"].combine_chunks())
    claim_keys = pc.binary_join_element_wise(of_remittance["claims"], pc.cast(ordinals, pa.string()), "-")
    lines, adjustments = tables["service_lines"].combine_chunks(), tables["adjustments"].combine_chunks()
    line_numbers = lines["line_number"].combine_chunks()
    adjustment_claims = adjustments["claim_index"].combine_chunks()
    keyed = {
        "remittances": remittances.append_column("remittance_key", remittance_keys),
        "claims": claims.append_column("remittance_key", of_remittance["claims"]).append_column(
            "claim_key", claim_keys
        ),
        "service_lines": lines.append_column("remittance_key", of_remittance["service_lines"]).append_column(
            "claim_key", _lookup(lines["claim_index"], claim_keys)
        ),
        "adjustments": adjustments.append_column("remittance_key", of_remittance["adjustments"])
        .append_column("claim_key", _lookup(adjustments["claim_index"], claim_keys))
        .append_column("line_number", _lookup(adjustments["line_index"], line_numbers))
        .append_column("sequence", pc.add(_run_ordinals(adjustment_claims), pa.scalar(1, pa.int32()))),
        "provider_adjustments": tables["provider_adjustments"]
        .append_column("remittance_key", of_remittance["provider_adjustments"])
        .append_column(
            "sequence",
            pc.add(
                _run_ordinals(tables["provider_adjustments"]["remittance_index"].combine_chunks()),
                pa.scalar(1, pa.int32()),
            ),
        ),
    }
    return {**keyed, "problems": tables["problems"]}


def split(
    tables: dict[str, pa.Table], refused_remittances: set[int], refused_claims: set[int]
) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """The tables without, and with only, the refused transactions and claims. Every row is in exactly one of the two."""
    bad_remittances = pa.array(sorted(refused_remittances), pa.int32())
    by_remittance = {
        n: pc.is_in(t["remittance_index"], value_set=bad_remittances) for n, t in tables.items() if n != "problems"
    }
    bad_claims = pa.array(sorted(refused_claims), pa.int32())
    passed: dict[str, pa.Table] = {}
    refused: dict[str, pa.Table] = {}
    for name, table in tables.items():
        if name == "problems":
            continue
        bad = by_remittance[name]
        if "claim_index" in table.column_names:
            bad = pc.or_(bad, pc.is_in(table["claim_index"], value_set=bad_claims))
        passed[name], refused[name] = table.filter(pc.invert(bad)), table.filter(bad)
    return passed, refused
