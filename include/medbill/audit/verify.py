"""Reading the ledger back and recomputing all of it, apart from the code that writes it.

Rows and chains alone show any change, deletion, insertion, swap or reordering short of rewriting a chain to its end. The
checkpoints in write-once storage (`anchor`) show that too, for all rows that were sealed.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from medbill.audit.anchor import Anchor, Anchored
from medbill.audit.problems import Checker, Problem
from medbill.audit.scan import Chain, ends, scan
from medbill.audit.tables import CHAINS, checkpoints, heads, number, rows, unended
from medbill.store.db import transaction

_GUARDS = {("rows", "append_only"), ("heads", "append_only"), ("heads", "one_step"), ("checkpoints", "append_only")}
_ENOUGH = 200_000  # rows from which starting further processes pays
#: Rows may stay unsealed so long, and checkpoints be apart.
WINDOW = timedelta(minutes=5)
_GRACE = timedelta(seconds=30)  # what a checkpoint itself may take


@dataclass(frozen=True)
class Report:
    """rows read, chains checked, what is wrong. open_intents: touches that run now (too young to be a problem).

    warnings: late checkpoints and such, which lose nothing yet. checkpoints: those that were read; sealed: rows they cover.
    """

    rows: int
    chains: int
    problems: list[Problem] = field(default_factory=list)
    open_intents: int = 0
    warnings: list[Problem] = field(default_factory=list)
    checkpoints: int = 0
    sealed: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(
    db: sa.Engine,
    open_after: timedelta = timedelta(hours=6),
    anchor: Anchor | None = None,
    workers: int | None = None,
) -> Report:
    """Recompute every hash, link, chain and head, look for intents older than open_after without an outcome, and hold all of
    it against the checkpoints of the anchor.

    Reads one snapshot, in constant memory for the rows; writers are not held up, and the right to read is enough.
    workers: processes that recompute; by default one for each processor where there are many rows.
    Raises StoreUnavailable where it cannot read.
    """
    found = Anchored() if anchor is None else anchor.read()  # before the snapshot: no checkpoint may be ahead of it
    with transaction(db.execution_options(isolation_level="REPEATABLE READ")) as connection:
        now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        last = {row.chain: (row.seq, bytes(row.row_hash)) for row in connection.execute(sa.select(heads))}
        if anchor is not None:
            copies = connection.execute(sa.select(checkpoints.c.number, checkpoints.c.content)).all()
            found.compare({copy.number: bytes(copy.content) for copy in copies}, anchor)
        seals = ends(found.checkpoints)
        many = sum(seq for seq, _ in last.values()) >= _ENOUGH
        processes = workers or ((os.cpu_count() or 1) if many else 1)
        chains = _in_parallel(db, connection, seals, processes) if processes > 1 else scan(connection, range(16), seals)
        problems = [problem for chain in range(CHAINS) for problem in chains[chain].problems]
        problems += Checker({chain: walk.last for chain, walk in chains.items()}).end(last)
        problems += _strangers(connection)
        problems += _guards(connection)
        unmatched, open_intents = _intents(connection, open_after)
    problems += found.problems
    problems += _sealed(found, chains)
    warnings = list(found.warnings)
    if anchor is not None:
        warnings += _late(found, chains, now)
    return Report(
        rows=sum(walk.rows for walk in chains.values()),
        chains=CHAINS,
        problems=[*problems, *unmatched],
        open_intents=open_intents,
        warnings=warnings,
        checkpoints=len(found.checkpoints),
        sealed=found.checkpoints[-1].rows if found.checkpoints else 0,
    )


def _in_parallel(
    db: sa.Engine, connection: sa.Connection, seals: Sequence[Sequence[int]], processes: int
) -> dict[int, Chain]:
    """The chains shared out to processes that read the same snapshot."""
    snapshot = connection.execute(sa.text("SELECT pg_catalog.pg_export_snapshot()")).scalar_one()
    url = db.url.render_as_string(hide_password=False)
    found: dict[int, Chain] = {}
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_part, [(url, snapshot, chain, seals) for chain in range(CHAINS)]):
            found |= part
    return found


def _part(work: tuple[str, str, int, Sequence[Sequence[int]]]) -> dict[int, Chain]:
    url, snapshot, chain, seals = work
    engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, isolation_level="REPEATABLE READ")
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        return scan(connection, [chain], seals)


def _sealed(found: Anchored, chains: dict[int, Chain]) -> Iterator[Problem]:
    """The first checkpoint of each chain that the rows do not fit; all later ones follow from it."""
    for chain, walk in chains.items():
        before = 0
        for checkpoint in found.checkpoints:
            sealed = checkpoint.chains[chain]
            if sealed.seq <= before:
                continue
            before = sealed.seq
            got = walk.seals.get(sealed.seq)
            at = f"chain {chain}: rows sealed by checkpoint {checkpoint.number}"
            if got is None:
                yield Problem("SEALED_ROWS_MISSING", number(chain, sealed.seq), f"{at} are not there")
                break
            # behind a missing checkpoint nobody knows where its rows begin; the head covers all before it as well
            if got[0] != sealed.head or (checkpoint.number not in found.detached and got[1] != sealed.rows):
                yield Problem("SEALED_ROWS_CHANGED", number(chain, sealed.seq), f"{at} are not what they were")
                break


def _late(found: Anchored, chains: dict[int, Chain], now: datetime) -> Iterator[Problem]:
    for earlier, later in zip(found.checkpoints, found.checkpoints[1:], strict=False):
        if later.sealed_at - earlier.sealed_at > WINDOW + _GRACE and later.rows > earlier.rows:
            seconds = (later.sealed_at - earlier.sealed_at).total_seconds()
            yield Problem(
                "HEARTBEAT_MISSING",
                None,
                f"checkpoint {later.number} came {seconds:.0f} seconds after the one before it, with rows waiting",
            )
    waiting = min((walk.waiting for walk in chains.values() if walk.waiting), default=None)
    if waiting is not None and now - waiting > WINDOW + _GRACE:
        yield Problem(
            "UNSEALED",
            None,
            f"rows wait {(now - waiting).total_seconds():.0f} seconds for a checkpoint; is the sealer up?",
        )


def _strangers(connection: sa.Connection) -> Iterator[Problem]:
    for row in connection.execute(sa.select(rows.c.chain, rows.c.seq).where(~rows.c.chain.between(0, CHAINS - 1))):
        yield Problem("WRONG_CHAIN", number(row.chain, row.seq), f"chain {row.chain}: there is no such chain")


def _intents(connection: sa.Connection, open_after: timedelta) -> tuple[list[Problem], int]:
    other = rows.alias()
    open_rows = connection.execute(
        sa.select(rows.c.chain, rows.c.seq, (rows.c.recorded_at < sa.func.now() - open_after).label("late"))
        .where(unended())
        .order_by(rows.c.recorded_at)
    ).all()
    strays = connection.execute(
        sa.select(rows.c.chain, rows.c.seq).where(
            rows.c.intent.is_not(None),
            ~sa.exists().where(other.c.event_id == rows.c.intent, other.c.outcome == "intent"),
        )
    ).all()
    problems = [
        Problem(
            "INTENT_WITHOUT_OUTCOME",
            number(r.chain, r.seq),
            "protected data was reached for and nobody wrote how it ended; look into it, then `medbill audit abandon`",
        )
        for r in open_rows
        if r.late
    ]
    problems += [
        Problem("OUTCOME_WITHOUT_INTENT", number(r.chain, r.seq), "an outcome whose intent is not in the ledger")
        for r in strays
    ]
    return problems, sum(not r.late for r in open_rows)


def _guards(connection: sa.Connection) -> Iterator[Problem]:
    found = {
        (r.relname, r.tgname)
        for r in connection.execute(
            sa.text(
                "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
                " WHERE c.relnamespace = 'audit'::regnamespace AND t.tgenabled = 'A'"
            )
        )
    }
    for table, trigger in sorted(_GUARDS - found):
        yield Problem(
            "GUARD_DISABLED", None, f"trigger {trigger} on audit.{table} is off or gone; rows could be changed"
        )
