"""Crypto-shredding of one patient: every token that stands in rows about that patient, and in no other row, goes dead.

The rows are found in all published versions, superseded ones too: the claims of the patient token, their lines and notes,
and the remittances of these claims; what purged versions held stands in table token_traces. A token that another patient's
rows bear as well (a first name, a family's member number) stays alive. What was landed goes first, while the vault can
still say what to look for (medbill.pipelines.shred_landed); broken off, it is taken up again by the same command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from medbill.audit.ledger import Event
from medbill.deid.reidentify import tokens_in
from medbill.deid.vault import is_token, token_kind
from medbill.errors import BadInput, DecisionRefused
from medbill.pipelines import results, retention_policy, shred_landed
from medbill.pipelines.context import Context
from medbill.store import db
from medbill.store.tables import token_traces


@dataclass(frozen=True)
class Shredded:
    """values: of the vault. objects: landed ones that went before their time. rewritten: sealed anew without the patient."""

    values: int
    objects: int
    rewritten: int


def tokens_of(ctx: Context, practice: str, patient: str) -> list[str]:
    """The tokens that only this patient's rows bear, of every published version, sorted.

    Raises BadInput where patient is not the token of a patient with a claim that is or was published.
    """
    if not is_token(patient) or token_kind(patient) != "PATIENT":
        raise BadInput("name the patient by a PATIENT token of the published claims", code="NOT_A_PATIENT_TOKEN")
    with db.transaction(ctx.db, practice) as connection:
        of_patient = sa.select(token_traces.c.claim_token).where(
            token_traces.c.practice == practice, token_traces.c.token == patient
        )
        claims = set(connection.scalars(of_patient))
    for tables in _versions(ctx, practice, "claims"):
        mine = tables["claims"].filter(pc.fill_null(pc.equal(tables["claims"]["patient_token"], patient), False))
        claims |= set(mine["claim_token"].to_pylist())
    if not claims:
        raise BadInput("no published claim bears this patient token", code="PATIENT_UNKNOWN")
    own: set[str] = set()
    with db.transaction(ctx.db, practice) as connection:
        for some in _hundreds(claims):
            own |= set(
                connection.scalars(
                    sa.select(token_traces.c.token).where(
                        token_traces.c.practice == practice, token_traces.c.claim_token.in_(some)
                    )
                )
            )
    for about, table in _split(ctx, practice, claims):
        if about:
            own |= _tokens(table)
    for about, table in _split(ctx, practice, claims):
        if not about:
            own -= _tokens(table)
    with db.transaction(ctx.db, practice) as connection:
        for some in _hundreds(own):
            others = sa.select(token_traces.c.token).where(
                token_traces.c.practice == practice,
                token_traces.c.token.in_(some),
                token_traces.c.claim_token.not_in(claims),
            )
            own -= set(connection.scalars(others))
    return sorted(own)


def shred(ctx: Context, practice: str, patient: str) -> Shredded:
    """Shred what tokens_of() finds, and every landed object that holds one of its values. In the ledger before and after.

    Raises DecisionRefused (SHRED_INCOMPLETE) where some hold the patient and are still needed: what could go is gone, the
    vault is untouched, and the same call takes up the rest.
    """
    policy = retention_policy.load(ctx.settings.policies / "retention.yml")
    event = Event(
        action="delete",
        kind="vault.shred",
        purpose="operations",
        practice=practice,
        resource="vault",
        subject_token=patient,
        details={"policy": policy.version, "policy_hash": policy.hash},
    )
    with ctx.ledger.touch(event) as touch:
        vault = ctx.vault(practice)
        own = tokens_of(ctx, practice, patient)
        values = shred_landed.Values(vault.reveal(vault.alive(own)).values())
        landed = shred_landed.shred(ctx, policy, practice, values, datetime.now(UTC))
        touch.note(objects=landed.objects, rewritten=landed.rewritten, needed=landed.needed)
        if landed.needed:
            raise DecisionRefused(
                f"{landed.needed} landed object(s) hold this patient and are still needed: publish what is pending, release "
                "or reject held files, lift the legal hold, then shred again; the vault was left as it is",
                code="SHRED_INCOMPLETE",
            )
        gone = vault.shred(own)
        touch.note(values=gone)
    return Shredded(gone, landed.objects, landed.rewritten)


def _hundreds(items: set[str]) -> Iterator[list[str]]:
    ordered = sorted(items)
    for start in range(0, len(ordered), 500):
        yield ordered[start : start + 500]


def _split(ctx: Context, practice: str, claims: set[str]) -> Iterator[tuple[bool, pa.Table]]:
    """Every table of every published version, as its rows about these claims (True) and its others."""
    wanted = pa.array(sorted(claims), pa.string())
    for object_name in ("claims", "notes", "remittances"):
        for tables in _versions(ctx, practice, object_name):
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


def _versions(ctx: Context, practice: str, object_name: str) -> Iterator[dict[str, pa.Table]]:
    """Every published version of every day that is stored, superseded ones too, one at a time."""
    before = None
    for entry in ctx.objects.entries(f"deid/{practice}/{object_name}/"):
        folder = entry.key.rpartition("/")[0]
        if folder != before:
            yield results.load(ctx, folder)
        before = folder


def _tokens(table: pa.Table) -> set[str]:
    found: set[str] = set()
    for name in table.column_names:
        if name.endswith("_token"):
            found |= {token for token in pc.unique(table[name]).to_pylist() if token is not None}
    if "text" in table.column_names:
        found |= {token for text in table["text"].to_pylist() for token in tokens_in(text)}
    return found
