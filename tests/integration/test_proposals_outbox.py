"""The outbox on a real PostgreSQL: whatever breaks and wherever, a platform gets each approved write once, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from medbill.audit.ledger import Ledger, RunContext
from medbill.errors import DecisionRefused, LedgerUnavailable, PlatformError, PlatformUnknownOutcome, TokenRefused
from medbill.platforms.base import Receipt, WriteBack, reference
from medbill.proposals import lifecycle, outbox
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.proposals.outbox import DispatchResult
from medbill.store import tables

pytestmark = pytest.mark.slow

CLAIM, LINE, TRACE, OTHER = (f"[{kind}_7KQ2M4XZ7KQ2M4XZA]" for kind in ("CLAIM", "LINE", "TRACE", "PERSON"))
VALUES = {CLAIM: "5012", LINE: "9031", TRACE: "EFT77", OTHER: "CANARYSON"}
ANA = "Ana Ruiz"
NOW = {"lease": timedelta(0), "quiet": timedelta(0)}  # nothing rests between the dispatches of a test


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Platform:
    """A platform that keeps what it takes. before/after: called around each write with its action; may raise."""

    name: str = "drchrono"
    records: list[tuple[str, str, str, str]] = field(default_factory=list)
    before: Callable[[str], None] = lambda action: None
    after: Callable[[str], None] = lambda action: None
    on_find: Callable[[], None] = lambda: None

    def _write(self, action: str, key: str, claim_id: str, text: str) -> Receipt:
        self.before(action)
        self.records.append((action, key, claim_id, text))
        self.after(action)
        return Receipt(self.name, action, str(len(self.records)), reference(key))

    def write(self, write_back: WriteBack) -> Receipt:
        w = write_back
        text = f"{w.title}\n{w.text}" if w.action == "task" else w.text
        return self._write(w.action, w.idempotency_key, w.claim_id, text)

    def _find(self, action: str, key: str) -> Receipt | None:
        self.on_find()
        for n, record in enumerate(self.records, 1):
            if record[:2] == (action, key):
                return Receipt(self.name, action, str(n), reference(key))
        return None

    def find(self, write_back: WriteBack) -> Receipt | None:
        return self._find(write_back.action, write_back.idempotency_key)

    def actions(self) -> list[str]:
        return [r[0] for r in self.records]


@dataclass
class Vault:
    """Tokens of one practice; remembers what was asked for."""

    asked: list[str] = field(default_factory=list)

    def reveal(self, tokens: Sequence[str]) -> dict[str, str]:
        self.asked += tokens
        if any(t not in VALUES for t in tokens):
            raise TokenRefused("unknown token")
        return {t: VALUES[t] for t in tokens}


@dataclass
class Office:
    db: sa.Engine
    platform: Platform = field(default_factory=Platform)
    vault: Vault = field(default_factory=Vault)

    def __post_init__(self) -> None:
        self.ledger: Any = Ledger(self.db, RunContext())

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.db.begin() as connection:
            return function(connection, *args, **kwargs)

    def approved(self, key: str = "k-0", claim_token: str = CLAIM) -> str:
        money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
        patient = {"deductible": "0.00", "coinsurance": "0.00", "copay": "0.00", "patient_other": "0.00"}
        payload = {
            "posting": {
                **money,
                "patient_responsibility": "0.00",
                "payer_name": "Acme",
                "payment_date": "2026-11-02",
                "trace_token": TRACE,
                "is_reversal": False,
                "claim_token": claim_token,
                "key": key,
                "note": None,
            },
            "lines": [{**money, **patient, "line_number": 1, "line_token": LINE, "procedure_code": "99213"}],
            "patient_token": OTHER,
        }
        self.do(
            lifecycle.propose,
            [Draft("lakeside", "posting", date(2026, 11, 2), claim_token, key, "t", Decimal(80), 20, payload)],
        )
        id = proposal_id("lakeside", "posting", key)
        self.do(lifecycle.approve, id, self.do(lifecycle.show, id)["content_hash"], ANA)
        return id

    def dispatch(self, platform: Platform | None = None, **options: Any) -> DispatchResult:
        return outbox.dispatch(
            self.db, "lakeside", platform or self.platform, self.vault, self.ledger, **{**NOW, **options}
        )

    def status(self, id: str) -> tuple[str, list[str]]:
        row = self.do(lifecycle.show, id)
        return row["status"], [w["status"] for w in row["write_backs"]]

    def ledger_rows(self) -> list[Any]:
        with self.db.connect() as connection:
            return list(connection.execute(sa.text("SELECT * FROM audit.rows ORDER BY recorded_at")).mappings())


@pytest.fixture
def office(database: sa.Engine) -> Office:
    return Office(database)


def test_an_approved_posting_becomes_a_task_and_a_note_once(office: Office) -> None:
    id = office.approved()
    assert office.dispatch() == DispatchResult(applied=2)
    assert office.status(id) == ("applied", ["applied", "applied"])
    assert office.dispatch() == DispatchResult()
    assert office.platform.actions() == ["task", "claim_billing_note"]
    _, _, claim_id, text = office.platform.records[1]
    assert claim_id == "5012"
    assert "check/EFT EFT77" in text and "(item 9031)" in text and "paid $80.00" in text
    assert "[" not in text
    shown = office.do(lifecycle.show, id)
    assert shown["write_backs"][0]["receipt"]["platform_id"] == "1"
    assert [(e["event"], e["actor"]) for e in shown["events"]][-1] == ("applied", "medbill")


def test_nothing_is_written_before_approval_after_rejection_or_for_another_practice(office: Office) -> None:
    id = office.approved()
    office.do(lambda c: c.execute(sa.update(tables.proposals).values(status="proposed")))
    assert office.dispatch() == DispatchResult(failed=1)
    other = outbox.dispatch(office.db, "elsewhere", office.platform, office.vault, office.ledger, **NOW)
    assert other == DispatchResult()
    assert office.platform.records == []
    assert office.vault.asked == []
    assert office.status(id)[1] == ["failed", "pending"]


def test_only_the_tokens_the_text_shows_are_revealed_and_each_time_in_the_ledger(office: Office) -> None:
    office.approved()
    office.dispatch()
    assert set(office.vault.asked) == {CLAIM, LINE, TRACE}
    rows = [r for r in office.ledger_rows() if r["kind"] == "proposal.apply"]
    assert [r["outcome"] for r in rows] == ["intent", "success", "intent", "success"]
    assert "CANARYSON" not in str(rows) and "5012" not in str(rows)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("action", ["task", "claim_billing_note"])
def test_a_process_that_dies_around_a_send_leaves_exactly_one_effect(office: Office, where: str, action: str) -> None:
    id = office.approved()

    def die(at: str) -> None:
        if at == action:
            raise Killed

    setattr(office.platform, where, die)
    with pytest.raises(Killed):
        office.dispatch()
    office.platform.before = office.platform.after = lambda at: None
    office.dispatch()
    assert office.platform.actions() == ["task", "claim_billing_note"]
    assert office.status(id) == ("applied", ["applied", "applied"])


def test_a_process_that_dies_before_it_commits_the_receipt(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    id = office.approved()

    def die(*args: Any, **kwargs: Any) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_settle", die)
        with pytest.raises(Killed):
            office.dispatch()
    assert office.dispatch() == DispatchResult(applied=2)
    assert office.platform.actions() == ["task", "claim_billing_note"]
    assert office.status(id)[0] == "applied"


@pytest.mark.parametrize("arrived", [True, False])
def test_an_unknown_outcome_is_read_back_before_anything_is_sent_again(office: Office, arrived: bool) -> None:
    id = office.approved()

    def lose(action: str) -> None:
        raise PlatformUnknownOutcome("no answer")

    setattr(office.platform, "after" if arrived else "before", lose)
    assert office.dispatch() == DispatchResult(unknown=1)
    assert office.status(id)[1] == ["unknown", "pending"]
    office.platform.before = office.platform.after = lambda at: None
    assert office.dispatch() == DispatchResult(applied=2)
    assert office.platform.actions() == ["task", "claim_billing_note"]


def test_an_unknown_outcome_rests_before_it_is_read_back(office: Office) -> None:
    office.approved()

    def lose(action: str) -> None:
        raise PlatformUnknownOutcome("no answer")

    office.platform.after = lose
    assert office.dispatch(quiet=timedelta(minutes=1)) == DispatchResult(unknown=1)
    assert office.dispatch(quiet=timedelta(minutes=1)) == DispatchResult()


def test_a_read_back_that_fails_sends_nothing(office: Office) -> None:
    office.approved()

    def lose(action: str) -> None:
        raise PlatformUnknownOutcome("no answer")

    def down() -> None:
        raise PlatformError("503")

    office.platform.after, office.platform.on_find = lose, down
    for _ in range(8):
        assert office.dispatch(max_attempts=3) == DispatchResult(unknown=1)
    assert office.platform.actions() == ["task"]


def test_a_platform_that_refuses_is_asked_so_often_and_no_more(office: Office) -> None:
    id = office.approved()
    tried: list[str] = []

    def refuse(action: str) -> None:
        tried.append(action)
        raise PlatformError("400")

    office.platform.before = refuse
    results = [office.dispatch(max_attempts=3) for _ in range(5)]
    assert results == [DispatchResult(waiting=1)] * 2 + [DispatchResult(failed=1)] + [DispatchResult()] * 2
    assert tried == ["task"] * 3
    assert office.status(id) == ("failed", ["failed", "pending"])


def test_an_unknown_outcome_that_never_arrives_fails_in_the_end(office: Office) -> None:
    id = office.approved()

    def lose(action: str) -> None:
        raise PlatformUnknownOutcome("no answer")

    office.platform.before = lose
    results = [office.dispatch(max_attempts=2) for _ in range(4)]
    assert results == [DispatchResult(unknown=1)] * 2 + [DispatchResult(failed=1), DispatchResult()]
    assert office.status(id)[0] == "failed"


def test_one_bad_proposal_does_not_hold_up_the_next(office: Office) -> None:
    bad = office.approved("bad", claim_token="[CLAIM_2222222222222222A]")
    good = office.approved("good")
    assert office.dispatch() == DispatchResult(applied=2, failed=1)
    assert office.status(bad)[0] == "failed"
    assert office.status(good)[0] == "applied"
    assert office.do(lifecycle.show, bad)["write_backs"][0]["error_code"] == "TOKEN_REFUSED"


@pytest.mark.parametrize(
    "tamper",
    [
        sa.update(tables.proposals).values(payload={"posting": {"paid": "9999.00"}}),
        sa.update(tables.proposals).values(content_hash="0" * 64),
        sa.update(tables.outbox).values(content_hash="0" * 64),
        sa.update(tables.proposals).values(claim_token=OTHER),
    ],
)
def test_what_was_changed_after_approval_is_not_sent(office: Office, tamper: Any) -> None:
    office.approved()
    office.do(lambda c: c.execute(tamper))
    assert office.dispatch() == DispatchResult(failed=1)
    assert office.platform.records == [] and office.vault.asked == []


def test_an_approval_row_without_an_event_by_a_person_is_not_sent(office: Office, database: sa.Engine) -> None:
    id = office.approved()
    office.do(
        lambda c: (
            c.execute(sa.text("SET LOCAL session_replication_role = replica"))
            and c.execute(
                sa.update(tables.proposal_events)
                .where(tables.proposal_events.c.event == "approved")
                .values(actor="medbill")
            )
        )
    )
    assert office.dispatch() == DispatchResult(failed=1)
    assert office.platform.records == []
    assert office.status(id)[0] == "failed"


def test_a_late_writer_neither_sends_nor_stores_its_receipt(office: Office) -> None:
    id = office.approved()
    late = Platform()
    taken_over: list[DispatchResult] = []

    class SlowVault(Vault):
        def reveal(self, tokens: Sequence[str]) -> dict[str, str]:  # the lease runs out while we reveal
            if not taken_over:
                taken_over.append(DispatchResult())
                taken_over[0] = office.dispatch()
            return super().reveal(tokens)

    result = outbox.dispatch(office.db, "lakeside", late, SlowVault(), office.ledger, **NOW)
    assert result == DispatchResult(fenced=1)
    assert late.records == []
    assert taken_over == [DispatchResult(applied=2)]
    assert office.status(id) == ("applied", ["applied", "applied"])


def test_a_writer_that_is_late_after_sending_does_not_overwrite(office: Office) -> None:
    id = office.approved()

    def take_over(action: str) -> None:
        office.platform.after = lambda at: None
        assert office.dispatch() == DispatchResult(applied=2)

    office.platform.after = take_over
    assert office.dispatch() == DispatchResult(fenced=1)
    assert office.platform.actions() == ["task", "claim_billing_note"]
    assert office.status(id)[0] == "applied"


def test_without_a_ledger_nothing_is_revealed_or_sent(office: Office) -> None:
    id = office.approved()

    class Down:
        def touch(self, event: Any) -> Any:
            raise LedgerUnavailable("down")

    ledger, office.ledger = office.ledger, Down()
    with pytest.raises(LedgerUnavailable):
        office.dispatch()
    assert office.vault.asked == [] and office.platform.records == []
    assert office.status(id)[1] == ["pending", "pending"]
    office.ledger = ledger
    assert office.dispatch() == DispatchResult(applied=2)


def test_a_ledger_that_fails_after_the_send_leads_to_a_read_back(office: Office) -> None:
    office.approved()
    ledger = office.ledger

    class Breaks:
        def touch(self, event: Any) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def touching() -> Any:
                with ledger.touch(event) as touch:
                    yield touch
                raise LedgerUnavailable("outcome not written")

            return touching()

    office.ledger = Breaks()
    with pytest.raises(LedgerUnavailable):
        office.dispatch()
    office.ledger = ledger
    assert office.dispatch() == DispatchResult(applied=2)
    assert office.platform.actions() == ["task", "claim_billing_note"]


def test_two_workers_share_the_work_without_doubling_it(office: Office) -> None:
    ids = [office.approved(f"k-{i}") for i in range(12)]
    results: list[DispatchResult] = []
    workers = [
        threading.Thread(target=lambda: results.append(office.dispatch(lease=timedelta(minutes=5)))) for _ in range(3)
    ]
    for w in workers:
        w.start()
    for w in workers:
        w.join(timeout=120)
    results.append(office.dispatch())  # a note whose task another worker held is left for the next run
    assert sum(r.applied for r in results) == 24
    assert len(office.platform.records) == len({r[:2] for r in office.platform.records}) == 24
    assert {office.status(i)[0] for i in ids} == {"applied"}


# --- a person's retry of what failed ----------------------------------------------------------------------------------


def _failed(office: Office, action: str = "task") -> str:
    """An approved proposal whose write-backs the platform refused until no attempt was left."""
    id = office.approved()

    def refuse(of: str) -> None:
        if of == action:
            raise PlatformError("no")

    office.platform.before = refuse
    for _ in range(7):
        office.dispatch(max_attempts=2)
    assert office.do(lifecycle.show, id)["status"] == "failed"
    office.platform.before = lambda action: None
    return id


@pytest.mark.parametrize(("action", "sends"), [("task", 2), ("claim_billing_note", 1)])
def test_a_failed_proposal_is_sent_again_on_a_persons_word(office: Office, action: str, sends: int) -> None:
    id = _failed(office, action)
    keys = {w["idempotency_key"] for w in _rows(office)}
    assert office.dispatch() == DispatchResult()  # by itself nothing comes back
    office.do(lifecycle.retry, id, ANA, "the category was missing")
    assert office.do(lifecycle.show, id)["status"] == "approved"
    assert office.dispatch() == DispatchResult(applied=sends)
    shown = office.do(lifecycle.show, id)
    assert shown["status"] == "applied"
    assert [e["event"] for e in shown["events"]] == ["proposed", "approved", "failed", "retried", "applied"]
    assert (shown["events"][3]["actor"], shown["events"][3]["content_hash"]) == (ANA, shown["content_hash"])
    assert {r[1] for r in office.platform.records} <= keys == {w["idempotency_key"] for w in _rows(office)}
    assert sorted(office.platform.actions()) == ["claim_billing_note", "task"]


def _rows(office: Office) -> list[Any]:
    return office.do(lambda c: list(c.execute(sa.select(tables.outbox)).mappings()))


def test_a_retry_looks_for_what_may_have_arrived_before_it_sends(office: Office) -> None:
    """The platform took the task although it said nothing, and could not be asked until no attempt was left."""
    id = office.approved()

    def lose(action: str) -> None:
        if action == "task":
            raise PlatformUnknownOutcome("?")

    office.platform.after = lose
    office.dispatch(max_attempts=1)
    kept, office.platform.records = office.platform.records, []  # its search does not show it yet
    office.dispatch(max_attempts=1)
    assert office.do(lifecycle.show, id)["status"] == "failed"
    office.platform.records, office.platform.after = kept, lambda action: None
    office.do(lifecycle.retry, id, ANA)
    assert office.dispatch() == DispatchResult(applied=2)
    assert office.platform.actions() == ["task", "claim_billing_note"]


def test_only_what_failed_and_still_is_as_approved_can_be_retried(office: Office) -> None:
    with pytest.raises(DecisionRefused, match="no such proposal"):
        office.do(lifecycle.retry, "no-such-id", ANA)
    fresh = office.approved("k-1")
    with pytest.raises(DecisionRefused, match="only a failed proposal"):
        office.do(lifecycle.retry, fresh, ANA)
    office.dispatch()
    with pytest.raises(DecisionRefused, match="only a failed proposal"):
        office.do(lifecycle.retry, fresh, ANA)  # applied
    id = _failed(office)
    for actor in ("", "medbill", "root"):
        with pytest.raises(DecisionRefused, match="person's name"):
            office.do(lifecycle.retry, id, actor)
    with pytest.raises(DecisionRefused, match="stale hash"):
        office.do(lifecycle.retry, id, ANA, None, "0" * 64)
    office.do(
        lambda c: c.execute(
            sa.update(tables.proposals).where(tables.proposals.c.id == id).values(amount=Decimal(1), payload={"a": "b"})
        )
    )
    with pytest.raises(DecisionRefused, match="not what was approved"):
        office.do(lifecycle.retry, id, ANA)
    assert office.dispatch() == DispatchResult() and len(office.platform.records) == 2


def test_two_people_who_retry_at_once_send_once(office: Office) -> None:
    id = _failed(office)
    refused: list[str] = []

    def retry() -> None:
        try:
            office.do(lifecycle.retry, id, ANA)
        except DecisionRefused as error:
            refused.append(str(error))

    threads = [threading.Thread(target=retry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert office.dispatch() == DispatchResult(applied=2)


def _draft(office: Office, id: str, **changes: str) -> Draft:
    payload = office.do(lifecycle.show, id)["payload"]
    payload = {**payload, "posting": {**payload["posting"], "claim_key": "k-0", **changes}}
    return Draft("lakeside", "posting", date(2026, 11, 2), CLAIM, "k-0", "t", Decimal(80), 20, payload)


def test_an_outdated_proposal_is_not_retried(office: Office) -> None:
    id = _with_claim_key(office)
    office.do(lambda c: c.execute(sa.insert(tables.holds).values(**_HOLD)))
    with pytest.raises(DecisionRefused, match=r"held by now \(PAYMENT_REPEATED\)"):
        office.do(lifecycle.retry, id, ANA)
    office.do(lambda c: c.execute(sa.update(tables.holds).values(status="resolved")))
    assert office.do(lifecycle.propose, [_draft(office, id, note="another")]).superseding == 1
    with pytest.raises(DecisionRefused, match="took the place"):
        office.do(lifecycle.retry, id, ANA)
    office.do(lifecycle.propose, [_draft(office, id)])  # as it was: the newer one is withdrawn
    office.do(lifecycle.retry, id, ANA)
    assert office.dispatch() == DispatchResult(applied=2)


_HOLD = {
    "practice": "lakeside",
    "claim_key": "k-0",
    "day": date(2026, 11, 2),
    "reason_code": "PAYMENT_REPEATED",
    "reason": "x",
    "status": "open",
}


def _with_claim_key(office: Office) -> str:
    """A failed proposal whose payload names its claim key, as those of the pipeline do."""
    id = office.approved("other")
    draft = _draft(office, id)
    office.dispatch()
    office.platform.records.clear()
    office.do(lifecycle.propose, [draft])
    made = proposal_id("lakeside", "posting", "k-0")
    office.do(lifecycle.approve, made, office.do(lifecycle.show, made)["content_hash"], ANA)
    office.platform.before = _refuse
    for _ in range(3):
        office.dispatch(max_attempts=2)
    office.platform.before = lambda action: None
    assert office.do(lifecycle.show, made)["status"] == "failed"
    return made


def _refuse(action: str) -> None:
    raise PlatformError("no")


def test_what_was_withdrawn_is_proposed_again_when_the_rules_propose_it_again(office: Office) -> None:
    """Also a superseding one: decided content, other content, the decided again, the other again."""
    id = _with_claim_key(office)
    other = _draft(office, id, note="another")
    assert office.do(lifecycle.propose, [other]).superseding == 1
    office.do(lifecycle.propose, [_draft(office, id)])
    later = proposal_id("lakeside", "posting", "k-0", 2)
    assert office.do(lifecycle.show, later)["status"] == "expired"
    assert office.do(lifecycle.propose, [other]).revised == 1
    assert office.do(lifecycle.show, later)["status"] == "proposed"
    assert office.do(lifecycle.propose, [other]).unchanged == 1
    assert office.do(lifecycle.withdraw, "lakeside", date(2026, 11, 2), ("posting",), []) == 1
    assert office.do(lifecycle.withdraw, "lakeside", date(2026, 11, 2), ("posting",), []) == 0
    assert office.do(lifecycle.show, id)["status"] == "failed"  # a decided one is nobody's to withdraw
