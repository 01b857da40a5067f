"""The same payment in other bytes, files still being written, claims that change: nothing is proposed twice, nothing is lost."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from medbill.audit.ledger import RunContext
from medbill.errors import DecisionRefused
from medbill.pipelines import extract, payments, post, receive, triage
from medbill.pipelines.context import Context, Partition
from medbill.platforms.base import Extraction
from medbill.proposals import lifecycle
from medbill.store.tables import holds, inbox_files, outbox, partitions, proposals, quarantine
from medbill.store.tables import payments as payments_table

_spec = importlib.util.spec_from_file_location("faults_world", Path(__file__).with_name("world.py"))
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(w)

pytestmark = pytest.mark.slow

DAY, NEXT = date(2026, 10, 5), date(2026, 10, 6)
OFFICE = w.Office()
DENIED = OFFICE.claim(w.Line("ZQDENIED", paid=0, cas=(("CO", "50", 10_000),)), status="4")
PAID = w.Payment((OFFICE.claim(), DENIED, OFFICE.claim(bill=False)), trace="EFT0815")
OTHER = w.Payment((OFFICE.claim(),), trace="EFT0816")


def again(payment: w.Payment = PAID, **changes: Any) -> bytes:
    """The payment in another interchange, of the next day, with other line ends."""
    data: bytes = w.interchange(DAY, replace(payment, **changes), OTHER, control=77, end="~\r\n")
    for form in ("%y%m%d", "%Y%m%d"):
        data = data.replace(f"*{DAY.strftime(form)}*0415".encode(), f"*{NEXT.strftime(form)}*0415".encode())
    return data


FIRST = w.interchange(DAY, PAID)


@pytest.fixture(scope="module")
def made(module_database: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.World]:
    with w.steady_tokens(), w.remembered({}):
        world = w.open_world(module_database, tmp_path_factory.mktemp("home"), OFFICE)
        world.bill()
        yield world


@pytest.fixture
def world(made: w.World) -> w.World:
    made.sent.clear()
    w.rewind(made, {})
    return made


def _prepared(world: w.World, *files: tuple[str, bytes]) -> None:
    """Files taken in this order, landed and published, not posted."""
    for name, data in files:
        world.drop(name, data)
        world.scan()
    world.land()
    world.publish()


def _post(world: w.World, *days: date) -> None:
    for day in days:
        for step in (post.post, triage.triage):
            step(world.ctx, Partition(w.PRACTICE, "remittances", day))


def _held(world: w.World) -> dict[date, list[str]]:
    found: dict[date, list[str]] = {}
    for h in world.rows(holds, holds.c.status == "open"):
        found.setdefault(h["day"], []).append(h["reason_code"])
    return {day: sorted(codes) for day, codes in found.items()}


def _proposed(world: w.World, day: date) -> list[str]:
    return sorted(p["kind"] for p in world.rows(proposals, proposals.c.day == day, proposals.c.status == "proposed"))


ALL = ["denial_follow_up", "posting", "posting"]


def _own(kinds: list[str]) -> list[str]:
    return [k for k in kinds if k != "underpayment_dispute"]


def test_a_payment_sent_again_in_other_bytes_is_held_not_proposed(world: w.World) -> None:
    world.drop("a.835", FIRST)
    world.run()
    assert _own(_proposed(world, DAY)) == ALL
    world.drop("b.835", again())
    world.run()
    assert _own(_proposed(world, DAY)) == ALL
    assert _own(_proposed(world, NEXT)) == ["posting"]  # the other payment of that file
    assert _held(world) == {DAY: ["UNMATCHED_CLAIM"], NEXT: ["PAYMENT_REPEATED"] * 3}
    w.assert_nothing_lost(world)
    w.assert_no_canary(world, OFFICE.canaries | {"EFT0815"})


def test_the_order_of_a_backfill_does_not_matter(world: w.World) -> None:
    prints = set()
    for days in ((DAY, NEXT), (NEXT, DAY), (NEXT, DAY, NEXT), (NEXT, NEXT, DAY, DAY)):
        world.sent.clear()
        w.rewind(world, {})
        _prepared(world, ("a.835", FIRST), ("b.835", again()))
        _post(world, *days)
        assert _held(world) == {DAY: ["UNMATCHED_CLAIM"], NEXT: ["PAYMENT_REPEATED"] * 3}
        w.assert_nothing_lost(world)
        prints.add(world.fingerprint())
        world.run()
        assert post.pending(world.ctx) == [] and world.fingerprint() in prints
    assert len(prints) == 1


def test_the_first_to_land_counts_although_its_day_is_later(world: w.World) -> None:
    _prepared(world, ("b.835", again()), ("a.835", FIRST))
    _post(world, DAY, NEXT)
    assert _held(world) == {DAY: ["PAYMENT_REPEATED"] * 3, NEXT: ["UNMATCHED_CLAIM"]}
    assert (_own(_proposed(world, DAY)), _own(_proposed(world, NEXT))) == ([], sorted([*ALL, "posting"]))
    w.assert_nothing_lost(world)


def test_twice_in_one_file_and_in_another_order_is_the_same_payment(world: w.World) -> None:
    turned = replace(PAID, claims=PAID.claims[::-1])
    world.drop("a.835", w.interchange(DAY, PAID, turned))
    world.run()
    assert _held(world) == {DAY: ["PAYMENT_REPEATED"] * 3 + ["UNMATCHED_CLAIM"]}
    w.assert_nothing_lost(world)


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": (*PAID.claims, OFFICE.claim(bill=False))},
        {"claims": (replace(PAID.claims[0], number="ZQPCOTHER"), *PAID.claims[1:])},
        {"plb": (("WO", 100),)},
    ],
    ids=["a claim more", "another claim number of the payer", "an adjustment of the deposit"],
)
def test_a_known_trace_with_other_content_waits_for_a_person(world: w.World, changes: dict[str, Any]) -> None:
    _prepared(world, ("a.835", FIRST), ("b.835", again(**changes)))
    _post(world, NEXT, DAY)
    assert set(_held(world)[NEXT]) == {"PAYMENT_CHANGED"}
    assert _own(_proposed(world, NEXT)) == ["posting"]
    w.assert_nothing_lost(world)


def test_another_payer_and_a_reversal_under_its_own_trace_are_payments_of_their_own(world: w.World) -> None:
    first = PAID.claims[0]
    back = replace(
        first, status="22", lines=(replace(first.lines[0], charge=-10_000, paid=-8_000, cas=(("CO", "45", -2_000),)),)
    )
    world.drop("a.835", w.interchange(DAY, PAID, replace(PAID, payer="BLUE RIVER MUTUAL", payer_id="BRM02")))
    world.drop("b.835", again(claims=(back, first), trace="EFT0999"))
    world.run()
    assert _held(world) == {DAY: ["UNMATCHED_CLAIM"] * 2}
    assert len(world.rows(proposals, proposals.c.kind == "posting")) == 4 + 3


@pytest.mark.parametrize("turned", [False, True])
def test_what_gate_1_refused_does_not_stand_in_the_way_of_the_whole_one(world: w.World, turned: bool) -> None:
    """The payer cut its file, and sends it again whole: the second is posted, also where its day is run first."""
    broken = w.interchange(DAY, replace(PAID, se=1))
    _prepared(world, ("a.835", broken), ("b.835", again()))
    _post(world, *((NEXT, DAY) if turned else (DAY, NEXT)))
    assert _held(world) == {NEXT: ["UNMATCHED_CLAIM"]}
    assert _own(_proposed(world, NEXT)) == sorted([*ALL, "posting"])
    w.assert_nothing_lost(world)
    with world.ctx.db.begin() as connection:  # later somebody decides that the first may pass
        connection.execute(sa.update(quarantine).values(status="released"))
    _post(world, NEXT)
    assert _own(_proposed(world, NEXT)) == sorted([*ALL, "posting"])  # what was posted stays the one


def test_a_held_payment_is_posted_once_the_first_turns_out_refused(world: w.World) -> None:
    """The day of the first is taken but not landed: until its gate has spoken, the second waits."""
    world.drop("a.835", w.interchange(DAY, replace(PAID, se=1)))
    world.drop("b.835", again())
    world.scan()
    receive.land(world.ctx, [Partition(w.PRACTICE, "remittances", NEXT)])
    world.publish()
    _post(world, NEXT)
    assert _held(world)[NEXT] == ["PAYMENT_REPEATED"] * 3
    world.run()
    assert _held(world) == {NEXT: ["UNMATCHED_CLAIM"]}
    assert _own(_proposed(world, NEXT)) == sorted([*ALL, "posting"])
    w.assert_nothing_lost(world)


def test_files_landed_before_payments_were_written_down_are_entered_in_their_order(world: w.World) -> None:
    _prepared(world, ("a.835", FIRST), ("b.835", again()))
    with world.ctx.db.begin() as connection:
        connection.execute(sa.delete(payments_table))
    _post(world, DAY, NEXT)
    assert NEXT not in _held(world) or "PAYMENT_REPEATED" not in _held(world)[NEXT]  # as it was: proposed twice
    world.run()
    assert _held(world) == {DAY: ["UNMATCHED_CLAIM"], NEXT: ["PAYMENT_REPEATED"] * 3}
    assert _own(_proposed(world, NEXT)) == ["posting"]  # nobody had decided on the others: withdrawn
    assert payments.enter_missing(world.ctx, w.PRACTICE) == 0


def test_a_file_let_in_by_a_person_comes_behind_what_landed_before(world: w.World) -> None:
    world.drop("a.835", w.interchange(NEXT, w.Payment((OFFICE.claim(bill=False),))))
    world.scan()
    held = world.drop("a.835", FIRST)  # the name is known
    world.scan()
    world.drop("b.835", again())
    world.scan()
    assert [f["status"] for f in world.rows(inbox_files, inbox_files.c.sha256 == held)] == ["held"]
    receive.release(world.ctx, w.PRACTICE, held, actor="ana", accept=True)
    world.run()
    assert _held(world)[DAY] == ["PAYMENT_REPEATED"] * 3
    w.assert_nothing_lost(world)


def test_two_runs_over_two_days_of_one_payment(world: w.World) -> None:
    _prepared(world, ("a.835", FIRST), ("b.835", again()))
    failed: list[BaseException] = []

    def run(*days: date) -> None:
        try:
            own = w.World(Context.open(world.ctx.settings, RunContext(dag_id="test")), OFFICE)
            _post(own, *days)
        except BaseException as error:  # for the main thread
            failed.append(error)

    threads = [threading.Thread(target=run, args=days) for days in ((DAY, NEXT), (NEXT, DAY))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failed == []
    assert _held(world) == {DAY: ["UNMATCHED_CLAIM"], NEXT: ["PAYMENT_REPEATED"] * 3}
    w.assert_nothing_lost(world)


# --- claims that change -----------------------------------------------------------------------------------------------


def test_holds_are_tried_again_when_the_practices_claims_change(world: w.World) -> None:
    """Unique, then on two days, then unique again: posted, withdrawn and held, posted again, each by an ordinary run."""
    day = w.SERVICE_DAY + timedelta(days=3)
    claim = OFFICE.claim()
    world.bill()
    world.drop("a.835", w.interchange(DAY, w.Payment((claim, OFFICE.claim(bill=False)))))
    world.run()
    (posting,) = [p for p in world.rows(proposals) if p["kind"] == "posting"]

    OFFICE.bill(claim, day)
    world.bill()
    world.run()
    assert _held(world) == {DAY: ["AMBIGUOUS_CLAIM", "UNMATCHED_CLAIM"]}
    assert _proposed(world, DAY) == []  # nobody may approve a posting of a claim that is held
    with world.ctx.db.connect() as connection:
        shown = lifecycle.show(connection, posting["id"])
    assert (shown["status"], shown["events"][-1]["event"]) == ("expired", "withdrawn")
    with pytest.raises(DecisionRefused, match="already expired"), world.ctx.db.begin() as connection:
        lifecycle.approve(connection, posting["id"], posting["content_hash"], "Ana Ruiz", platform="drchrono")

    OFFICE.billed.remove(next(row for row in OFFICE.billed if row[:2] == (claim.id, day)))
    world.bill()
    world.run()
    assert _held(world) == {DAY: ["UNMATCHED_CLAIM"]}
    (back,) = [p for p in world.rows(proposals) if p["kind"] == "posting"]
    assert (back["id"], back["status"], back["content_hash"]) == (posting["id"], "proposed", posting["content_hash"])
    w.assert_nothing_lost(world)


def test_a_claim_outside_of_what_was_asked_for_does_not_replace_its_day(world: w.World) -> None:
    """A platform that answers with a claim of another day: that day's other claims stay."""

    class Wide:
        name = "drchrono"
        scope: Mapping[str, tuple[str, ...]] = MappingProxyType({})

        def extract(self, start: date, end: date) -> Extraction:
            whole = OFFICE.extract(w.SERVICE_DAY, w.SERVICE_DAY)
            claims = whole.tables["claims"].slice(0, 1)
            lines = whole.tables["claim_lines"]
            lines = lines.filter(pc.is_in(lines["claim_id"], value_set=claims["claim_id"].combine_chunks()))
            return Extraction({"claims": claims, "claim_lines": lines})

    row = partitions.c.object == "claims", partitions.c.day == w.SERVICE_DAY
    before = world.rows(partitions, *row)
    later = w.SERVICE_DAY + timedelta(days=10)
    assert extract.extract(world.ctx, w.PRACTICE, "drchrono", Wide(), later, later) == []
    assert world.rows(partitions, *row) == before
    with world.ctx.db.connect() as connection:
        told = connection.execute(
            sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows WHERE kind = 'platform.extract'")
        ).scalars()
        assert any("OUTSIDE_WINDOW" in text for text in told)


