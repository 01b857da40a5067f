"""The two quality gates: before landing (shape, keys, balance) and before publishing (no identifiers, equal totals).

What is checked stands in great_expectations/expectations, one suite per table. An expectation whose meta names a
reason_code refuses the rows that fail it, to quarantine; any other critical one closes the gate for the partition; one
of severity warning is only reported. So a new rule is a new expectation, not code. See docs/quality.md.

Importing Great Expectations takes 8-10 s, so it is imported on the first check and every check takes a list of partitions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from medbill.errors import QualityGateClosed
from medbill.quality import frames, project
from medbill.quality.policy import GatePolicy
from medbill.quality.policy import load as load_policy
from medbill.quality.project import Finding

Tables = Mapping[str, pa.Table]
_STOPPED = "so much of this file is refused that the rest of it is not trusted; look at the file before replaying it"


@dataclass(frozen=True)
class Refusal:
    """One record that goes to quarantine. level: transaction (with all its claims) or claim. reason: own words, no value."""

    level: str
    remittance_index: int
    claim_index: int | None
    reason_code: str
    reason: str


@dataclass(frozen=True)
class GateResult:
    """What one gate says of one partition.

    passed: the gate is open; records in refused stay behind all the same. failed_expectations: names of those that closed
    the gate or refused records. statistics: counts only.
    """

    passed: bool
    refused: list[Refusal]
    failed_expectations: list[str]
    statistics: dict[str, int]
    findings: list[Finding] = field(default_factory=list, repr=False)

    def assertions(self, suite: str | None = None) -> list[dict[str, Any]]:
        """Items of OpenLineage's DataQualityAssertions facet, of one suite or of all: assertion, success, severity, column."""
        return [
            {
                "assertion": f.expectation if suite else f"{f.suite}.{f.expectation}",
                "success": f.success,
                "severity": "error" if f.severity == "critical" else "warn",
                **({"column": f.column} if f.column and "," not in f.column else {}),
            }
            for f in self.findings
            if suite in (None, f.suite)
        ]


def check_landing(partitions: Sequence[Tables], gx_project: Path, policy: GatePolicy | None = None) -> list[GateResult]:
    """Gate 1 for remittances: which transactions and claims of each partition are refused, and why.

    Each partition holds the tables of medbill.model.remittances.ERA_TABLES (more columns do no harm). Where too much of a
    file is refused, the rest of that file is refused as TOO_MANY_REFUSED: nothing is lost, nothing of it goes further.
    Raises QualityGateClosed where a partition has not the shape of these tables (a column missing, keys double, rows
    without their parent): then nothing can be told apart in it.
    """
    policy = policy or load_policy()
    results = []
    for tables, findings in zip(partitions, _findings(partitions, frames.LANDING, gx_project, policy), strict=True):
        refused = _refusals(findings)
        refused += _stop_the_line(tables, refused, policy)
        results.append(_result(findings, refused, _counts(tables, refused)))
    _raise_if_closed(results)
    return results


def check_claims(partitions: Sequence[Tables], gx_project: Path, policy: GatePolicy | None = None) -> list[GateResult]:
    """Gate 1 for the practice's own claims (medbill.model.claims.CLAIM_TABLES): passed is False where their shape is wrong.

    Odd records (a negative charge, lines that do not add up) are warnings: the platform is the source, nothing is refused.
    """
    return _check_platform(partitions, frames.PLATFORM, gx_project, policy)


def check_notes(partitions: Sequence[Tables], gx_project: Path, policy: GatePolicy | None = None) -> list[GateResult]:
    """Gate 1 for the free text of claims (medbill.model.claims.NOTE_TABLES): passed is False where its shape is wrong."""
    return _check_platform(partitions, frames.PLATFORM_NOTES, gx_project, policy)


def _check_platform(
    partitions: Sequence[Tables],
    makers: Mapping[str, Callable[[Any], pa.Table]],
    gx_project: Path,
    policy: GatePolicy | None,
) -> list[GateResult]:
    found = _findings(partitions, makers, gx_project, policy or load_policy())
    return [
        _result(findings, [], {name: table.num_rows for name, table in tables.items()})
        for tables, findings in zip(partitions, found, strict=True)
    ]


