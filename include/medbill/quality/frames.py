"""Arrow tables as the data frames Great Expectations sees: the least a suite needs, exact, in plain types.

Money becomes integer cents, dates become integers like 20261130, identifiers become the mere fact that they are there.
A column that is missing or has not its declared type is left out: the suite's column expectation then closes the gate.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medbill.model.claims import CLAIM_TABLES, NOTE_TABLES
from medbill.model.published import PUBLISHED_CLAIM_TABLES, PUBLISHED_NOTE_TABLES, PUBLISHED_REMITTANCE_TABLES
from medbill.model.remittances import ERA_TABLES

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, pa.Table]
#: String columns whose value, a code of a public code set, an expectation must see. Of any other only its presence.
_CODES = frozenset({"claim_status", "group_code"})

#: Reader problems that other columns of the transaction show.
_SEEN_ELSEWHERE = pa.array(["TRANSACTION_UNBALANCED", "TRUNCATED", "AMOUNT_MISSING", "AMOUNT_UNREADABLE"])


#: Shapes of the code fields that are published as they are: what does not fit may be free text with a name in it.
_SHAPES = {
    "remittances": {
        "version": "[0-9]{6}[A-Za-z0-9]{0,6}",
        "credit_debit": "[CD]",
        "payment_method": "ACH|BOP|CHK|FWT|NON",
        "payee_npi": "[0-9]{10}",
        "payee_tax_id": "[A-Za-z0-9-]{0,9}[0-9][A-Za-z0-9-]{0,9}",
    },
    "claims": {
        "filing_indicator": "[A-Za-z0-9]{1,2}",
        "facility_type": "[A-Za-z0-9]{1,2}",
        "frequency_code": "[A-Za-z0-9]",
        "drg_code": "[A-Za-z0-9]{1,4}",
        "rendering_npi": "[0-9]{10}",
        "remark_codes": "[A-Za-z]{0,2}[0-9]{1,5}[A-Za-z]?",
    },
    "service_lines": {
        "procedure_qualifier": "[A-Za-z0-9]{2}",
        "procedure_code": "[A-Za-z0-9.-]{0,13}[0-9][A-Za-z0-9.-]{0,13}",
        "submitted_code": "[A-Za-z0-9.-]{0,13}[0-9][A-Za-z0-9.-]{0,13}",
        "modifiers": "[A-Za-z0-9]{1,2}",
        "submitted_modifiers": "[A-Za-z0-9]{1,2}",
        "revenue_code": "[0-9]{1,4}",
        "rendering_npi": "[0-9]{10}",
        "remark_codes": "[A-Za-z]{0,2}[0-9]{1,5}[A-Za-z]?",
    },
    "adjustments": {"reason_code": "[A-Za-z]{0,2}[0-9]{1,4}[A-Za-z]?"},
    "provider_adjustments": {
        "provider_id": "[A-Za-z0-9-]{0,29}[0-9][A-Za-z0-9-]{0,29}",
        "reason_code": "[A-Za-z0-9]{2}",
    },
}
#: Reader problems of a group, interchange or file as a whole that mean: part of it is not there.
_CUT_SHORT = pa.array(["TRUNCATED", "GE_MISSING", "GE_COUNT", "IEA_COUNT"])


def _codes_shaped(tables: Tables, name: str) -> pa.ChunkedArray:
    """Per row: whether every code field has the shape of its code set; an absent code has."""
    table = tables[name].combine_chunks()
    shaped = pa.array(np.ones(table.num_rows, dtype=bool))
    for column, shape in _SHAPES[name].items():
        if column not in table.column_names:
            continue
        values = table[column].combine_chunks()
        if pa.types.is_list(values.type):
            odd = pc.invert(pc.match_substring_regex(pc.list_flatten(values), f"^({shape})$"))
            rows = np.unique(pc.list_parent_indices(values).filter(odd).to_numpy())
            fits = np.ones(table.num_rows, dtype=bool)
            fits[rows] = False
            shaped = pc.and_(shaped, pa.array(fits))
        else:
            fits_here = pc.or_(pc.match_substring_regex(values, f"^({shape})$"), pc.equal(values, ""))
            shaped = pc.and_(shaped, pc.fill_null(fits_here, True))
    return pa.chunked_array([shaped])


_WORDS = re.compile(r"[^\W_]+")
_PEOPLE = tuple((f"{who}_last_name", f"{who}_first_name") for who in ("patient", "insured", "corrected"))


def _names_nobody(tables: Tables, name: str, column: str) -> pa.ChunkedArray:
    """Per row: whether a payer's name, which is published, names no patient: neither last and first name of one person of
    the partition, nor as a whole a name that every patient of its payment bears. (Of many patients one may be called Humana.)"""
    table, claims = tables[name], tables["claims"]
    payers = {text: _spoken(text) for text in pc.unique(table[column]).to_pylist() if text}
    said = set(payers.values())
    borne: dict[int, set[tuple[str, ...]]] = {}  # by payment: the names of payers that all of its patients bear
    pairs: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for last_name, first_name in _PEOPLE:
        if last_name not in claims.column_names or first_name not in claims.column_names:
            continue
        people = claims.select(["remittance_index", last_name, first_name])
        for person in people.group_by(people.column_names).aggregate([]).to_pylist():
            last, first = _spoken(person[last_name] or ""), _spoken(person[first_name] or "")
            if last and first:
                pairs.setdefault(last, set()).add(first)
            if last_name == _PEOPLE[0][0]:
                payment, here = person["remittance_index"], said & {last, first}
                borne[payment] = borne[payment] & here if payment in borne else here
    both = {text for text, words in payers.items() if _holds_both(words, pairs)}
    rows = zip(table["remittance_index"].to_pylist(), table[column].to_pylist(), strict=True)
    return pa.chunked_array(
        [[not text or (text not in both and payers[text] not in borne.get(r, ())) for r, text in rows]], pa.bool_()
    )


def _spoken(text: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _holds_both(words: tuple[str, ...], pairs: Mapping[tuple[str, ...], set[tuple[str, ...]]]) -> bool:
    runs = {words[a:b] for a in range(len(words)) for b in range(a + 1, min(a + 4, len(words) + 1))}
    return any(pairs[last] & (runs - {last}) for last in runs & pairs.keys())


def landing_remittances(tables: Tables) -> pa.Table:
    """One row per transaction; reader_errors: what the reader found wrong with its envelope or structure, or that its file
    is cut short; codes_shaped: its codes look like codes; payer_is_no_patient: its payer's name is not a patient's."""
    frame = _plain(tables["remittances"], ERA_TABLES["remittances"])
    problems = tables["problems"]
    errors = pc.and_not(pc.equal(problems["severity"], "error"), pc.is_in(problems["code"], value_set=_SEEN_ELSEWHERE))
    whole = pc.and_(pc.is_null(problems["claim_index"]), pc.is_valid(problems["remittance_index"]))
    of_transaction = problems.filter(pc.and_(errors, whole))
    counts = {r["values"]: r["counts"] for r in pc.value_counts(of_transaction["remittance_index"]).to_pylist()}
    # what is missing may be a payment, and the sender will send all of the file again: none of it is taken twice
    cut = pc.and_(pc.is_null(problems["remittance_index"]), pc.is_in(problems["code"], value_set=_CUT_SHORT))
    places = pc.extract_regex(problems.filter(cut)["place"], r"^file (?P<file>[0-9]+)")
    cut_files = {int(p["file"]) - 1 for p in places.to_pylist() if p is not None}
    of_file = zip(*(tables["remittances"][c].to_pylist() for c in ("remittance_index", "file_index")), strict=True)
    errors_of = [counts.get(index, 0) + (file in cut_files) for index, file in of_file]
    frame = frame.append_column("codes_shaped", _codes_shaped(tables, "remittances"))
    frame = frame.append_column("payer_is_no_patient", _names_nobody(tables, "remittances", "payer_name"))
    return frame.append_column("reader_errors", pa.array(errors_of, pa.int64()))


def landing_claims(tables: Tables) -> pa.Table:
    """One row per claim; remittance_known: its transaction is there; codes_shaped: its codes look like codes; payer_is_no_patient."""
    frame = _plain(tables["claims"], ERA_TABLES["claims"])
    frame = frame.append_column("codes_shaped", _codes_shaped(tables, "claims"))
    frame = frame.append_column("payer_is_no_patient", _names_nobody(tables, "claims", "crossover_payer_name"))
    return frame.append_column("remittance_known", _known(tables, "claims", "remittances", "remittance_index"))


def landing_service_lines(tables: Tables) -> pa.Table:
    """One row per line; claim_known: its claim is there."""
    frame = _plain(tables["service_lines"], ERA_TABLES["service_lines"])
    frame = frame.append_column("codes_shaped", _codes_shaped(tables, "service_lines"))
    return frame.append_column("claim_known", _known(tables, "service_lines", "claims", "claim_index"))


def landing_adjustments(tables: Tables) -> pa.Table:
    """One row per triplet; line_known also where it is at claim level."""
    frame = _plain(tables["adjustments"], ERA_TABLES["adjustments"])
    frame = frame.append_column("codes_shaped", _codes_shaped(tables, "adjustments"))
    return frame.append_column("claim_known", _known(tables, "adjustments", "claims", "claim_index")).append_column(
        "line_known", _known(tables, "adjustments", "service_lines", "line_index")
    )


def landing_provider_adjustments(tables: Tables) -> pa.Table:
    """One row per pair; remittance_known: its transaction is there; codes_shaped: its codes look like codes."""
    frame = _plain(tables["provider_adjustments"], ERA_TABLES["provider_adjustments"])
    frame = frame.append_column("codes_shaped", _codes_shaped(tables, "provider_adjustments"))
    return frame.append_column(
        "remittance_known", _known(tables, "provider_adjustments", "remittances", "remittance_index")
    )


def platform_claims(tables: Tables) -> pa.Table:
    """One row per billed claim; charge_difference: its charge less the sum of its lines, in cents."""
    claims, lines = tables["claims"], tables["claim_lines"]
    frame = _numbered(_plain(claims, CLAIM_TABLES["claims"], coded=("claim_id",)))
    sums = lines.group_by("claim_id").aggregate([("charge", "sum")])
    of_lines = dict(zip(sums["claim_id"].to_pylist(), _cents(sums["charge_sum"]).to_pylist(), strict=True))
    charges = zip(claims["claim_id"].to_pylist(), _cents(claims["charge"]).to_pylist(), strict=True)
    difference = [None if charge is None else charge - (of_lines.get(claim) or 0) for claim, charge in charges]
    return frame.append_column("charge_difference", pa.array(difference, pa.int64()))


def platform_claim_lines(tables: Tables) -> pa.Table:
    """One row per billed line; claim_known: its claim is there."""
    frame = _numbered(_plain(tables["claim_lines"], CLAIM_TABLES["claim_lines"], coded=("claim_id", "line_id")))
    return frame.append_column("claim_known", _known(tables, "claim_lines", "claims", "claim_id"))


def platform_notes(tables: Tables) -> pa.Table:
    """One row per free text of a claim."""
    return _numbered(_plain(tables["notes"], NOTE_TABLES["notes"], coded=("note_id", "note_type")))


def published(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A published table whole: text as it is, because the suite searches it for identifiers; extra columns kept."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        column = table[name]
        if name in schema.names and column.type != schema.field(name).type:
            continue
        if pa.types.is_list(column.type):
            column = pc.binary_join(column, " ")
        columns[name] = column if pa.types.is_string(column.type) else _number(column)
    return _numbered(pa.table(columns))


def published_text(tables: Tables) -> pa.Table:
    """Every distinct text of the string columns that are neither token nor key, for the search for identifiers."""
    parts = []
    for name, table in tables.items():
        for column in table.column_names:
            values = table[column]
            if pa.types.is_list(values.type):
                values = pc.list_flatten(values)
            if not _is_text(values.type) or column.endswith(("_token", "_key")):
                continue
            parts.append(_long(name, column, "text", values))
    return pa.concat_tables([_TEXT.empty_table(), *parts])


def published_tokens(tables: Tables) -> pa.Table:
    """Every distinct token with the kind it says it is of and the kind its column should hold."""
    parts = []
    for name, table in tables.items():
        for column in table.column_names:
            if not column.endswith("_token") or not _is_text(table[column].type):
                continue
            part = _long(name, column, "token", table[column])
            kind = pc.struct_field(pc.extract_regex(part["token"], r"^\[(?P<kind>[A-Z_]+)_[^_]*$"), "kind")
            expected = pa.array([_TOKEN_KINDS.get(column)] * part.num_rows, pa.string())
            parts.append(part.append_column("kind", kind).append_column("expected_kind", expected))
    return pa.concat_tables([_TOKENS.empty_table(), *parts])


def _long(table: str, column: str, name: str, values: pa.ChunkedArray) -> pa.Table:
    distinct = pc.cast(pc.drop_null(pc.unique(values)), pa.string())
    n = len(distinct)
    return pa.table(
        {"table": pa.array([table] * n, pa.string()), "column": pa.array([column] * n, pa.string()), name: distinct}
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_TEXT = pa.schema([(c, pa.string()) for c in ("table", "column", "text")])
_TOKENS = pa.schema([(c, pa.string()) for c in ("table", "column", "token", "kind", "expected_kind")])
#: The vault kind each published token column holds.
_TOKEN_KINDS = {
    "trace_token": "TRACE",
    "claim_token": "CLAIM",
    "payer_claim_token": "PAYER_CLAIM",
    "patient_last_name_token": "PERSON",
    "patient_first_name_token": "PERSON",
    "member_token": "MEMBER",
    "corrected_member_token": "MEMBER",
    "medical_record_token": "MRN",
    "authorization_token": "AUTHORIZATION",
    "original_reference_token": "PAYER_CLAIM",
    "line_token": "LINE",
    "reference_token": "REFERENCE",
    "patient_token": "PATIENT",
    "note_token": "NOTE",
}

#: suite -> frame of it, for the landing gate of remittances and of the practice's claims
LANDING: dict[str, Callable[[Tables], pa.Table]] = {
    "landing_remittances": landing_remittances,
    "landing_claims": landing_claims,
    "landing_service_lines": landing_service_lines,
    "landing_adjustments": landing_adjustments,
    "landing_provider_adjustments": landing_provider_adjustments,
}
PLATFORM: dict[str, Callable[[Tables], pa.Table]] = {
    "platform_claims": platform_claims,
    "platform_claim_lines": platform_claim_lines,
}
PLATFORM_NOTES: dict[str, Callable[[Tables], pa.Table]] = {"platform_notes": platform_notes}
#: table -> (suite, declared schema), for the gate before publishing
PUBLISHED_REMITTANCES: dict[str, tuple[str, pa.Schema]] = {
    name: ("published_remittance_claims" if name == "claims" else f"published_{name}", schema)
    for name, schema in PUBLISHED_REMITTANCE_TABLES.items()
}
PUBLISHED_CLAIMS: dict[str, tuple[str, pa.Schema]] = {
    name: (f"published_{name}", schema) for name, schema in PUBLISHED_CLAIM_TABLES.items()
}
PUBLISHED_NOTES: dict[str, tuple[str, pa.Schema]] = {
    name: (f"published_{name}", schema) for name, schema in PUBLISHED_NOTE_TABLES.items()
}


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Nullable integers and booleans, so that nothing turns into a float."""
    import pandas as pd

    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return table.to_pandas(types_mapper=kinds.get)


