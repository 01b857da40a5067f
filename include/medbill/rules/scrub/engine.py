"""The scrubber: claims and lines in, one verdict per claim and one row per finding out, set by set in DuckDB.

The rules are the files of include/sql/scrub; docs/rules/scrub.md says what each means. A result depends on claims, lines,
tables, rules and the day of checking only, and not on the order of any of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medbill.errors import PolicyError
from medbill.model.scrub import SCRUB_CLAIMS, SCRUB_ISSUES, SCRUB_LINES, SCRUB_RESULTS
from medbill.rules import sql
from medbill.rules.reference.tables import Reference
from medbill.rules.scrub.policy import PayerRules, ScrubPolicy, load_policy, payer_tables

if TYPE_CHECKING:
    import duckdb

#: What a rule asks for -> kind of reference data, by the setting of the claim.
_KINDS: dict[str, dict[str, str]] = {
    "ncci_ptp": {"professional": "ncci_ptp_practitioner", "institutional": "ncci_ptp_hospital"},
    "mue": {"professional": "mue_practitioner", "institutional": "mue_outpatient_hospital", "dme": "mue_dme"},
}
_SAME_KIND = ("add_on", "icd10cm", "icd10cm_tabular", "hcpcs", "pprrvu", "clfs", "mcd_article")
_SETTINGS = ("professional", "institutional", "dme")
_IN_FORCE = pa.schema(
    [("setting", pa.string()), ("dos", pa.date32()), *((name, pa.int32()) for name in (*_KINDS, *_SAME_KIND))]
)

#: Up to so many lines it pays to ask first which rules have something to look at (gates.sql).
_SMALL = 10_000
_LINES_A_PASS = 300_000
_REPEATED = pa.schema([("claim_index", pa.int32()), ("times", pa.int64())])


@dataclass(frozen=True)
class ScrubResult:
    """claims: SCRUB_RESULTS, one row per claim in the order given. issues: SCRUB_ISSUES, by claim, line and rule."""

    claims: pa.Table
    issues: pa.Table

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON object per claim, as `medbill scrub` writes it."""
        issues = iter(self.issues.to_pylist())
        issue = next(issues, None)
        for claim in self.claims.to_pylist():
            found: list[dict[str, Any]] = []
            actions: dict[str, None] = {}
            while issue is not None and issue["claim_index"] == claim["claim_index"]:
                found.append(
                    {
                        **{name: issue[name] for name in _IN_RECORD},
                        "evidence": json.loads(issue["evidence"]),
                    }
                )
                if issue["severity"] != "info":
                    actions[issue["action"]] = None
                issue = next(issues, None)
            yield {
                "claim_id": claim["claim_id"],
                "validation_result": claim["validation_result"],
                "issues": found,
                "suggested_actions": list(actions),
            }


_IN_RECORD = ("line_item", "code", "issue_type", "severity", "rule_id", "rule_version", "message")