def check_published(
    partitions: Sequence[tuple[Tables, Mapping[str, Mapping[str, int | Decimal]], int]],
    gx_project: Path,
    policy: GatePolicy | None = None,
) -> list[GateResult]:
    """Gate 2, per partition of (published tables, landing totals, number of leaks found): passed only if all of it holds.

    Landing totals: table -> {"rows": count, column: sum in dollars}. Checked: the exact published columns and keys, tokens
    well-formed, no text that looks like an identifier, no leak, and every total equal to landing's to the cent.
    """
    policy = policy or load_policy()
    found: list[list[Finding]] = [[] for _ in partitions]
    kinds = {
        "remittances": frames.PUBLISHED_REMITTANCES,
        "notes": frames.PUBLISHED_NOTES,
        "claims": frames.PUBLISHED_CLAIMS,
    }
    for table, kind in kinds.items():
        # the table that tells the kind: remittances have one of that name, notes too, all others are claims
        members = [
            i
            for i, (tables, _, _) in enumerate(partitions)
            if next((t for t in kinds if t in tables), "claims") == table
        ]
        if not members:
            continue
        makers = {suite: _published_frame(name, schema) for name, (suite, schema) in kind.items()}
        makers["published_text"] = lambda partition: frames.published_text(partition[0])
        makers["published_tokens"] = lambda partition: frames.published_tokens(partition[0])
        makers["published_totals"] = _totals_frame
        makers["published_leaks"] = _leaks_frame
        for i, findings in zip(
            members, _findings([partitions[i] for i in members], makers, gx_project, policy), strict=True
        ):
            found[i] = findings
    return [
        _result(findings, [], {**{n: t.num_rows for n, t in tables.items()}, "leaks": leaks})
        for (tables, _, leaks), findings in zip(partitions, found, strict=True)
    ]


def _findings(
    partitions: Sequence[Any],
    makers: Mapping[str, Callable[[Any], pa.Table]],
    gx_project: Path,
    policy: GatePolicy,
) -> list[list[Finding]]:
    """Findings per partition. Partitions of equal shape are validated as one frame, told apart by an ordinal."""
    latest = datetime.now(UTC).date() + timedelta(days=policy.days_ahead)
    parameters = {
        "earliest": _number(policy.earliest),
        "latest": _number(latest),
        "earliest_year": policy.earliest.year,
        "latest_year": latest.year,
    }
    found: list[list[Finding]] = [[] for _ in partitions]
    for suite, make in makers.items():
        groups: dict[tuple[str, ...], list[tuple[int, pa.Table]]] = defaultdict(list)
        for i, partition in enumerate(partitions):
            try:
                frame = make(partition)
            except (KeyError, pa.ArrowException):  # a table, or a column that ties tables together, is not there
                found[i].append(Finding(suite, "expect_table_to_exist", None, False, "critical", {}))
                continue
            ordinal = pa.array([i] * frame.num_rows, pa.int64())
            groups[tuple(frame.column_names)].append((i, frame.append_column("partition", ordinal)))
        for group in groups.values():
            together = pa.concat_tables([frame for _, frame in group]).combine_chunks()
            for finding in project.validate(gx_project, suite, frames.to_pandas(together), parameters):
                rows = defaultdict(list)
                for row in finding.rows:
                    rows[row["partition"]].append(row)
                for i, _ in group:
                    success = finding.success or (bool(finding.rows) and i not in rows)
                    found[i].append(
                        Finding(
                            suite, finding.expectation, finding.column, success, finding.severity, finding.meta, rows[i]
                        )
                    )
    project.build_docs(gx_project, now=any(not f.success for findings in found for f in findings))
    return found


def _refusals(findings: list[Finding]) -> list[Refusal]:
    """One refusal per record and reason, the most telling first: in the order of suites and of expectations in a suite."""
    refused: dict[tuple[str, int, int | None, str], Refusal] = {}
    for f in findings:
        if f.success or "reason_code" not in f.meta:
            continue
        for row in f.rows:
            claim = row["claim_index"] if f.meta["level"] == "claim" else None
            key = (f.meta["level"], row["remittance_index"], claim, f.meta["reason_code"])
            refused.setdefault(key, Refusal(*key, f.meta["reason"]))
    return list(refused.values())