def _plain(table: pa.Table, schema: pa.Schema, coded: tuple[str, ...] = ()) -> pa.Table:
    """coded: identifiers of which an expectation must see whether two are the same; they become small numbers."""
    columns = {}
    for field in schema:
        if field.name not in table.column_names or table.schema.field(field.name).type != field.type:
            continue
        column = table[field.name]
        if pa.types.is_list(field.type):
            continue
        if field.name in coded:
            codes = column.combine_chunks().dictionary_encode()
            columns[field.name] = pc.cast(codes.indices, pa.int64())
        elif not pa.types.is_string(field.type):
            columns[field.name] = _number(column)
        elif field.name in _CODES:
            columns[field.name] = column
        else:
            there = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False)
            columns[field.name] = pc.if_else(there, "present", pa.scalar(None, pa.string()))
    return pa.table(columns)


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_decimal(kind):
        return _cents(column) if kind.scale <= 2 else _scaled(column)
    if pa.types.is_date(kind):
        return pc.cast(pc.strftime(column, "%Y%m%d"), pa.int64())
    return column if pa.types.is_boolean(kind) else pc.cast(column, pa.int64())


def _cents(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.multiply(pc.cast(column, pa.decimal128(20, 2)), pa.scalar(100, pa.decimal128(3, 0))), pa.int64())


def _scaled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Thousandths, for quantities."""
    return pc.cast(pc.multiply(pc.cast(column, pa.decimal128(21, 3)), pa.scalar(1000, pa.decimal128(4, 0))), pa.int64())


def _numbered(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(range(table.num_rows), pa.int64()))


def _known(tables: Tables, child: str, parent: str, key: str) -> pa.ChunkedArray:
    """Whether each row's parent is there; a null key means: belongs to none, which is for another expectation to judge."""
    column = tables[child][key]
    return pc.or_(pc.is_null(column), pc.is_in(column, value_set=tables[parent][key].combine_chunks()))
