"""triage_denials, the rules half: every denial of a partition gets category, action, deadline, recoverable dollars, rank."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.pipelines import deidentify, post, results
from medbill.pipelines.context import Context, Partition, column_sum
from medbill.proposals import lifecycle
from medbill.proposals.lifecycle import Draft
from medbill.rules import carc, contracts, deadlines, denials
from medbill.store import db
from medbill.store.tables import results as results_table

_URGENT = timedelta(days=14)


def pending(ctx: Context) -> list[Partition]:
    """Posted partitions whose denials were not drawn from that posting."""
    with db.transaction(ctx.db, db.EVERY_PRACTICE) as connection:
        rows = connection.execute(
            sa.select(
                results_table.c.practice,
                results_table.c.kind,
                results_table.c.day,
                results_table.c.content_hash,
                results_table.c.counts,
            ).where(results_table.c.kind.in_(["postings", "denials"]))
        ).all()
    done = {(r.practice, r.day): r.counts.get("input") for r in rows if r.kind == "denials"}
    return [
        Partition(r.practice, "remittances", r.day)
        for r in sorted(rows, key=lambda r: (r.practice, r.day))
        if r.kind == "postings" and done.get((r.practice, r.day)) != r.content_hash
    ]


def triage(ctx: Context, partition: Partition) -> dict[str, Any] | None:
    """Triage one partition; returns its counts, None where nothing is posted.

    Denials that cannot be acted on are reported but not proposed.
    """
    # before the posting is read: one made meanwhile is then still pending
    with db.transaction(ctx.db, partition.practice) as connection:
        posting_hash = connection.execute(
            sa.select(results_table.c.content_hash).where(
                results_table.c.practice == partition.practice,
                results_table.c.kind == "postings",
                results_table.c.day == partition.day,
            )
        ).scalar()
    remittance = deidentify.read(ctx, partition)
    posted = results.read(ctx, partition.practice, "postings", partition.day, partition.day)
    if not remittance or not posted:
        return None
    found = denials.triage(
        remittance,
        posted["lines"][0],
        carc.load(ctx.settings.policies),
        deadlines.load(ctx.settings.policies),
        contracts.load(ctx.settings.policies),
    )
    written = results.write(ctx, partition.practice, "denials", partition.day, {"denials": found})
    counts = {
        "denials": found.num_rows,
        "denied": str(column_sum(found, "denied")),
        "recoverable": str(column_sum(found, "recoverable")),
    }
    drafts = _drafts(partition, found)
    with db.transaction(ctx.db, partition.practice) as connection:
        proposed = lifecycle.propose(connection, drafts)
        facts.wrote(dataset("proposals"), len(drafts))
        lifecycle.withdraw(connection, partition.practice, partition.day, ("denial_follow_up",), drafts)
        results.point(
            connection, partition.practice, "denials", partition.day, written, {**counts, "input": posting_hash}
        )
    return {
        "day": partition.day.isoformat(),
        **counts,
        "new": proposed.new,
        "unchanged": proposed.unchanged,
        "revised": proposed.revised,
    }


def _drafts(partition: Partition, found: Any) -> list[Draft]:
    drafts = []
    for key, lines in post.by_claim(found).items():
        recoverable = sum((Decimal(line["recoverable"]) for line in lines), Decimal(0))
        if recoverable <= 0:
            continue
        first = min(lines, key=lambda line: (line["priority"], line["denial_key"]))
        due = min((line["deadline"] for line in lines if line["deadline"]), default=None)
        drafts.append(
            Draft(
                practice=partition.practice,
                kind="denial_follow_up",
                day=partition.day,
                claim_token=first["claim_token"],
                business_key=key,
                title=f"{first['category'].replace('_', ' ').capitalize()} denial by {first['payer_name'] or 'payer'}: {first['action'].replace('_', ' ')}",
                amount=recoverable,
                priority=30 if recoverable >= 100 else 20,
                payload={
                    "claim_key": key,
                    "recoverable": str(recoverable),
                    "deadline": due,
                    "denials": [{k: v for k, v in line.items() if k != "priority"} for line in lines],
                },
                expires_on=None,
            )
        )
    return drafts
