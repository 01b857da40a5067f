"""The claim scrubber at full table size, beside a hand-written DuckDB query and a pandas merge of the same PTP and MUE rules.

    python benchmarks/rules.py [--lines 1000000] [--folder DIR]

load      2 million PTP rows in the official layout, from four zips to the object store
bare      one DuckDB query a human would write: PTP (indicator, dates, modifiers, sites) and MUE (line and day), no evidence
pandas    the same by merges
ours      PTP and MUE with evidence, then every rule; also on a tenth of the lines, and one claim again and again

Every contestant runs in a process of its own on the same lines and tables, on two threads, tables already in memory; peak
memory is the process's, tables included. The counts of findings must agree. --folder keeps the tables between runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "include"
sys.path.insert(0, str(INCLUDE))

from medbill.model.scrub import SCRUB_CLAIMS, SCRUB_LINES  # noqa: E402
from medbill.rules.reference import load  # noqa: E402
from medbill.rules.reference.tables import Reference  # noqa: E402
from medbill.rules.scrub.engine import Scrubber  # noqa: E402
from medbill.rules.scrub.policy import load_payer_rules, load_policy  # noqa: E402
from medbill.store.objects import ObjectStore  # noqa: E402

AS_OF = date(2026, 10, 15)
LINES_A_CLAIM = 3.3


def claims_of(lines: int, seed: int = 5) -> tuple[pa.Table, pa.Table]:
    """Claims of three lines or so: a third with a visit, a fifth of the lines with a modifier, two claims a patient."""
    draw = np.random.default_rng(seed)
    make = runpy.run_path(str(ROOT / "tests" / "rules_reference.py"))
    codes = pa.array([*make["invented"](8_000), "99213", "99214"])
    diagnoses = pa.array(make["diagnoses"](72_000))
    count = round(lines / LINES_A_CLAIM)
    of = np.sort(draw.integers(0, count, lines)).astype(np.int32)
    position = (np.arange(lines) - np.searchsorted(of, of)).astype(np.int32) + 1
    day = np.datetime64("2026-07-01") + draw.integers(0, 92, count)
    npis = pa.array([_npi(n) for n in range(400)])
    provider = draw.integers(0, 400, count)
    code = np.where(
        (position == 1) & (draw.random(lines) < 0.33),
        draw.integers(8_000, 8_002, lines),
        draw.integers(0, 8_000, lines),
    )
    modifiers = pa.array(["59", "25", "LT", "RT", "XS", "26", "76"])
    given = draw.random(lines) < 0.2
    none = pa.nulls(count, pa.string())

    def lists(values: pa.Array, lengths: np.ndarray) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    of_claim = lists(diagnoses.take(pa.array(draw.integers(0, 72_000, 2 * count))), np.full(count, 2))
    claims = {
        "claim_index": pa.array(np.arange(count, dtype=np.int32)),
        "claim_id": pa.array([f"C{n:08d}" for n in range(count)]),
        "practice": pa.repeat("lakeside", count),
        "payer_id": pa.array(["LHP01", "BRM02", "MCR00"]).take(pa.array(np.arange(count) % 3)),
        "claim_type": none,
        "patient_id": pc.cast(pa.array(draw.integers(0, count // 2 + 1, count)), pa.string()),
        "patient_age_years": pa.array(draw.integers(18, 90, count).astype(np.int32)),
        "patient_sex": pa.array(["M", "F"]).take(pa.array(np.arange(count) % 2)),
        "place_of_service": pa.repeat("11", count),
        "state": pa.repeat("IL", count),
        "mac": pa.array(["05003"]).take(pa.array(np.where(np.arange(count) % 3 == 2, 0, None), pa.int32())),
        "authorization": none,
        "referring_npi": none,
        "billing_npi": npis.take(pa.array(provider)),
        "diagnoses": of_claim,
        "readable": pa.repeat(True, count),
    }
    table = {
        "claim_index": pa.array(of),
        "line_item": pa.array(position),
        "code": codes.take(pa.array(code)),
        "modifiers": lists(modifiers.take(pa.array(draw.integers(0, 7, int(given.sum())))), given),
        "units": pa.array(np.where(draw.random(lines) < 0.03, draw.integers(2, 30, lines), 1).astype(np.int32)).cast(
            pa.decimal128(18, 3)
        ),
        "charge": pa.array(draw.integers(20, 400, lines).astype(np.int32)).cast(pa.decimal128(18, 2)),
        "date_of_service": pa.array(day[of]).cast(pa.date32()),
        "diagnoses": lists(pa.array([], pa.string()), np.zeros(lines, int)),
        "rendering_npi": npis.take(pa.array(provider[of])),
    }
    return pa.table(claims, schema=SCRUB_CLAIMS), pa.table(table, schema=SCRUB_LINES)


def _npi(n: int) -> str:
    first = f"1{n:08d}"
    total = 24
    for position, digit in enumerate(reversed(first)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return first + str(-total % 10)


# --- contestants ----------------------------------------------------------------------------------------------------

BARE = """
WITH given AS (
    SELECT row_number() OVER () AS id, l.code, l.units, l.modifiers, l.date_of_service AS dos, l.rendering_npi AS npi, c.patient_id,
           l.code BETWEEN '99202' AND '99499' AS em,
           list_filter(l.modifiers, lambda m: m IN ('LT', 'RT')) AS sites
    FROM lines l JOIN claims c USING (claim_index)
), line AS (
    SELECT *, CASE WHEN em THEN list_has_any(modifiers, ['24', '25', '57']) ELSE list_has_any(modifiers, ['59', 'XE', 'XS', 'XP', 'XU']) END
              OR list_has_any(modifiers, ['27', '58', '78', '79', '91']) AS bypass
    FROM given
), ptp AS (
    SELECT DISTINCT b.id, e.column1
    FROM line a
    JOIN line b ON a.patient_id = b.patient_id AND a.npi = b.npi AND a.dos = b.dos AND a.code <> b.code
    JOIN ptp_edits e ON e.column1 = a.code AND e.column2 = b.code
    WHERE e.indicator <> '9' AND a.dos >= e.effective AND a.dos <= coalesce(e.deletion, DATE '9999-12-31')
      AND (e.indicator = '0' OR NOT (a.bypass OR b.bypass OR (len(a.sites) > 0 AND len(b.sites) > 0 AND NOT list_has_any(a.sites, b.sites))))
), mue AS (
    SELECT l.id FROM line l JOIN mue_limits m USING (code) WHERE m.adjudication = 1 AND l.units > m.units
    UNION ALL
    SELECT id FROM (SELECT l.id, m.units AS most, sum(l.units) OVER (PARTITION BY l.patient_id, l.npi, l.dos, l.code) AS units
                    FROM line l JOIN mue_limits m USING (code) WHERE m.adjudication > 1) WHERE units > most
)
SELECT (SELECT count(*) FROM ptp), (SELECT count(*) FROM mue)
"""


def bare(objects: ObjectStore, claims: pa.Table, lines: pa.Table) -> dict[str, Any]:
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    for name, kind, table in (
        ("ptp_edits", "ncci_ptp_practitioner", "edits"),
        ("mue_limits", "mue_practitioner", "limits"),
    ):
        found = _table(objects, kind, table)  # noqa: F841
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM found")
    connection.register("claims", claims)
    connection.register("lines", lines)
    seconds, counts = _timed(lambda: connection.execute(BARE).fetchone())
    return {"seconds": seconds, "ptp": counts[0], "mue": counts[1]}


def pandas(objects: ObjectStore, claims: pa.Table, lines: pa.Table) -> dict[str, Any]:
    import pandas as pd

    edits = (
        _table(objects, "ncci_ptp_practitioner", "edits")
        .select(["column1", "column2", "effective", "deletion", "indicator"])
        .to_pandas()
    )
    limits = _table(objects, "mue_practitioner", "limits").select(["code", "units", "adjudication"]).to_pandas()
    frame = lines.select(["claim_index", "code", "units", "modifiers", "date_of_service", "rendering_npi"]).to_pandas()
    people = claims.select(["claim_index", "patient_id"]).to_pandas()

    def work() -> tuple[int, int]:
        line = frame.merge(people, on="claim_index")
        line["id"] = np.arange(len(line))
        sets = line["modifiers"].map(frozenset)
        visit = line["code"].between("99202", "99499")
        line["sites"] = sets.map(lambda m: m & {"LT", "RT"})
        on_visit = sets.map(lambda m: bool(m & {"24", "25", "57"}))
        distinct = sets.map(lambda m: bool(m & {"59", "XE", "XS", "XP", "XU"}))
        line["bypass"] = np.where(visit, on_visit, distinct) | sets.map(
            lambda m: bool(m & {"27", "58", "78", "79", "91"})
        )
        key = ["patient_id", "rendering_npi", "date_of_service"]
        side = [*key, "id", "code", "bypass", "sites"]
        pair = line[side].merge(line[side], on=key, suffixes=("_a", "_b"))
        pair = pair[pair["code_a"] != pair["code_b"]]
        hit = pair.merge(
            edits[edits["indicator"] != "9"], left_on=["code_a", "code_b"], right_on=["column1", "column2"]
        )
        hit = hit[
            (hit["date_of_service"] >= hit["effective"])
            & (hit["deletion"].isna() | (hit["date_of_service"] <= hit["deletion"]))
        ]
        apart = [bool(a) and bool(b) and not a & b for a, b in zip(hit["sites_a"], hit["sites_b"], strict=True)]
        hit = hit[(hit["indicator"] == "0") | ~(hit["bypass_a"] | hit["bypass_b"] | np.array(apart, bool))]
        ptp = len(hit[["id_b", "column1"]].drop_duplicates())
        limited = line.merge(limits, on="code", suffixes=("", "_most"))
        one = limited[(limited["adjudication"] == 1) & (limited["units"] > limited["units_most"])]
        days = limited[limited["adjudication"] > 1]
        total = days.groupby([*key, "code"])["units"].transform("sum")
        return ptp, len(one) + int((total > days["units_most"]).sum())

    for name in ("effective", "deletion"):
        edits[name] = pd.to_datetime(edits[name])
    frame["date_of_service"] = pd.to_datetime(frame["date_of_service"])
    frame["units"] = frame["units"].astype(float)
    seconds, counts = _timed(work, times=1)
    return {"seconds": seconds, "ptp": counts[0], "mue": counts[1]}


def two(objects: ObjectStore, claims: pa.Table, lines: pa.Table) -> dict[str, Any]:
    """PTP and MUE only, from the same tables as bare, with evidence."""
    scrubber, reference = _scrubber(objects)

    def work() -> tuple[int, int, float]:
        with reference.cursor() as connection:
            scrubber.prepare(connection, claims, lines)
            ready = time.perf_counter()
            for rule in ("10_ncci_ptp", "11_mue"):
                scrubber.apply(connection, rule, AS_OF)
            done = time.perf_counter() - ready
            ptp, mue = connection.execute(
                "SELECT count(*) FILTER (issue_type = 'NCCI_edit'), count(*) FILTER (issue_type = 'MUE') FROM issue"
            ).fetchone() or (0, 0)
        return ptp, mue, done

    work()  # brings the tables in
    seconds, (ptp, mue, rules) = _timed(work)
    return {"seconds": seconds, "rules": rules, "ptp": ptp, "mue": mue}


def ours(objects: ObjectStore, claims: pa.Table, lines: pa.Table) -> dict[str, Any]:
    scrubber, _ = _scrubber(objects)
    scrubber.scrub(claims.slice(0, 1), lines.slice(0, 1), AS_OF)  # brings the tables in
    start = time.perf_counter()
    result = scrubber.scrub(claims, lines, AS_OF)
    seconds = time.perf_counter() - start
    verdicts = {v["values"]: v["counts"] for v in result.claims["validation_result"].value_counts().to_pylist()}
    return {"seconds": seconds, "issues": result.issues.num_rows, "verdicts": verdicts}


def one(objects: ObjectStore, claims: pa.Table, lines: pa.Table) -> dict[str, Any]:
    """One claim, warm: 60 different ones, one after the other."""
    scrubber, _ = _scrubber(objects)
    took = []
    for index in range(70):
        claim = claims.slice(index, 1)
        its = lines.filter(pc.equal(lines["claim_index"], index))
        start = time.perf_counter()
        scrubber.scrub(claim, its, AS_OF)
        took.append(time.perf_counter() - start)
    return {"seconds": statistics.median(took[10:]), "worst": max(took[10:])}


def _scrubber(objects: ObjectStore) -> tuple[Scrubber, Reference]:
    reference = Reference.open(objects)
    with reference.cursor() as connection:
        connection.execute("SET threads = 2")
    policies = INCLUDE / "policies"
    return Scrubber(reference, load_policy(policies), load_payer_rules(policies), INCLUDE / "sql"), reference


def _table(objects: ObjectStore, kind: str, name: str) -> pa.Table:
    version = next(v for v in load.versions(objects) if v.kind == kind)
    return load.read(objects, version, name)


def _timed(work: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """The fastest of some runs: the machine may have other work."""
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


# --- the run --------------------------------------------------------------------------------------------------------

CONTESTANTS = {"bare": bare, "pandas": pandas, "two": two, "ours": ours, "one": one}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path)
    options.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.only:
        objects = ObjectStore(str(given.folder / "objects"))
        claims, lines = claims_of(given.lines)
        found = CONTESTANTS[given.only](objects, claims, lines)
        print(json.dumps({**found, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        report(folder, given.lines)


def report(folder: Path, lines: int) -> None:
    objects = ObjectStore(str(folder / "objects"))
    make = runpy.run_path(str(ROOT / "tests" / "rules_reference.py"))
    if not load.versions(objects):
        for kind, paths in make["full_size"](folder).items():
            start = time.perf_counter()
            version, _ = load.load(objects, kind, paths)
            took = time.perf_counter() - start
            print(f"load {kind:<22} {sum(t.rows for t in version.tables):>10,} rows {took:8.2f} s")
    print(f"{lines:,} claim lines; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    runs = {name: _run(name, folder, lines) for name in ("bare", "pandas", "two", "ours")}
    tenth, single = _run("ours", folder, lines // 10), _run("one", folder, 1_000)
    base = runs["bare"]["seconds"]
    rows = [
        ("bare DuckDB query, PTP and MUE", base, runs["bare"]),
        ("pandas merge, PTP and MUE", runs["pandas"]["seconds"], runs["pandas"]),
        ("ours, PTP and MUE with evidence", runs["two"]["seconds"], runs["two"]),
        ("ours, every rule", runs["ours"]["seconds"], runs["ours"]),
    ]
    for title, seconds, run in rows:
        print(
            f"{title:<34} {seconds:8.2f} s {lines / seconds:>12,.0f} lines/s {seconds / base:6.2f} x bare {run['peak_mb']:>6,} MB"
        )
    print(f"ours, PTP and MUE rules alone, lines prepared: {runs['two']['rules']:.2f} s")
    print(
        f"findings PTP / MUE: bare {runs['bare']['ptp']:,} / {runs['bare']['mue']:,}, pandas {runs['pandas']['ptp']:,} / {runs['pandas']['mue']:,}, ours {runs['two']['ptp']:,} / {runs['two']['mue']:,} (one a claim for a day's sum)"
    )
    print(f"every rule: {runs['ours']['issues']:,} findings, verdicts {runs['ours']['verdicts']}")
    print(
        f"a tenth of the lines: {tenth['seconds']:.2f} s, {runs['ours']['seconds'] / tenth['seconds']:.1f} times faster"
    )
    print(f"one claim, warm: median {1000 * single['seconds']:.0f} ms, worst of 60 {1000 * single['worst']:.0f} ms")


def _run(name: str, folder: Path, lines: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder), "--lines", str(lines)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
