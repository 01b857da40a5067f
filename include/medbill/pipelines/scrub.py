"""scrub_claims: published claims through the claim scrubber; what a coder must see becomes a proposal of kind `coder_review`.

The service day of a published claim is the day of its partition. What the publication leaves out (age, sex, state, contractor,
referring provider, day of filing) is not made up: rules on it do not apply, and the finding that it is missing is `info`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from medbill.lineage import facts
from medbill.lineage.datasets import dataset
from medbill.model.scrub import SCRUB_CLAIMS, SCRUB_LINES, SCRUBBED_CLAIMS, SCRUBBED_ISSUES
from medbill.pipelines import alarms, deidentify, results
from medbill.pipelines.alarms import Alarm
from medbill.pipelines.context import Context, Partition
from medbill.proposals import lifecycle
from medbill.proposals.lifecycle import Draft
from medbill.rules.reference.tables import Reference
from medbill.rules.scrub.engine import Scrubber, ScrubResult
from medbill.rules.scrub.policy import load_payer_rules, load_policy
from medbill.store import db
from medbill.store.tables import partitions
from medbill.store.tables import results as results_table

#: Raise it when this stage makes something else of the same claims under the same rules and tables.
SCRUB_VERSION = "1"
KIND = "scrub"
_MISSING_TABLE = "NO-TABLE-IN-FORCE"
#: Fields of a claim the publication never has, and those a platform's API never gives (medbill.platforms).
_UNPUBLISHED = frozenset({"patient.age_years", "patient.sex", "referring_npi"})
_NOT_GIVEN = {
    "drchrono": frozenset({"place_of_service", "authorization"}),
    "advancedmd": frozenset({"place_of_service", "authorization"}),
    "tebra": frozenset({"payer_id", "authorization"}),
}
#: The field a kind of payer rule asks for.
_ASKS = {"prior_authorization": "authorization", "referral": "referring_npi"}
#: Evidence that is a date of the patient; those of tables and edits stay.
_PATIENT_DATES = frozenset({"date_of_service", "surgery_date", "first_date", "last_date"})
#: Charges from here on are looked at first.
_HIGH = Decimal(250)
_NUMBERS = ("claims", "scrubbed", "clean", "needs_review", "failed", "held")


class Step:
    """The scrubber with the rules and tables of now, opened once for many partitions."""

    def __init__(self, ctx: Context) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._reference = Reference.open(ctx.objects)
        payers = load_payer_rules(settings.policies)
        self._scrubber = Scrubber(self._reference, load_policy(settings.policies), payers, settings.sql)
        self._asks = {rule.id: _ASKS[rule.kind] for payer in payers for rule in payer.rules if rule.kind in _ASKS}
        self._rules = _rules_hash(ctx)
        self.totals: Counter[str] = Counter()

    def pending(self) -> list[Partition]:
        """Published claim partitions not scrubbed as they are now, by the rules of now and the tables in force on their day."""
        with db.transaction(self._ctx.db, db.EVERY_PRACTICE) as connection:
            published = connection.execute(
                sa.select(partitions.c.practice, partitions.c.day, partitions.c.content_hash)
                .where(partitions.c.object == "claims", partitions.c.published_uri.is_not(None))
                .order_by(partitions.c.practice, partitions.c.day)
            ).all()
            done = {
                (r.practice, r.day): r.counts.get("input")
                for r in connection.execute(
                    sa.select(results_table.c.practice, results_table.c.day, results_table.c.counts).where(
                        results_table.c.kind == KIND
                    )
                )
            }
        return [
            Partition(p.practice, "claims", p.day)
            for p in published
            if done.get((p.practice, p.day)) != self._input(p.content_hash, p.day)
        ]

    def scrub(self, ctx: Context, partition: Partition) -> dict[str, Any] | None:
        """Scrub one partition; returns its counts, None where nothing is published.

        Every claim is scrubbed or held: held where nothing but tables that are not loaded stands between it and a pass. The
        same claims, rules and tables give the same bytes and proposal ids.
        """
        # before anything is read: what is published meanwhile is then still pending
        with db.transaction(ctx.db, partition.practice) as connection:
            content: str | None = connection.execute(
                sa.select(partitions.c.content_hash).where(*partition.where(partitions))
            ).scalar()
        tables = deidentify.read(ctx, partition)
        if not tables or content is None:
            return None
        claims = tables["claims"].sort_by("claim_token").to_pylist()
        given = _given(
            partition,
            claims,
            tables["claim_lines"].sort_by([("claim_token", "ascending"), ("line_number", "ascending")]).to_pylist(),
        )
        found = _found(claims, self._scrubber.scrub(*given, partition.day), self._asks)
        verdicts = Counter("held" if c["held"] else c["validation_result"] for c in found.claims)
        counts: dict[str, Any] = {
            "claims": len(claims),
            "scrubbed": len(claims) - verdicts["held"],
            "clean": verdicts["pass"],
            "needs_review": verdicts["needs_review"],
            "failed": verdicts["fail"],
            "held": verdicts["held"],
        }
        written = results.write(
            ctx,
            partition.practice,
            KIND,
            partition.day,
            {
                "claims": pa.Table.from_pylist(found.claims, schema=SCRUBBED_CLAIMS),
                "issues": pa.Table.from_pylist(found.issues, schema=SCRUBBED_ISSUES),
            },
        )
        drafts = _drafts(partition, found)
        with db.transaction(ctx.db, partition.practice) as connection:
            proposed = lifecycle.propose(connection, drafts)
            facts.wrote(dataset("proposals"), len(drafts))
            lifecycle.withdraw(connection, partition.practice, partition.day, ("coder_review",), drafts)
            missing = sorted({name for c in found.claims if c["held"] for name in c["missing_tables"]})
            results.point(
                connection,
                partition.practice,
                KIND,
                partition.day,
                written,
                {**counts, "missing": missing, "input": self._input(content, partition.day)},
            )
        self.totals.update({name: counts[name] for name in _NUMBERS})
        return {
            "day": partition.day.isoformat(),
            **counts,
            "new": proposed.new,
            "unchanged": proposed.unchanged,
            "revised": proposed.revised,
        }

    def _input(self, content: str, day: date) -> str:
        """What a result depends on: the claims, the rules, and the release of each kind that judges the day."""
        kinds = sorted({v.kind for v in self._reference.versions})
        in_force = [self._reference.in_force(kind, day) for kind in kinds]
        ids = [self._reference.versions[n].id for n in in_force if n is not None]
        return hashlib.sha256("\n".join([content, self._rules, *ids]).encode()).hexdigest()


def pending(ctx: Context) -> list[Partition]:
    """As Step.pending()."""
    return Step(ctx).pending()


def tell(ctx: Context) -> int:
    """One alarm per practice whose claims wait for reference tables, with what to load; it goes when none wait.

    Returns how many claims wait.
    """
    waiting = 0
    for practice in ctx.settings.practices():
        with db.transaction(ctx.db, practice.id) as connection:
            rows = connection.execute(
                sa.select(results_table.c.day, results_table.c.counts)
                .where(results_table.c.practice == practice.id, results_table.c.kind == KIND)
                .order_by(results_table.c.day)
            ).all()
        held = sum(int(r.counts["held"]) for r in rows)
        waiting += held
        quarters: dict[str, set[str]] = defaultdict(set)
        for r in rows:
            for name in r.counts["missing"]:
                quarters[name].add(f"{r.day.year}Q{(r.day.month + 2) // 3}")
        what = "; ".join(f"{name} for {', '.join(sorted(of))}" for name, of in sorted(quarters.items()))
        with suppress(Alarm), alarms.of(f"scrub {practice.id}", ctx.settings.home, ctx.ledger):
            if held:
                raise Alarm(
                    f"{held} claim(s) wait for reference tables, `medbill reference load`: {what}; "
                    "the next run of scrub_claims takes them",
                    code="REFERENCE_MISSING",
                )
    return waiting


@dataclass(frozen=True)
class Status:
    """Claims of a practice by verdict. held: they wait for reference tables."""

    practice: str
    claims: int
    clean: int
    needs_review: int
    failed: int
    held: int

    @property
    def clean_rate(self) -> Decimal | None:
        """The clean-claim rate in percent, claims that pass of all; None without claims."""
        return (100 * Decimal(self.clean) / self.claims).quantize(Decimal("0.1")) if self.claims else None


def status(ctx: Context, practices: Iterable[str]) -> list[Status]:
    """Of each practice that has scrubbed claims."""
    found = []
    for practice in practices:
        with db.transaction(ctx.db, practice) as connection:
            one = status_of(connection, practice)
        if one is not None:
            found.append(one)
    return found


def status_of(connection: sa.Connection, practice: str) -> Status | None:
    """Of one practice; None without scrubbed claims."""
    rows = connection.execute(
        sa.select(results_table.c.counts).where(results_table.c.practice == practice, results_table.c.kind == KIND)
    ).scalars()
    total: Counter[str] = Counter()
    for counts in rows:
        total.update({name: int(counts[name]) for name in _NUMBERS})
    if not total["claims"]:
        return None
    return Status(practice, *(total[name] for name in ("claims", "clean", "needs_review", "failed", "held")))


@dataclass(frozen=True)
class _Found:
    """Rows of SCRUBBED_CLAIMS and SCRUBBED_ISSUES, by claim token."""

    claims: list[dict[str, Any]]
    issues: list[dict[str, Any]]


def _given(
    partition: Partition, claims: list[dict[str, Any]], lines: list[dict[str, Any]]
) -> tuple[pa.Table, pa.Table]:
    """Published claims in the form the scrubber reads."""
    index = {c["claim_token"]: n for n, c in enumerate(claims)}
    of_claim: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        of_claim[line["claim_token"]].append(line)
    rows = [
        {
            "claim_index": index[c["claim_token"]],
            "claim_id": c["claim_token"],
            "practice": partition.practice,
            "payer_id": c["payer_id"],
            "patient_id": c["patient_token"],
            "place_of_service": c["place_of_service"],
            "authorization": c["authorization_token"],
            "diagnoses": list(dict.fromkeys(d for line in of_claim[c["claim_token"]] for d in line["diagnosis_codes"])),
            "readable": True,
        }
        for c in claims
    ]
    rendering = {c["claim_token"]: c["rendering_npi"] for c in claims}
    of_lines = [
        {
            "claim_index": index[line["claim_token"]],
            "line_item": line["line_number"],
            "code": line["procedure_code"],
            "modifiers": line["modifiers"],
            "units": line["units"],
            "charge": line["charge"],
            "date_of_service": partition.day,
            "diagnoses": line["diagnosis_codes"],
            "rendering_npi": rendering[line["claim_token"]],
        }
        for line in lines
    ]
    return pa.Table.from_pylist(rows, schema=SCRUB_CLAIMS), pa.Table.from_pylist(of_lines, schema=SCRUB_LINES)


def _found(claims: list[dict[str, Any]], result: ScrubResult, asks: Mapping[str, str]) -> _Found:
    """asks: payer rules by id that ask for a field, and which."""
    issues = []
    of_claim: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for issue in result.issues.to_pylist():
        claim = claims[issue.pop("claim_index")]
        evidence = json.loads(issue["evidence"], parse_float=Decimal)
        lacks = _UNPUBLISHED | _NOT_GIVEN.get(claim["platform"], frozenset())
        missing = evidence["field"] if issue["rule_id"] == "MISSING-FIELD" else asks.get(issue["rule_id"])
        if missing in lacks:
            issue["severity"] = "info"
        row = {
            **{k: v for k, v in issue.items() if k != "claim_id"},
            "claim_token": claim["claim_token"],
            "evidence": json.dumps({k: v for k, v in evidence.items() if k not in _PATIENT_DATES}, default=str),
        }
        issues.append(row)
        of_claim[id(claim)].append({**row, "needs": evidence.get("needs")})
    return _Found([_judged(claim, of_claim[id(claim)]) for claim in claims], issues)


def _judged(claim: dict[str, Any], issues: list[dict[str, Any]]) -> dict[str, Any]:
    errors = sum(i["severity"] == "error" for i in issues)
    warnings = [i for i in issues if i["severity"] == "warning"]
    missing = sorted({_kind(i["needs"]) for i in warnings if i["rule_id"] == _MISSING_TABLE})
    return {
        "claim_token": claim["claim_token"],
        "payer_id": claim["payer_id"],
        "payer_name": claim["payer_name"],
        "charge": claim["charge"],
        "validation_result": "fail" if errors else "needs_review" if warnings else "pass",
        "held": not errors and bool(warnings) and all(i["rule_id"] == _MISSING_TABLE for i in warnings),
        "errors": errors,
        "warnings": len(warnings),
        "missing_tables": missing,
    }


def _kind(needs: str) -> str:
    """What `medbill reference load --kind` calls it, for professional claims."""
    return f"{needs}_practitioner" if needs in ("ncci_ptp", "mue") else needs


def _drafts(partition: Partition, found: _Found) -> list[Draft]:
    of_claim: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for issue in found.issues:
        if issue["severity"] != "info":
            of_claim[issue["claim_token"]].append(issue)
    drafts = []
    for claim in found.claims:
        if claim["held"] or claim["validation_result"] == "pass":
            continue
        issues = sorted(of_claim[claim["claim_token"]], key=lambda i: i["severity"])  # errors first
        # a claim that moves to another day is another business of that day
        key = f"{partition.day.isoformat()}/{claim['claim_token']}"
        types = ", ".join(sorted({i["issue_type"].replace("_", " ") for i in issues}))
        drafts.append(
            Draft(
                practice=partition.practice,
                kind="coder_review",
                day=partition.day,
                claim_token=claim["claim_token"],
                business_key=key,
                title=f"Coder review, {claim['payer_name'] or 'payer'}: {types}",
                amount=claim["charge"],
                priority=30 if claim["charge"] >= _HIGH else 20,
                payload={
                    "claim_key": key,
                    "validation_result": claim["validation_result"],
                    "charge": str(claim["charge"]),
                    "payer_name": claim["payer_name"],
                    "issues": [
                        {
                            **{k: v for k, v in i.items() if k not in ("claim_token", "action")},
                            "evidence": json.loads(i["evidence"]),
                        }
                        for i in issues
                    ],
                    "suggested_actions": list(dict.fromkeys(i["action"] for i in issues)),
                },
            )
        )
    return drafts


def _rules_hash(ctx: Context) -> str:
    """SHA-256 over the rules: this stage's version, policies and rule files."""
    settings = ctx.settings
    files = [
        settings.policies / "scrub.yml",
        *sorted((settings.policies / "payer_rules").glob("*.yml")),
        *sorted((settings.sql / "scrub").glob("*.sql")),
    ]
    digest = hashlib.sha256(SCRUB_VERSION.encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