# --- files on their way -----------------------------------------------------------------------------------------------


def _waits(world: w.World, settle: float = 0.0, patience: float = 600.0) -> w.World:
    settings = replace(world.ctx.settings, inbox_settle=settle, inbox_patience=patience)
    return w.World(Context.open(settings, RunContext(dag_id="test")), OFFICE, world.sent)


@pytest.mark.parametrize("cut", [0, 2, 60, 107, -40, -12, -3], ids=str)
def test_a_young_file_without_its_end_waits_for_the_rest(world: w.World, cut: int) -> None:
    waiting = _waits(world)
    (waiting.inbox).mkdir(parents=True, exist_ok=True)
    path = waiting.inbox / "a.835"
    path.write_bytes(FIRST[:cut])
    for _ in range(2):
        received = waiting.scan()
        assert (received.unfinished, received.landed, received.quarantined) == (1, 0, 0)
    assert world.rows(inbox_files) == []
    waiting.drop("a.835", FIRST)
    assert waiting.scan().landed == 1
    assert [f["version"] for f in world.rows(inbox_files)] == [1]


def test_an_old_file_without_its_end_goes_to_quarantine(world: w.World) -> None:
    waiting = _waits(world)
    waiting.drop("a.835", FIRST[:-12])
    waiting.drop("empty.835", b"")
    for path in waiting.inbox.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    waiting.drop("scan.835", b"%PDF-1.7\nZQPDF")  # no beginning of an 835, however young
    received = waiting.scan()
    assert (received.unfinished, received.landed, received.quarantined) == (0, 1, 2)
    assert waiting.waiting() == []