class Scrubber:
    """Rules, policy and payer rules read once, and the reference tables kept warm. Safe to share between threads."""

    def __init__(
        self, reference: Reference, policy: ScrubPolicy, payer_rules: Iterable[PayerRules], sql_folder: Path
    ) -> None:
        """sql_folder: include/sql. Raises PolicyError where it has no rules."""
        self._reference = reference
        self._policy = policy
        self._tables = {**policy.tables(), **payer_tables(payer_rules)}
        folder = sql_folder / "scrub"
        rules = sorted(folder.glob("[0-9]*.sql"))
        if not rules or not all((folder / name).is_file() for name in ("base.sql", "gates.sql")):
            raise PolicyError("include/sql/scrub has no rules; check MEDBILL_SQL")
        self._base = (folder / "base.sql").read_text(encoding="utf-8")
        self._gates = (folder / "gates.sql").read_text(encoding="utf-8")
        self._rules = {path.stem: path.read_text(encoding="utf-8") for path in rules}

    @property
    def rules(self) -> list[str]:
        """Names of the rule files, in the order they run."""
        return list(self._rules)

    def scrub(self, claims: pa.Table, lines: pa.Table, as_of: date) -> ScrubResult:
        """claims: SCRUB_CLAIMS. lines: SCRUB_LINES. as_of: the day of checking.

        Many lines are checked in passes, each with all claims of some patients, so that memory stays bounded.
        """
        repeated = _repeated(claims)
        passes = -(-lines.num_rows // _LINES_A_PASS)
        if passes < 2:
            return self._pass(claims, lines, repeated, as_of)
        of_claim = _spread(claims, passes)
        of_line = of_claim[lines["claim_index"].to_numpy()]
        found = [
            self._pass(claims.filter(pa.array(of_claim == n)), lines.filter(pa.array(of_line == n)), repeated, as_of)
            for n in range(passes)
        ]
        return ScrubResult(
            pa.concat_tables([f.claims for f in found]).sort_by("claim_index"),
            pa.concat_tables([f.issues for f in found]).sort_by("claim_index"),  # stable
        )

    def _pass(self, claims: pa.Table, lines: pa.Table, repeated: pa.Table, as_of: date) -> ScrubResult:
        with self._reference.cursor() as connection:
            self.prepare(connection, claims, lines, repeated)
            names = self.open_rules(connection, as_of) if lines.num_rows <= _SMALL else list(self._rules)
            for name in names:
                self.apply(connection, name, as_of)
            return _result(connection)

    def prepare(
        self,
        connection: duckdb.DuckDBPyConnection,
        claims: pa.Table,
        lines: pa.Table,
        repeated: pa.Table | None = None,
    ) -> None:
        """The temporary tables the rules read (base.sql), on a cursor of the reference.

        repeated: claims whose claim_id comes before them already, where these claims are not all there are.
        """
        for name, table in self._tables.items():
            connection.register(name, table)
        connection.register("given_claim", claims.cast(SCRUB_CLAIMS))
        connection.register("given_line", lines.cast(SCRUB_LINES))
        connection.register("repeated_claim_id", _repeated(claims) if repeated is None else repeated)
        connection.register("in_force", self._in_force(lines))
        connection.execute(self._base)

    def open_rules(self, connection: duckdb.DuckDBPyConnection, as_of: date) -> list[str]:
        """The rules that can find something in what prepare() made, in order."""
        found = self._run(connection, self._gates, as_of)
        names = [column[0] for column in found.description]
        looked = dict(zip(names, found.fetchone() or (), strict=True))
        return [name for name in self._rules if looked.get(name) is not False]

    def apply(self, connection: duckdb.DuckDBPyConnection, rule: str, as_of: date) -> None:
        """One rule file after prepare(); its findings go to the table issue."""
        self._run(connection, f"INSERT INTO issue BY NAME {self._rules[rule]}", as_of)

    def _run(self, connection: duckdb.DuckDBPyConnection, text: str, as_of: date) -> duckdb.DuckDBPyConnection:
        values = {
            "as_of": as_of,
            "policy_version": self._policy.version,
            "units_review_above": self._policy.units_review_above,
            "timely_filing_days": self._policy.timely_filing_days,
        }
        return connection.execute(text, {name: value for name, value in values.items() if f"${name}" in text})

    def _in_force(self, lines: pa.Table) -> pa.Table:
        """Which release judges which day, for the days of these lines; those releases are brought in."""
        days = [d for d in lines["date_of_service"].unique().to_pylist() if d is not None]
        rows: list[dict[str, Any]] = []
        for day in days:
            same = {name: self._reference.in_force(name, day) for name in _SAME_KIND}
            for setting in _SETTINGS:
                own = {
                    name: self._reference.in_force(kinds[setting], day) if setting in kinds else None
                    for name, kinds in _KINDS.items()
                }
                rows.append({"setting": setting, "dos": day, **same, **own})
        used = {number for row in rows for name, number in row.items() if name in _IN_FORCE.names[2:]}
        self._reference.need(number for number in used if number is not None)
        return pa.Table.from_pylist(rows, schema=_IN_FORCE)


def scrub(
    claims: pa.Table,
    lines: pa.Table,
    reference: Reference,
    payer_rules: Iterable[PayerRules],
    as_of: date,
    *,
    policies: Path,
    sql_folder: Path,
) -> ScrubResult:
    """Claims and lines against everything; a pure function of its arguments and the rule files. See Scrubber.scrub()."""
    return Scrubber(reference, load_policy(policies), payer_rules, sql_folder).scrub(claims, lines, as_of)


def _repeated(claims: pa.Table) -> pa.Table:
    """claim_index and times of every claim but the first of those with one claim_id."""
    ids = claims["claim_id"]
    counts = pc.value_counts(ids.drop_null())
    many = counts.filter(pc.greater(counts.field("counts"), 1))
    its = claims.select(["claim_index", "claim_id"]).filter(pc.is_in(ids, value_set=many.field("values")))
    times = dict(zip(many.field("values").to_pylist(), many.field("counts").to_pylist(), strict=True))
    seen: set[str] = set()
    rows = []
    for row in its.sort_by("claim_index").to_pylist():
        if row["claim_id"] in seen:
            rows.append({"claim_index": row["claim_index"], "times": times[row["claim_id"]]})
        seen.add(row["claim_id"])
    return pa.Table.from_pylist(rows, schema=_REPEATED)


def _spread(claims: pa.Table, passes: int) -> np.ndarray[Any, Any]:
    """The pass of each claim by claim_index, that of its patient where it names one."""
    index = claims["claim_index"].to_numpy()
    patient = pc.dictionary_encode(claims["patient_id"]).combine_chunks()
    chunks = patient.chunks if isinstance(patient, pa.ChunkedArray) else [patient]
    numbers = np.concatenate([pc.fill_null(chunk.indices, -1).to_numpy() for chunk in chunks])
    found = np.zeros(int(index.max()) + 1, dtype=np.int64)
    found[index] = np.where(numbers >= 0, numbers, index) % passes
    return found


def _result(connection: duckdb.DuckDBPyConnection) -> ScrubResult:
    issues = sql.fetch(
        connection,
        """SELECT i.*, c.claim_id FROM issue i JOIN claim c USING (claim_index)
        ORDER BY claim_index, line_item NULLS FIRST, rule_id, code, evidence""",
        SCRUB_ISSUES,
    )
    claims = sql.fetch(
        connection,
        """WITH counted AS (
            SELECT claim_index, count(*) FILTER (WHERE severity = 'error')::INTEGER AS errors,
                   count(*) FILTER (WHERE severity = 'warning')::INTEGER AS warnings
            FROM issue GROUP BY claim_index
        )
        SELECT claim_index, claim_id, coalesce(errors, 0) AS errors, coalesce(warnings, 0) AS warnings,
               CASE WHEN errors > 0 THEN 'fail' WHEN warnings > 0 THEN 'needs_review' ELSE 'pass' END AS validation_result
        FROM claim LEFT JOIN counted USING (claim_index) ORDER BY claim_index""",
        SCRUB_RESULTS,
    )
    return ScrubResult(claims, issues)
