"""Which payment a remittance reports, so that one sent again in other bytes is proposed once.

A payer's trace number (TRN02) identifies its payment (X12N 005010X221A1, section 1.10.2.3: reassociation), whatever file
or interchange carries it. The order in which files were taken is written down with them, in their own transaction: of
several transactions with one identity the first that passed gate 1 counts, in whatever order days are processed. Once it
was handed to posting it counts for good. The others are held, never dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event
from medbill.deid.vault import normalised
from medbill.pipelines import keys
from medbill.pipelines.context import Context, Partition
from medbill.store import db
from medbill.store.tables import inbox_files, payments, quarantine
from medbill.x12 import era

REPEATED, CHANGED = "PAYMENT_REPEATED", "PAYMENT_CHANGED"

#: What is paid, and for what: a second transmission that agrees in all of this is the same. Left out: control numbers and
#: dates of envelopes, DTM*405, names of people, and the order of claims.
_PAYMENT = ("payment_amount", "credit_debit", "payment_date", "payee_npi", "payee_tax_id")
_CLAIM = (
    "patient_control_number",
    "claim_status",
    "charge",
    "paid",
    "patient_responsibility",
    "payer_claim_control_number",
    "frequency_code",
)
_LINE = ("procedure_code", "modifiers", "charge", "paid", "paid_units", "line_control_number")
_ADJUSTMENT = ("group_code", "reason_code", "amount", "quantity")
_PROVIDER = ("provider_id", "reason_code", "reference", "amount")


def identify(ctx: Context, practice: str, sha256: str, tables: dict[str, pa.Table]) -> list[dict[str, Any]]:
    """Rows of table payments for one file as the reader gave it, one per transaction, in the order of the file."""
    ctx.envelopes.data_key(practice, "payments")  # made where there is none
    key = ctx.envelopes.data_key(practice, "payments", 1)[1]  # the first for good: identities must stay comparable
    content = _contents(tables)
    rows = []
    for ordinal, remittance in enumerate(tables["remittances"].to_pylist()):
        payer = normalised(remittance["payer_id"] or remittance["payer_name"] or "")
        trace = normalised(remittance["trace_number"] or "")
        paid = content[remittance["remittance_index"]]
        rows.append(
            {
                "practice": practice,
                "remittance_key": keys.remittance_key(sha256, ordinal),
                "file_sha256": sha256,
                # without a trace number only the same content can be told to be the same payment
                "identity": _mac(key, ["trace", payer, trace] if trace else ["content", payer, paid]),
                "content": _mac(key, ["content", payer, paid]),
            }
        )
    return rows


def enter(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Write payments down in their order; those that are there stay."""
    for row in rows:  # one by one: their sequence is their order
        connection.execute(insert(payments).values(**row).on_conflict_do_nothing())


def enter_missing(ctx: Context, practice: str) -> int:
    """Enter the payments of files that landed before payments were written down; returns the number of files."""
    with db.transaction(ctx.db, practice) as connection:
        files = (
            connection.execute(
                sa.select(inbox_files.c.sha256)
                .where(
                    inbox_files.c.practice == practice,
                    inbox_files.c.status == "landed",
                    inbox_files.c.purged_at.is_(None),
                    ~sa.exists().where(
                        payments.c.practice == inbox_files.c.practice, payments.c.file_sha256 == inbox_files.c.sha256
                    ),
                )
                .order_by(inbox_files.c.created_at, inbox_files.c.sha256)
            )
            .scalars()
            .all()
        )
    for sha256 in files:
        rows = of_sealed(ctx, practice, sha256)
        with db.transaction(ctx.db, practice) as connection:
            enter(connection, rows)
    return len(files)


def of_sealed(ctx: Context, practice: str, sha256: str) -> list[dict[str, Any]]:
    """Rows of table payments for a file that is sealed in the landing zone."""
    event = Event(
        action="read",
        kind="landing.read",
        purpose="payment",
        practice=practice,
        resource=f"file:{sha256}",
        source_hash=sha256,
    )
    with ctx.ledger.touch(event):
        read = era.read([ctx.landed_file(practice, sha256)])
        return identify(ctx, practice, sha256, {name: read.table(name) for name in era.TABLES})


def repeats(ctx: Context, practice: str) -> dict[Any, dict[str, str]]:
    """By day: remittance key -> hold reason, of the payments that came before as another transaction."""
    with db.transaction(ctx.db, practice) as connection:
        several = (
            sa.select(payments.c.identity)
            .where(payments.c.practice == practice)
            .group_by(payments.c.identity)
            .having(sa.func.count() > 1)
        )
        found = _decide(_rows(connection, practice, several))
    by_day: dict[Any, dict[str, str]] = defaultdict(dict)
    for day, key, reason in found:
        by_day[day][key] = reason
    return dict(by_day)


