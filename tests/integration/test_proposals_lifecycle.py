"""Proposals and decisions on a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.errors import BadInput, DecisionRefused
from medbill.proposals import lifecycle
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Counts, Draft
from medbill.store.tables import outbox, proposals

pytestmark = pytest.mark.slow

CLAIM = "[CLAIM_7KQ2M4XZ7KQ2M4XZA]"
ANA = "Ana Ruiz"


def draft(key: str = "k-0", paid: str = "80.00", **changes: Any) -> Draft:
    line = {
        "line_number": 1,
        "line_token": None,
        "procedure_code": "99213",
        "charge": "100.00",
        "paid": paid,
        "deductible": "0.00",
        "coinsurance": "0.00",
        "copay": "0.00",
        "patient_other": "0.00",
        "denied": "0.00",
        "other": "0.00",
        "contractual": str(Decimal("100.00") - Decimal(paid)),
    }
    posting = {
        "claim_key": key,
        "payer_name": "Acme",
        "payment_date": "2026-11-02",
        "trace_token": None,
        "is_reversal": False,
        "charge": "100.00",
        "paid": paid,
        "contractual": line["contractual"],
        "patient_responsibility": "0.00",
        "denied": "0.00",
        "other": "0.00",
        "note": None,
    }
    values: dict[str, Any] = {
        "practice": "lakeside",
        "kind": "posting",
        "day": date(2026, 11, 2),
        "claim_token": CLAIM,
        "business_key": key,
        "title": f"Post {paid}",
        "amount": Decimal(paid),
        "priority": 20,
        "payload": {"posting": posting, "lines": [line]},
    }
    return Draft(**{**values, **changes})


@pytest.fixture
def do(database: sa.Engine) -> Callable[..., Any]:
    """Call a lifecycle function in a transaction of its own."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with database.begin() as connection:
            return function(connection, *args, **kwargs)

    return call


def ID(key: str = "k-0", revision: int = 1) -> str:
    return proposal_id("lakeside", "posting", key, revision)


def _hash(do: Callable[..., Any], id: str) -> str:
    return do(lifecycle.show, id)["content_hash"]


def _events(do: Callable[..., Any], id: str) -> list[str]:
    return [e["event"] for e in do(lifecycle.show, id)["events"]]


def test_proposing_again_changes_nothing(do: Callable[..., Any]) -> None:
    assert do(lifecycle.propose, [draft(), draft("k-1")]) == Counts(new=2)
    before = do(lifecycle.show, ID())
    assert do(lifecycle.propose, [draft(), draft("k-1"), draft("k-1")]) == Counts(unchanged=2)
    assert do(lifecycle.show, ID()) == before
    assert do(lifecycle.propose, []) == Counts()


