"""Whatever people, runs and crashes do in whatever order: nothing is applied without an approval of exactly its content."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from medbill.audit.ledger import Ledger, RunContext
from medbill.errors import DecisionRefused, PlatformError, PlatformUnknownOutcome
from medbill.platforms import registry
from medbill.platforms.base import Receipt, WriteBack, reference
from medbill.proposals import lifecycle, outbox, render
from medbill.proposals.content import content_hash, idempotency_key
from medbill.proposals.lifecycle import Draft
from medbill.store import tables

pytestmark = pytest.mark.slow

CLAIM = "[CLAIM_7KQ2M4XZ7KQ2M4XZA]"
KEYS = st.sampled_from(["a", "b"])
PAID = st.sampled_from(["80.00", "70.00", "0.00"])
ACTORS = st.sampled_from(["Ana Ruiz", "Ben Ode", "Cy Lim", "Di Fox", "medbill", ""])


class Killed(BaseException):
    """The process dies here."""


FAULTS = {
    "none": None,
    "refused": PlatformError("400"),
    "lost": PlatformUnknownOutcome("no answer"),
    "killed": Killed(),
}


class Platform:
    """Keeps what it takes, with the text, and fails as it is told: before or after it took it."""

    name = "drchrono"

    def __init__(self) -> None:
        self.records: list[tuple[str, str, str]] = []
        self.fault: BaseException | None = None
        self.taken_first = False

    def _write(self, action: str, key: str, text: str) -> Receipt:
        fault, self.fault = self.fault, None
        if fault is not None and not self.taken_first:
            raise fault
        self.records.append((action, key, text))
        if fault is not None:
            raise fault
        return Receipt(self.name, action, str(len(self.records)), reference(key))

    def write(self, write_back: WriteBack) -> Receipt:
        return self._write(write_back.action, write_back.idempotency_key, write_back.text)

    def _find(self, action: str, key: str) -> Receipt | None:
        found = [n for n, r in enumerate(self.records) if r[:2] == (action, key)]
        return Receipt(self.name, action, str(found[0]), reference(key)) if found else None

    def find(self, write_back: WriteBack) -> Receipt | None:
        return self._find(write_back.action, write_back.idempotency_key)


class Vault:
    def reveal(self, tokens: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(tokens, "5012")


def _draft(key: str, paid: str) -> Draft:
    rest = str(Decimal("100.00") - Decimal(paid))
    zero = {"denied": "0.00", "other": "0.00"}
    posting = {
        "charge": "100.00",
        "paid": paid,
        "contractual": rest,
        "patient_responsibility": "0.00",
        **zero,
        "payer_name": "Acme",
        "payment_date": "2026-11-02",
        "trace_token": None,
        "is_reversal": False,
        "claim_token": CLAIM,
        "note": None,
    }
    line = {
        "charge": "100.00",
        "paid": paid,
        "contractual": rest,
        "deductible": "0.00",
        "coinsurance": "0.00",
        "copay": "0.00",
        "patient_other": "0.00",
        **zero,
        "line_number": 1,
        "line_token": None,
        "procedure_code": "99213",
    }
    return Draft(
        "lakeside",
        "posting",
        date(2026, 11, 2),
        CLAIM,
        key,
        "t",
        Decimal(paid),
        20,
        {"posting": posting, "lines": [line]},
        date(2026, 12, 31),
    )


class Office(RuleBasedStateMachine):
    db: sa.Engine  # set by the test

    @initialize()
    def open(self) -> None:
        with self.db.begin() as connection:
            connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            connection.execute(
                sa.text("TRUNCATE medbill.work_items, medbill.outbox, medbill.proposal_events, medbill.proposals")
            )
        self.platform = Platform()
        self.shown: dict[str, str] = {}  # what people have seen: proposal id -> hash
        self.decided: dict[str, str] = {}  # what people said yes to: proposal id -> hash
        self.texts: dict[str, str] = {}  # and how it read
        self.a_run_proposes_these([("a", "80.00"), ("b", "80.00")])

    def _do(self, function: Any, *args: Any) -> Any:
        with self.db.begin() as connection:
            return function(connection, *args)

    def _pick(self, data: st.DataObject) -> str | None:
        if data.draw(st.sampled_from([True, True, True, False]), label="looks first"):
            self.a_person_looks()
        ids = sorted(self.shown)
        return data.draw(st.sampled_from(ids)) if ids else None

    @rule(drafts=st.lists(st.tuples(KEYS, PAID), min_size=1, max_size=2, unique_by=lambda d: d[0]))
    def a_run_proposes(self, drafts: list[tuple[str, str]]) -> None:
        self.a_run_proposes_these(drafts)

    def a_run_proposes_these(self, drafts: list[tuple[str, str]]) -> None:
        counts = self._do(lifecycle.propose, [_draft(*d) for d in drafts])
        assert counts.new + counts.unchanged + counts.revised == len(drafts)
        again = self._do(lifecycle.propose, [_draft(*d) for d in drafts])
        assert again.unchanged == len(drafts)

    def a_person_looks(self) -> None:
        self.shown = {r["id"]: r["content_hash"] for r in self._do(lifecycle.list_)}

    @rule(data=st.data(), actor=ACTORS, then=st.sampled_from(["nothing", *sorted(FAULTS)]), taken_first=st.booleans())
    def a_person_approves_what_was_shown(self, data: st.DataObject, actor: str, then: str, taken_first: bool) -> None:
        if (id := self._pick(data)) is None:
            return
        before = self._do(lifecycle.show, id)
        try:
            self._do(lifecycle.approve, id, self.shown[id], actor)
        except DecisionRefused:
            assert self._do(lifecycle.show, id) == before
            return
        assert actor not in ("medbill", "")
        assert before["status"] == "proposed" and before["content_hash"] == self.shown[id]
        self.decided[id] = self.shown[id]
        self.texts[id] = render.text("posting", CLAIM, before["payload"], {CLAIM: "5012"})
        if then != "nothing":
            self._dispatch(then, taken_first)

    @rule(data=st.data(), note=st.sampled_from(["duplicate", ""]))
    def a_person_rejects(self, data: st.DataObject, note: str) -> None:
        if (id := self._pick(data)) is not None:
            with suppress(DecisionRefused):
                self._do(lifecycle.reject, id, "Ben Ode", note)

    @rule(data=st.data(), cents=st.integers(min_value=0, max_value=3), balanced=st.booleans())
    def a_person_edits(self, data: st.DataObject, cents: int, balanced: bool) -> None:
        if (id := self._pick(data)) is None:
            return
        payload = self._do(lifecycle.show, id)["payload"]
        moved = Decimal(cents) / 100
        for row in (payload["posting"], payload["lines"][0]):
            row["contractual"] = str(Decimal(row["contractual"]) - moved)
            row["other"] = str(Decimal(row["other"]) + (moved if balanced else moved + 1))
        try:
            new_hash = self._do(lifecycle.edit, id, self.shown[id], payload, "Ana Ruiz")
        except DecisionRefused:
            return
        assert balanced and cents
        self.decided[id] = new_hash
        self.texts[id] = render.text("posting", CLAIM, payload, {CLAIM: "5012"})

    @rule(today=st.sampled_from([date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 1)]))
    def time_passes(self, today: date) -> None:
        self._do(lifecycle.expire, None, today)

    @rule(fault=st.sampled_from(sorted(FAULTS)), taken_first=st.booleans())
    def the_outbox_is_dispatched(self, fault: str, taken_first: bool) -> None:
        self._dispatch(fault, taken_first)

    @rule(fault=st.sampled_from(["lost", "killed"]), taken_first=st.booleans())
    def a_dispatch_breaks_and_the_next_goes_on(self, fault: str, taken_first: bool) -> None:
        self._dispatch(fault, taken_first)
        self._dispatch("none", False)

    def _dispatch(self, fault: str, taken_first: bool) -> None:
        self.platform.fault = FAULTS[fault]
        self.platform.taken_first = taken_first and fault != "refused"
        with suppress(Killed):
            outbox.dispatch(
                self.db,
                "lakeside",
                self.platform,
                Vault(),
                Ledger(self.db, RunContext()),
                lease=timedelta(0),
                quiet=timedelta(0),
                max_attempts=50,
            )
        self.platform.fault = None

    @rule(cents=st.integers(min_value=1, max_value=9))
    def someone_changes_an_approved_proposal_in_the_database(self, cents: int) -> None:
        statement = sa.update(tables.proposals).where(tables.proposals.c.status.in_(["approved", "edited"]))
        tampered = _draft("a", f"1.0{cents}").payload
        self._do(lambda c: c.execute(statement.values(payload=tampered)))
        self._dispatch("none", False)

    @invariant()
    def effects_are_what_people_approved_once_each(self) -> None:
        if not hasattr(self, "platform"):
            return
        keys = [r[:2] for r in self.platform.records]
        assert len(keys) == len(set(keys))
        allowed = {
            (a, idempotency_key(id, a, h)): id
            for id, h in self.decided.items()
            for a in registry.adapter("drchrono").actions_for("posting")
        }
        assert set(keys) <= set(allowed)
        assert all(text == self.texts[allowed[action, key]] for action, key, text in self.platform.records)
        for row in self._do(lambda c: c.execute(sa.select(tables.proposals)).mappings().all()):
            if row["status"] == "applied":
                assert {
                    (a, idempotency_key(row["id"], a, self.decided[row["id"]]))
                    for a in registry.adapter("drchrono").actions_for("posting")
                } <= set(keys)
            if row["status"] in ("proposed", "rejected", "expired"):
                assert content_hash(row["kind"], row["claim_token"], row["payload"]) == row["content_hash"]
                assert row["id"] not in {allowed[k] for k in keys}

    @invariant()
    def a_task_comes_before_its_note(self) -> None:
        if hasattr(self, "platform"):
            for n, (action, _, text) in enumerate(self.platform.records):
                if action == "claim_billing_note":
                    assert ("task", text) in [(r[0], r[2]) for r in self.platform.records[:n]]


def test_nothing_is_applied_without_an_approval_of_exactly_its_content(database: sa.Engine) -> None:
    Office.db = database
    run_state_machine_as_test(
        Office,
        settings=settings(
            max_examples=40,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