def claim(ctx: Context, partition: Partition, remittance_keys: Collection[str]) -> dict[str, str]:
    """The partition's repeated payments, as repeats(), before it is posted; the others among remittance_keys are its own.

    They are marked as posted under a lock before anything is made of them, so of two runs over two days with one payment,
    whatever their gates say meanwhile, one has it.
    """
    with db.transaction(ctx.db, partition.practice) as connection:
        mine = (
            sa.select(payments.c.identity)
            .join(inbox_files, _of_file())
            .where(payments.c.practice == partition.practice, inbox_files.c.day == partition.day)
        )
        connection.execute(
            sa.select(payments.c.remittance_key)
            .where(payments.c.practice == partition.practice, payments.c.identity.in_(mine))
            .order_by(payments.c.sequence)
            .with_for_update(of=payments)
        )
        found = {
            key: reason
            for day, key, reason in _decide(_rows(connection, partition.practice, mine))
            if day == partition.day
        }
        connection.execute(
            sa.update(payments)
            .where(
                payments.c.practice == partition.practice,
                payments.c.remittance_key.in_(sorted(set(remittance_keys) - found.keys())),
                ~payments.c.posted,
            )
            .values(posted=True)
        )
    return found


def state(found: dict[str, str] | None) -> str:
    """One hash over a day's repeated payments; empty where there are none."""
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest() if found else ""


def _of_file() -> sa.ColumnElement[bool]:
    return sa.and_(inbox_files.c.practice == payments.c.practice, inbox_files.c.sha256 == payments.c.file_sha256)


def _rows(connection: sa.Connection, practice: str, identities: sa.Select[Any]) -> list[Any]:
    """All transactions of these identities; refused: gate 1 has the whole transaction in quarantine."""
    refused = sa.exists().where(
        quarantine.c.practice == payments.c.practice,
        quarantine.c.record_key == payments.c.remittance_key,
        quarantine.c.level == "transaction",
        quarantine.c.status == "open",
    )
    query = (
        sa.select(
            payments.c.identity,
            payments.c.remittance_key,
            payments.c.content,
            payments.c.posted,
            inbox_files.c.day,
            refused.label("refused"),
        )
        .join(inbox_files, _of_file())
        .where(payments.c.practice == practice, payments.c.identity.in_(identities))
        .order_by(payments.c.posted.desc(), payments.c.sequence)
    )
    return list(connection.execute(query))


def _decide(rows: Iterable[Any]) -> list[tuple[Any, str, str]]:
    """(day, remittance key, reason) of every transaction that is not the one that counts, given in order."""
    first: dict[str, Any] = {}
    found = []
    for row in rows:
        if row.refused and not row.posted:
            continue  # in quarantine as a whole: it is nobody's payment, and has no claims to hold
        known = first.setdefault(row.identity, row)
        if known is not row:
            found.append((row.day, row.remittance_key, REPEATED if row.content == known.content else CHANGED))
    return found


def _contents(tables: dict[str, pa.Table]) -> dict[int, str]:
    """Per remittance_index the text of what is paid, the same for every order of claims, lines and adjustments."""
    of_line: dict[Any, list[str]] = defaultdict(list)
    of_claim: dict[Any, list[str]] = defaultdict(list)
    of_payment: dict[Any, list[str]] = defaultdict(list)
    for row in _part(tables["adjustments"], _ADJUSTMENT, "claim_index", "line_index"):
        claim_index, line_index, text = row
        (of_claim[claim_index] if line_index is None else of_line[line_index]).append(f"A{text}")
    for claim_index, line_index, text in _part(tables["service_lines"], _LINE, "claim_index", "line_index"):
        of_claim[claim_index].append(f"L{text}{sorted(of_line[line_index])}")
    for index, claim_index, text in _part(tables["claims"], _CLAIM, "remittance_index", "claim_index"):
        of_payment[index].append(f"C{text}{sorted(of_claim[claim_index])}")
    for index, _, text in _part(tables["provider_adjustments"], _PROVIDER, "remittance_index", "remittance_index"):
        of_payment[index].append(f"P{text}")
    return {
        index: hashlib.sha256(f"{text}{sorted(of_payment[index])}".encode()).hexdigest()
        for index, _, text in _part(tables["remittances"], _PAYMENT, "remittance_index", "remittance_index")
    }


def _part(table: pa.Table, columns: tuple[str, ...], *parents: str) -> Iterable[tuple[Any, Any, str]]:
    values = [table[c].to_pylist() for c in columns]
    texts = (
        json.dumps([v if v is None or isinstance(v, list) else str(v).strip() for v in row], ensure_ascii=False)
        for row in zip(*values, strict=True)
    )
    return zip(*(table[p].to_pylist() for p in parents), texts, strict=True)


def _mac(key: bytes, parts: list[str]) -> str:
    return hmac.new(key, json.dumps(parts, ensure_ascii=False).encode(), hashlib.sha256).hexdigest()