def test_changed_content_is_revised_while_nobody_decided(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    stale = _hash(do, ID())
    assert do(lifecycle.propose, [draft(paid="70.00")]) == Counts(revised=1)
    assert _events(do, ID()) == ["proposed", "revised"]
    with pytest.raises(DecisionRefused, match="stale"):
        do(lifecycle.approve, ID(), stale, ANA)
    assert do(lifecycle.show, ID())["status"] == "proposed"
    do(lifecycle.approve, ID(), _hash(do, ID()), ANA)


def test_changed_content_after_a_decision_is_a_superseding_proposal(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    do(lifecycle.approve, ID(), _hash(do, ID()), ANA)
    assert do(lifecycle.propose, [draft(paid="70.00")]) == Counts(new=1, superseding=1)
    assert do(lifecycle.show, ID())["payload"]["posting"]["paid"] == "80.00"
    assert do(lifecycle.show, ID(revision=2))["status"] == "proposed"
    assert do(lifecycle.propose, [draft(paid="70.00")]) == Counts(unchanged=1)
    assert do(lifecycle.propose, [draft(paid="60.00")]) == Counts(revised=1)
    do(lifecycle.reject, ID(revision=2), ANA, "wrong payer")
    assert do(lifecycle.propose, [draft(paid="60.00")]) == Counts(unchanged=1)
    assert do(lifecycle.propose, [draft(paid="50.00")]) == Counts(new=1, superseding=1)


def test_content_that_was_decided_on_before_is_not_proposed_again_and_voids_a_later_one(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    do(lifecycle.approve, ID(), _hash(do, ID()), ANA)
    do(lifecycle.propose, [draft(paid="70.00")])
    assert do(lifecycle.propose, [draft()]) == Counts(unchanged=1)
    assert do(lifecycle.show, ID(revision=2))["status"] == "expired"


def test_an_edit_approves_other_content_and_the_rules_content_does_not_come_back(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    row = do(lifecycle.show, ID())
    payload = row["payload"]
    payload["posting"].update(contractual="0.00", denied="20.00", note="not contractual")
    payload["lines"][0].update(contractual="0.00", denied="20.00")
    new_hash = do(lifecycle.edit, ID(), row["content_hash"], payload, ANA, "payer manual")
    after = do(lifecycle.show, ID())
    assert (after["status"], after["content_hash"]) == ("edited", new_hash)
    assert new_hash != row["content_hash"]
    assert {w["status"] for w in after["write_backs"]} == {"pending"}
    assert after["events"][-1]["note"] == "payer manual"
    assert do(lifecycle.propose, [draft()]) == Counts(unchanged=1)


def test_an_edit_that_does_not_balance_leaves_everything_as_it_was(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    row = do(lifecycle.show, ID())
    payload = draft(paid="80.00").payload
    payload["posting"]["contractual"] = "19.99"
    with pytest.raises(DecisionRefused):
        do(lifecycle.edit, ID(), row["content_hash"], payload, ANA)
    assert do(lifecycle.show, ID()) == row
    with pytest.raises(DecisionRefused, match="changes nothing"):
        do(lifecycle.edit, ID(), row["content_hash"], row["payload"], ANA)


@pytest.mark.parametrize("actor", ["", "  ", "medbill", "MedBill", "airflow", "anonymous"])
def test_no_service_account_decides(do: Callable[..., Any], actor: str) -> None:
    do(lifecycle.propose, [draft()])
    content = _hash(do, ID())
    for decide in (
        lambda: do(lifecycle.approve, ID(), content, actor),
        lambda: do(lifecycle.reject, ID(), actor, "why"),
    ):
        with pytest.raises(DecisionRefused, match="person"):
            decide()
    assert _events(do, ID()) == ["proposed"]


def test_a_decision_is_final_and_a_rejection_says_why(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    content = _hash(do, ID())
    for note in ("", "   "):
        with pytest.raises(DecisionRefused, match="note"):
            do(lifecycle.reject, ID(), ANA, note)
    with pytest.raises(DecisionRefused, match="SSN"):
        do(lifecycle.reject, ID(), ANA, "patient 412-55-6789 called")
    do(lifecycle.reject, ID(), ANA, "duplicate of a posting by hand")
    for again in (lambda: do(lifecycle.approve, ID(), content, ANA), lambda: do(lifecycle.reject, ID(), ANA, "again")):
        with pytest.raises(DecisionRefused, match="already rejected"):
            again()
    with pytest.raises(DecisionRefused, match="no such"):
        do(lifecycle.approve, "no-such-id", content, ANA)


def test_write_backs_are_committed_with_the_approval_or_not_at_all(database: sa.Engine, do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    content = _hash(do, ID())
    with pytest.raises(RuntimeError), database.begin() as connection:
        lifecycle.approve(connection, ID(), content, ANA)
        raise RuntimeError("crash before commit")
    assert do(lifecycle.show, ID())["status"] == "proposed"
    assert do(lifecycle.show, ID())["write_backs"] == []
    do(lifecycle.approve, ID(), content, ANA)
    assert [w["action"] for w in do(lifecycle.show, ID())["write_backs"]] == ["task", "claim_billing_note"]
    assert do(lambda c: c.execute(sa.select(outbox.c.content_hash).distinct()).scalars().all()) == [content]


def test_expiry_counts_the_last_day_in(do: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    do(lifecycle.propose, [draft(expires_on=date(2026, 11, 30)), draft("k-1")])
    assert do(lifecycle.expire, "lakeside", date(2026, 11, 30)) == 0
    monkeypatch.setenv("MEDBILL_TODAY", "2026-12-01")
    with pytest.raises(DecisionRefused, match="last day"):
        do(lifecycle.approve, ID(), _hash(do, ID()), ANA)
    assert do(lifecycle.expire, "elsewhere") == 0
    assert do(lifecycle.expire, "lakeside") == 1
    assert do(lifecycle.expire, "lakeside") == 0
    assert [r["status"] for r in do(lifecycle.list_, status="expired")] == ["expired"]
    assert do(lifecycle.propose, [draft(expires_on=date(2026, 11, 30))]) == Counts(unchanged=1)


def test_content_that_was_tampered_with_in_the_database_cannot_be_approved(do: Callable[..., Any]) -> None:
    do(lifecycle.propose, [draft()])
    content = _hash(do, ID())
    do(lambda c: c.execute(sa.update(proposals).values(payload={"posting": {"paid": "9999.00"}})))
    with pytest.raises(DecisionRefused, match="hash"):
        do(lifecycle.approve, ID(), content, ANA)


def test_of_two_who_decide_at_once_one_wins(database: sa.Engine, do: Callable[..., Any]) -> None:
    keys = [f"k-{i}" for i in range(10)]
    do(lifecycle.propose, [draft(k) for k in keys])
    hashes = {k: _hash(do, ID(k)) for k in keys}
    results: dict[str, list[str]] = {k: [] for k in keys}
    gate = threading.Barrier(2)

    def decide(word: str) -> None:
        for key in keys:
            gate.wait(timeout=30)
            try:
                if word == "approved":
                    do(lifecycle.approve, ID(key), hashes[key], ANA)
                else:
                    do(lifecycle.reject, ID(key), "Ben Ode", "no")
                results[key].append(word)
            except DecisionRefused:
                pass

    threads = [threading.Thread(target=decide, args=(word,)) for word in ("approved", "rejected")]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
    for key in keys:
        assert len(results[key]) == 1
        shown = do(lifecycle.show, ID(key))
        assert [e["event"] for e in shown["events"]] == ["proposed", *results[key]]
        assert len(shown["write_backs"]) == (2 if results[key] == ["approved"] else 0)


def test_two_runs_that_propose_the_same_at_once_make_one_of_each(do: Callable[..., Any]) -> None:
    counts: list[Counts] = []
    runs = [
        threading.Thread(
            target=lambda order=order: counts.append(do(lifecycle.propose, [draft(f"k-{i}") for i in order]))
        )
        for order in (range(200), reversed(range(200)))
    ]
    for t in runs:
        t.start()
    for t in runs:
        t.join(timeout=60)
    assert sorted((c.new, c.unchanged) for c in counts) == [(0, 200), (200, 0)]
    assert len(do(lifecycle.list_)) == 200


def test_thousands_at_once(do: Callable[..., Any]) -> None:
    drafts = [draft(f"k-{i}") for i in range(5000)]
    started = time.monotonic()
    assert do(lifecycle.propose, drafts) == Counts(new=5000)
    assert do(lifecycle.propose, drafts) == Counts(unchanged=5000)
    assert time.monotonic() - started < 60


def test_bad_drafts_are_refused_whole(do: Callable[..., Any]) -> None:
    with pytest.raises(BadInput):
        do(lifecycle.propose, [draft(), draft(paid="70.00")])
    with pytest.raises(BadInput):
        do(lifecycle.propose, [replace(draft(), payload={"amount": 0.1})])
    assert do(lifecycle.list_) == []


def test_lists_are_filtered_and_sorted_by_urgency_then_amount(do: Callable[..., Any]) -> None:
    do(
        lifecycle.propose,
        [
            draft("a", "10.00"),
            draft("b", "20.00"),
            draft("c", "5.00", priority=30),
            draft("d", day=date(2026, 11, 3)),
            draft("e", practice="other"),
        ],
    )
    found = do(lifecycle.list_, practice="lakeside", kind="posting", status="proposed", day=date(2026, 11, 2))
    assert [str(r["amount"]) for r in found] == ["5.00", "20.00", "10.00"]