def test_a_file_that_grows_between_two_looks_waits_and_one_that_rests_does_not(
    world: w.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = _waits(world, settle=60.0)
    waiting.drop("a.835", FIRST)
    waiting.drop("b.835", again())
    slept: list[float] = []

    def write_meanwhile(seconds: float) -> None:
        slept.append(seconds)
        with (waiting.inbox / "a.835").open("ab") as file:
            file.write(b"\n")

    monkeypatch.setattr(receive.time, "sleep", write_meanwhile)
    received = waiting.scan()
    assert (received.unfinished, received.landed, slept) == (1, 1, [60.0])
    assert waiting.waiting() == ["a.835"]
    os.utime(waiting.inbox / "a.835", (1_700_000_000, 1_700_000_000))
    assert (waiting.scan().landed, slept) == (1, [60.0])  # long at rest: no wait at all


def test_a_file_replaced_while_it_is_read_is_not_deleted_unread(
    world: w.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("a.835", FIRST)
    refuse = receive._refuse_file

    def replace_it(data: bytes) -> Any:
        if data == FIRST:
            world.drop("a.835", again())
        return refuse(data)

    monkeypatch.setattr(receive, "_refuse_file", replace_it)
    assert world.scan().landed == 1
    assert world.waiting() == ["a.835"]
    assert world.scan().held == 1  # the name is known, the bytes are not
    assert world.waiting() == []


def test_a_defect_of_the_reader_stops_one_file(world: w.World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drop("a.835", FIRST)
    world.drop("b.835", again())
    read = receive.era.read

    def fails(sources: Any) -> Any:
        if sources == [FIRST]:
            raise pa.ArrowInvalid("ZQLASTAAAB")
        return read(sources)

    monkeypatch.setattr(receive.era, "read", fails)
    received = world.scan()
    assert (received.quarantined, received.landed, world.waiting()) == (1, 1, [])
    assert [q["reason_code"] for q in world.rows(quarantine)] == ["READER_FAILED"]


def test_a_practice_without_a_platform_says_so_when_a_proposal_is_approved(
    world: w.World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.drop("a.835", FIRST)
    world.run()
    posting = world.rows(proposals)[0]
    (tmp_path / "practices.yml").write_text(
        "practices: [{id: lakeside, name: Lakeside, npis: [], tax_ids: [], platform: null}]"
    )
    monkeypatch.setenv("MEDBILL_POLICIES", str(tmp_path))
    with pytest.raises(DecisionRefused, match="no billing platform"), world.ctx.db.begin() as connection:
        lifecycle.approve(connection, posting["id"], posting["content_hash"], "Ana Ruiz")
    assert world.rows(outbox) == []
