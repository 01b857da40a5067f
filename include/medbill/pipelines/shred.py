"""Crypto-shredding of one patient: every token that stands in rows about that patient, and in no other row, goes dead.

The rows are found in what is published: the claims of the patient token, their lines and notes, and the remittances of these
claims. A token that another patient's rows bear as well (a first name, a family's member number) stays alive. The landing
zone is not touched: it is sealed under the practice's own keys and has its own retention (docs/deidentification.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.audit.ledger import Event
from medbill.deid.reidentify import tokens_in
from medbill.deid.vault import is_token, token_kind
from medbill.errors import BadInput
from medbill.pipelines import deidentify
from medbill.pipelines.context import Context, Partition
from medbill.store import db
from medbill.store.tables import partitions


def tokens_of(ctx: Context, practice: str, patient: str) -> list[str]:
    """The tokens that only this patient's published rows bear, sorted.

    Raises BadInput where patient is not the token of a patient with a published claim.
    """
    if not is_token(patient) or token_kind(patient) != "PATIENT":
        raise BadInput("name the patient by a PATIENT token of the published claims", code="NOT_A_PATIENT_TOKEN")
    claims: set[str] = set()
    for tables in _published(ctx, practice, "claims"):
        mine = tables["claims"].filter(pc.fill_null(pc.equal(tables["claims"]["patient_token"], patient), False))
        claims |= set(mine["claim_token"].to_pylist())
    if not claims:
        raise BadInput("no published claim bears this patient token", code="PATIENT_UNKNOWN")
    own: set[str] = set()
    for about, table in _split(ctx, practice, claims):
        if about:
            own |= _tokens(table)
    for about, table in _split(ctx, practice, claims):
        if not about:
            own -= _tokens(table)
    return sorted(own)


def shred(ctx: Context, practice: str, patient: str) -> int:
    """Shred what tokens_of() finds; returns how many values are gone. In the ledger before and after."""
    event = Event(
        action="delete",
        kind="vault.shred",
        purpose="operations",
        practice=practice,
        resource="vault",
        subject_token=patient,
    )
    with ctx.ledger.touch(event) as touch:
        gone = ctx.vault(practice).shred(tokens_of(ctx, practice, patient))
        touch.note(values=gone)
    return gone


def _split(ctx: Context, practice: str, claims: set[str]) -> Iterator[tuple[bool, pa.Table]]:
    """Every published table, as its rows about these claims (True) and its others."""
    wanted = pa.array(sorted(claims), pa.string())
    for object_name in ("claims", "notes", "remittances"):
        for tables in _published(ctx, practice, object_name):
            keys = None
            if object_name == "remittances":
                of_claims = tables["claims"]
                mine = pc.is_in(of_claims["claim_token"], value_set=wanted)
                keys = of_claims["claim_key"].filter(mine).combine_chunks()
            for table in tables.values():
                if "claim_token" in table.column_names:
                    about = pc.is_in(table["claim_token"], value_set=wanted)
                elif keys is not None and "claim_key" in table.column_names:
                    about = pc.is_in(table["claim_key"], value_set=keys)
                else:  # of payments and payers
                    about = pa.chunked_array([pa.array([False] * table.num_rows, pa.bool_())])
                yield True, table.filter(about)
                yield False, table.filter(pc.invert(about))


def _published(ctx: Context, practice: str, object_name: str) -> Iterator[dict[str, pa.Table]]:
    with db.transaction(ctx.db, practice) as connection:
        days = connection.scalars(
            sa.select(partitions.c.day)
            .where(
                partitions.c.practice == practice,
                partitions.c.object == object_name,
                partitions.c.published_uri.is_not(None),
            )
            .order_by(partitions.c.day)
        ).all()
    for day in days:
        yield deidentify.read(ctx, Partition(practice, object_name, day))


def _tokens(table: pa.Table) -> set[str]:
    found: set[str] = set()
    for name in table.column_names:
        if name.endswith("_token"):
            found |= {token for token in pc.unique(table[name]).to_pylist() if token is not None}
    if "text" in table.column_names:
        found |= {token for text in table["text"].to_pylist() for token in tokens_in(text)}
    return found
