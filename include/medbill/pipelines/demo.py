"""What `make run` and `make demo` show: the DAGs driven to their end, then what they did, in counts and dollars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medbill.errors import MedbillError
from medbill.pipelines import scrub
from medbill.settings import Settings
from medbill.store import db
from medbill.store.objects import ObjectStore
from medbill.store.tables import holds, inbox_files, partitions, proposals, quarantine, results

if TYPE_CHECKING:
    from medbill.stack.api import Airflow, TaskState

#: In the order of the flow.
DAGS = (
    "extract_advancedmd",
    "extract_carecloud",
    "extract_drchrono",
    "extract_tebra",
    "receive_remittances",
    "deidentify",
    "scrub_claims",
    "post_payments",
    "triage_denials",
    "report_denials",
    "apply_proposals",
)
#: Files a user brings with `make demo` belong to this practice, which takes any payee.
OWN_FILES_PRACTICE = "demo"


class RunFailed(MedbillError):
    """A pipeline did not end well; its task logs say where."""

    code = "RUN_FAILED"


def run(
    airflow: Airflow,
    settings: Settings,
    *,
    era: Sequence[Path] = (),
    say: Callable[[str], None] = print,
    timeout: float = 900.0,
) -> None:
    """Drive all pipelines over what is in the inbox and print the summary.

    era: the user's own files, copied into the inbox of the practice `demo`. Raises RunFailed, StoreUnavailable.
    """
    began = datetime.now(UTC)
    inbox = ObjectStore(settings.inbox)
    for path in era:
        inbox.put(f"{OWN_FILES_PRACTICE}/{path.name}", path.read_bytes())
    airflow.wait_for_dags(DAGS, timeout)
    for dag in DAGS:
        airflow.unpause(dag)

    told: set[TaskState] = set()

    def tell(task: TaskState) -> None:
        if (
            task.state in ("running", "success", "failed", "skipped", "up_for_retry", "upstream_failed")
            and task not in told
        ):
            told.add(task)
            of_map = f"[{task.map_index}]" if task.map_index >= 0 else ""
            say(f"{task.dag_id}.{task.task_id}{of_map}: {task.state}")

    # claims before remittances, so that every payment finds its claim at once
    for together in (
        ("extract_drchrono", "extract_tebra", "extract_carecloud", "extract_advancedmd"),
        ("receive_remittances",),
    ):
        started = [(dag, airflow.trigger(dag)) for dag in together]
        say(f"{' and '.join(together)}: triggered")
        for dag, run_id in started:
            _succeeded(airflow.wait(dag, run_id, timeout, tell))
        for ended in airflow.wait_until_idle(DAGS, began, timeout, tell):
            _succeeded(ended)
    for line in summary(settings):
        say(line)


def _succeeded(run: Any) -> None:
    if run.state != "success":
        raise RunFailed(f"{run.dag_id} ended {run.state} (run {run.run_id}); see its task logs in the UI")


def summary(settings: Settings) -> list[str]:
    """What was read, published, quarantined, held and proposed, per practice, and where the newest report is."""
    engine = db.engine(settings.database_url)
    lines: list[str] = []
    for practice in settings.practices():
        with db.transaction(engine, practice.id) as connection:
            found = _of_practice(connection, practice.id)
        reports = sorted((settings.reports / practice.id / "denials").glob("*/*.html"))
        if found and reports:
            found.append(f"{'denial report':<18} {reports[-1]}")
        lines += found
    return lines or ["nothing was read: the inbox is empty"]


def _of_practice(connection: sa.Connection, practice: str) -> list[str]:
    files: dict[str, int] = dict(
        connection.execute(
            sa.select(inbox_files.c.status, sa.func.count())
            .where(inbox_files.c.practice == practice)
            .group_by(inbox_files.c.status)
        ).all()
    )

    def counts_of(object_name: str) -> Sequence[dict[str, Any]]:
        query = sa.select(partitions.c.counts).where(
            partitions.c.practice == practice, partitions.c.object == object_name
        )
        return connection.execute(query).scalars().all()

    counts, of_notes, billed = counts_of("remittances"), counts_of("notes"), counts_of("claims")

    def total(rows: Sequence[dict[str, Any]], key: str) -> int:
        return sum(int(r.get(key, 0)) for r in rows)

    def money(rows: Sequence[dict[str, Any]], key: str) -> Decimal:
        return sum((Decimal(r.get(key, "0")) for r in rows), Decimal(0))

    extracted = [_line("claims extracted", total(billed, "claims_landed"), money(billed, "charge_in"), "billed")]
    extracted += _scrubbed(connection, practice)
    if not files:
        return [f"--- {practice} ---", *extracted] if billed else []
    refused = connection.execute(
        sa.select(
            quarantine.c.reason_code, sa.func.count(), sa.func.sum(quarantine.c.claims), sa.func.sum(quarantine.c.paid)
        )
        .where(quarantine.c.practice == practice, quarantine.c.status == "open")
        .group_by(quarantine.c.reason_code)
        .order_by(quarantine.c.reason_code)
    ).all()
    held = connection.execute(
        sa.select(holds.c.reason_code, sa.func.count(), sa.func.coalesce(sa.func.sum(holds.c.paid), 0))
        .where(holds.c.practice == practice, holds.c.status == "open")
        .group_by(holds.c.reason_code)
        .order_by(holds.c.reason_code)
    ).all()
    proposed = connection.execute(
        sa.select(proposals.c.kind, sa.func.count(), sa.func.sum(proposals.c.amount))
        .where(proposals.c.practice == practice)
        .group_by(proposals.c.kind)
        .order_by(proposals.c.kind)
    ).all()
    posted = (
        connection.execute(
            sa.select(results.c.counts).where(results.c.practice == practice, results.c.kind == "postings")
        )
        .scalars()
        .all()
    )

    out = [
        f"--- {practice} ---",
        *extracted,
        f"{'files':<18} {sum(files.values())} ({', '.join(f'{n} {status}' for status, n in sorted(files.items()))})",
        _line("claims read", total(counts, "claims_in"), money(counts, "paid_in"), "paid"),
        _line("  published", total(counts, "claims_published"), money(counts, "paid_landed"), "paid"),
        _line("  quarantined", total(counts, "claims_quarantined"), money(counts, "paid_quarantined"), "paid"),
        _line("postings", total(posted, "postings"), money(posted, "paid_posted"), "paid"),
        _line("held for a person", total(posted, "held"), money(posted, "paid_held"), "paid"),
    ]
    read, published, stayed = (total(of_notes, f"notes_{what}") for what in ("landed", "published", "quarantined"))
    if read:
        out.append(f"{'notes':<30} {read:>6}   {published} de-identified and published, {stayed} for a person")
    out += [
        f"    quarantine {code:<24} {n:>5}   {claims:>5} claims {paid:>12,.2f} paid"
        for code, n, claims, paid in refused
    ]
    out += [f"    hold       {code:<24} {n:>5}                {paid:>12,.2f} paid" for code, n, paid in held]
    out += [_line(f"proposed {kind.replace('_', ' ')}", n, amount, "") for kind, n, amount in proposed]
    return out


def _scrubbed(connection: sa.Connection, practice: str) -> list[str]:
    counted = scrub.status_of(connection, practice)
    if counted is None:
        return []
    waiting = f", {counted.held} wait for reference tables" if counted.held else ""
    return [
        f"{'claims checked':<30} {counted.claims:>6}   {counted.clean} clean ({counted.clean_rate} %), "
        f"{counted.needs_review + counted.failed} for a coder{waiting}"
    ]


def _line(label: str, count: int, dollars: Decimal, of: str) -> str:
    return f"{label:<30} {count:>6}   {dollars:>14,.2f} {of}".rstrip()
