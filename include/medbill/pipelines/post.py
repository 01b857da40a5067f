"""post_payments: published remittances are matched to the practice's claims; out come posting proposals, holds, disputes."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.model.published import PUBLISHED_CLAIM_LINES, PUBLISHED_CLAIMS
from medbill.pipelines import deidentify, payments, results
from medbill.pipelines.context import Context, Partition, column_sum
from medbill.proposals import lifecycle
from medbill.proposals.lifecycle import Draft
from medbill.rules import carc, contracts, posting
from medbill.store import db
from medbill.store.tables import holds, partitions, quarantine
from medbill.store.tables import results as results_table

POSTINGS_VERSION = "1"
_EXPIRE_AFTER = timedelta(days=90)


def pending(ctx: Context) -> list[Partition]:
    """Remittance partitions to (re)post: published since their last posting, with open holds that the practice's claims of
    now may resolve, or with payments of which another transaction counts than at their last posting."""
    with db.transaction(ctx.db, db.EVERY_PRACTICE) as connection:
        published = connection.execute(
            sa.select(partitions.c.practice, partitions.c.day, partitions.c.content_hash)
            .where(partitions.c.object == "remittances", partitions.c.published_version.is_not(None))
            .order_by(partitions.c.practice, partitions.c.day)
        ).all()
        done = {
            (r.practice, r.day): r.counts
            for r in connection.execute(
                sa.select(results_table.c.practice, results_table.c.day, results_table.c.counts).where(
                    results_table.c.kind == "postings"
                )
            )
        }
        waiting = set(
            connection.execute(
                sa.select(holds.c.practice, holds.c.day)
                .where(holds.c.status == "open", holds.c.reason_code.in_(posting.OF_PRACTICE_CLAIMS))
                .distinct()
            )
        )
    practices = {p.practice for p in published}
    claims_state = {practice: _claims_state(ctx, practice) for practice in practices}
    repeated = {practice: payments.repeats(ctx, practice) for practice in practices}
    return [
        Partition(p.practice, "remittances", p.day)
        for p in published
        if (p.practice, p.day) not in done
        or done[p.practice, p.day].get("input") != p.content_hash
        or done[p.practice, p.day].get("repeated", "") != payments.state(repeated[p.practice].get(p.day))
        or (
            (p.practice, p.day) in waiting
            and done[p.practice, p.day].get("practice_claims") != claims_state[p.practice]
        )
    ]


def post(ctx: Context, partition: Partition) -> dict[str, Any] | None:
    """Post one remittance partition; returns its counts, None where nothing is published.

    The same input gives the same result rows, holds and proposal ids. A proposal nobody decided on whose claim is held by
    now is withdrawn.
    """
    # before anything is read: what is published meanwhile is then still to be posted, says pending()
    input_hash, claims_state = _content_hash(ctx, partition), _claims_state(ctx, partition.practice)
    remittance = deidentify.read(ctx, partition)
    if not remittance:
        return None
    practice = ctx.settings.practice(partition.practice)
    repeated = payments.claim(ctx, partition, remittance["remittances"]["remittance_key"].to_pylist())
    claims = published_claims(ctx, partition.practice, remittance["claims"]["claim_token"])
    categories = carc.load(ctx.settings.policies)
    agreed = contracts.load(ctx.settings.policies)
    matched = posting.match(remittance, claims, practice, categories, _quarantined(ctx, partition), repeated)
    short = contracts.underpayments(remittance, matched.postings, matched.lines, agreed)
    written = results.write(
        ctx,
        partition.practice,
        "postings",
        partition.day,
        {"postings": matched.postings, "lines": matched.lines, "holds": matched.holds, "underpayments": short},
    )
    drafts = _posting_drafts(partition, matched.postings, matched.lines) + _dispute_drafts(partition, short)
    counts: dict[str, Any] = {
        "claims": remittance["claims"].num_rows,
        "postings": matched.postings.num_rows,
        "held": matched.holds.num_rows,
        "underpaid_lines": short.num_rows,
        "paid_posted": str(column_sum(matched.postings, "paid")),
        "paid_held": str(column_sum(matched.holds, "paid")),
        "underpaid": str(column_sum(short, "variance")),
    }
    with db.transaction(ctx.db, partition.practice) as connection:
        proposed = lifecycle.propose(connection, drafts)
        facts.wrote(dataset("proposals"), len(drafts))
        lifecycle.withdraw(connection, partition.practice, partition.day, ("posting", "underpayment_dispute"), drafts)
        _hold(connection, partition, matched.holds)
        results.point(
            connection,
            partition.practice,
            "postings",
            partition.day,
            written,
            {**counts, "input": input_hash, "practice_claims": claims_state, "repeated": payments.state(repeated)},
        )
    return {
        "day": partition.day.isoformat(),
        **counts,
        "new": proposed.new,
        "unchanged": proposed.unchanged,
        "revised": proposed.revised,
    }


def published_claims(ctx: Context, practice: str, tokens: pa.ChunkedArray) -> dict[str, pa.Table]:
    """The practice's published claims among the given claim tokens, with their lines, over all service days."""
    wanted = pc.unique(pc.drop_null(tokens))
    with db.transaction(ctx.db, practice) as connection:
        days = (
            connection.execute(
                sa.select(partitions.c.day)
                .where(
                    partitions.c.practice == practice,
                    partitions.c.object == "claims",
                    partitions.c.published_uri.is_not(None),
                )
                .order_by(partitions.c.day)
            )
            .scalars()
            .all()
        )
    claims, lines = [PUBLISHED_CLAIMS.empty_table()], [PUBLISHED_CLAIM_LINES.empty_table()]
    for day in days:
        tables = deidentify.read(ctx, Partition(practice, "claims", day))
        claims.append(tables["claims"].filter(pc.is_in(tables["claims"]["claim_token"], value_set=wanted)))
        lines.append(tables["claim_lines"].filter(pc.is_in(tables["claim_lines"]["claim_token"], value_set=wanted)))
    return {
        "claims": pa.concat_tables(claims).combine_chunks(),
        "claim_lines": pa.concat_tables(lines).combine_chunks(),
    }