def _stop_the_line(tables: Tables, refused: list[Refusal], policy: GatePolicy) -> list[Refusal]:
    if not refused:
        return []
    transactions = {r.remittance_index for r in refused if r.level == "transaction"}
    claims = {r.claim_index for r in refused if r.level == "claim"}
    files = dict(
        zip(
            tables["remittances"]["remittance_index"].to_pylist(),
            tables["remittances"]["file_index"].to_pylist(),
            strict=True,
        )
    )
    total: dict[int, int] = defaultdict(int)
    bad: dict[int, int] = defaultdict(int)
    for remittance, claim in zip(
        tables["claims"]["remittance_index"].to_pylist(), tables["claims"]["claim_index"].to_pylist(), strict=True
    ):
        total[files[remittance]] += 1
        bad[files[remittance]] += remittance in transactions or claim in claims
    stopped = {f for f in total if bad[f] >= policy.stop_at_least and bad[f] > policy.stop_share * total[f]}
    return [
        Refusal("transaction", remittance, None, "TOO_MANY_REFUSED", _STOPPED)
        for remittance, file in files.items()
        if file in stopped and remittance not in transactions
    ]


def _result(findings: list[Finding], refused: list[Refusal], counts: dict[str, int]) -> GateResult:
    failed = [f for f in findings if not f.success and f.severity == "critical"]
    warned = [f for f in findings if not f.success and f.severity != "critical"]
    return GateResult(
        passed=not any("reason_code" not in f.meta for f in failed),
        refused=refused,
        failed_expectations=[f.name for f in failed],
        statistics={
            **counts,
            "expectations": len(findings),
            "failed": len(failed),
            "warnings": len(warned),
        },
        findings=findings,
    )


def _counts(tables: Tables, refused: list[Refusal]) -> dict[str, int]:
    counts = {name: table.num_rows for name, table in tables.items() if name != "problems"}
    counts["refused_transactions"] = len({r.remittance_index for r in refused if r.level == "transaction"})
    counts["refused_claims"] = len({r.claim_index for r in refused if r.level == "claim"})
    counts["stopped_transactions"] = sum(r.reason_code == "TOO_MANY_REFUSED" for r in refused)
    return counts


def _raise_if_closed(results: list[GateResult]) -> None:
    closed = [i for i, r in enumerate(results) if not r.passed]
    if closed:
        names = sorted(
            {
                f.name
                for i in closed
                for f in results[i].findings
                if not f.success and f.severity == "critical" and "reason_code" not in f.meta
            }
        )
        raise QualityGateClosed(
            f"gate 1 is closed for {len(closed)} of {len(results)} partition(s), their tables have not the declared shape "
            f"({', '.join(names)}); nothing of them is landed"
        )


def _published_frame(name: str, schema: pa.Schema) -> Callable[[Any], pa.Table]:
    return lambda partition: frames.published(partition[0][name], schema)


def _totals_frame(partition: tuple[Tables, Mapping[str, Mapping[str, int | Decimal]], int]) -> pa.Table:
    """One row per table and measure: rows, or the sum of a money column in cents."""
    tables, totals, _ = partition
    rows = []
    for name in sorted({*totals, *tables}):
        table = tables.get(name)
        for measure in totals.get(name) or ["rows"]:
            expected = totals.get(name, {}).get(measure)
            landing = None if expected is None else int(expected * (1 if measure == "rows" else 100))
            published: int | None = None
            if table is not None and measure == "rows":
                published = table.num_rows
            elif table is not None and measure in table.column_names and pa.types.is_decimal(table[measure].type):
                published = int((pc.sum(table[measure]).as_py() or Decimal(0)) * 100)
            difference = landing - published if landing is not None and published is not None else None
            rows.append(
                {"measure": f"{name}.{measure}", "landing": landing, "published": published, "difference": difference}
            )
    schema = pa.schema([("measure", pa.string()), *((c, pa.int64()) for c in ("landing", "published", "difference"))])
    return pa.Table.from_pylist(rows, schema=schema)


def _leaks_frame(partition: tuple[Tables, Mapping[str, Mapping[str, int | Decimal]], int]) -> pa.Table:
    return pa.table({"leaks": pa.array([partition[2]], pa.int64())})


def _number(day: Any) -> int:
    return int(day.strftime("%Y%m%d"))