def _content_hash(ctx: Context, partition: Partition) -> str | None:
    """The hash of what is published of a partition now."""
    with db.transaction(ctx.db, partition.practice) as connection:
        found: str | None = connection.execute(
            sa.select(partitions.c.content_hash).where(*partition.where(partitions))
        ).scalar()
    return found


def _claims_state(ctx: Context, practice: str) -> str:
    """One hash over everything published of the practice's claims."""
    with db.transaction(ctx.db, practice) as connection:
        state: str = connection.execute(
            sa.select(
                sa.func.md5(
                    sa.func.coalesce(
                        sa.func.string_agg(
                            partitions.c.content_hash,
                            sa.dialects.postgresql.aggregate_order_by(sa.literal(","), partitions.c.day),
                        ),
                        "",
                    )
                )
            ).where(
                partitions.c.practice == practice,
                partitions.c.object == "claims",
                partitions.c.published_uri.is_not(None),
            )
        ).scalar_one()
    return state


def _quarantined(ctx: Context, partition: Partition) -> dict[str, int]:
    """Claims in quarantine per remittance key: their deposit is posted in part."""
    with db.transaction(ctx.db, partition.practice) as connection:
        keys = (
            connection.execute(
                sa.select(quarantine.c.record_key).where(
                    quarantine.c.practice == partition.practice,
                    quarantine.c.day == partition.day,
                    quarantine.c.level == "claim",
                    quarantine.c.status == "open",
                )
            )
            .scalars()
            .all()
        )
    counts: dict[str, int] = defaultdict(int)
    for key in keys:
        counts[key.rsplit("-", 1)[0]] += 1
    return dict(counts)


def _hold(connection: sa.Connection, partition: Partition, held: pa.Table) -> None:
    rows = [
        {
            "practice": partition.practice,
            "day": partition.day,
            "claim_key": h["claim_key"],
            "claim_token": h["claim_token"],
            "reason_code": h["reason_code"],
            "reason": h["reason"],
            "charge": h["charge"],
            "paid": h["paid"],
            "status": "open",
        }
        for h in held.to_pylist()
    ]
    connection.execute(
        sa.update(holds)
        .where(
            holds.c.practice == partition.practice,
            holds.c.day == partition.day,
            holds.c.status == "open",
            holds.c.claim_key.not_in([r["claim_key"] for r in rows]),
        )
        .values(status="resolved")
    )
    if rows:
        statement = insert(holds)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["practice", "claim_key"],
                set_={
                    c: statement.excluded[c]
                    for c in ("claim_token", "reason_code", "reason", "charge", "paid", "status")
                },
                where=sa.or_(holds.c.reason_code != statement.excluded.reason_code, holds.c.status == "resolved"),
            ),
            rows,
        )


def _plain(value: Any) -> Any:
    """JSON form of a cell: amounts and dates as strings."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    return [_plain(v) for v in value] if isinstance(value, list) else value


def rows(table: pa.Table, drop: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [{k: _plain(v) for k, v in row.items() if k not in drop} for row in table.to_pylist()]


def by_claim(table: pa.Table, drop: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(table, drop):
        grouped[row.pop("claim_key")].append(row)
    return grouped


def _posting_drafts(partition: Partition, postings: pa.Table, lines: pa.Table) -> list[Draft]:
    of_claim = by_claim(lines)
    drafts = []
    for p in rows(postings):
        verb = "Reverse" if p["is_reversal"] else "Post"
        drafts.append(
            Draft(
                practice=partition.practice,
                kind="posting",
                day=partition.day,
                claim_token=p["claim_token"],
                business_key=p["claim_key"],
                title=f"{verb} payment of {p['paid']} from {p['payer_name'] or 'payer'}",
                amount=Decimal(p["paid"]),
                priority=20,
                payload={"posting": p, "lines": of_claim[p["claim_key"]]},
                expires_on=partition.day + _EXPIRE_AFTER,
            )
        )
    return drafts


def _dispute_drafts(partition: Partition, underpayments: pa.Table) -> list[Draft]:
    drafts = []
    for key, lines in by_claim(underpayments).items():
        variance = sum((Decimal(line["variance"]) for line in lines), Decimal(0))
        drafts.append(
            Draft(
                practice=partition.practice,
                kind="underpayment_dispute",
                day=partition.day,
                claim_token=lines[0]["claim_token"],
                business_key=key,
                title=f"Dispute underpayment of {variance} by {lines[0]['payer_name'] or 'payer'}",
                amount=variance,
                priority=30 if variance >= 50 else 20,
                payload={"claim_key": key, "lines": lines},
                expires_on=partition.day + _EXPIRE_AFTER,
            )
        )
    return drafts
