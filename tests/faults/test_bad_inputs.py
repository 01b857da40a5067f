"""Bad input of every kind through the real pipeline: what becomes of it, that nothing is lost, that nobody is named.

All cases are dropped at once, as files of one remittance day beside good ones, and run once: each must stop itself alone,
and a gate costs seconds, whatever it checks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from medbill.audit.verify import verify
from medbill.pipelines import extract, post, triage
from medbill.pipelines.context import Partition
from medbill.pipelines.keys import remittance_key
from medbill.store.tables import holds, inbox_files, partitions, proposals, quarantine

_spec = importlib.util.spec_from_file_location("faults_world", Path(__file__).with_name("world.py"))
assert _spec is not None and _spec.loader is not None
w = sys.modules.setdefault("faults_world", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(w)

pytestmark = pytest.mark.slow

DAY = date(2026, 10, 5)
NEXT_DAY = DAY + timedelta(days=1)
MOVED_FROM = w.SERVICE_DAY + timedelta(days=20)


@dataclass
class Case:
    """files: name and bytes. refused: a file's quarantine reasons. quarantined: (level, reason) -> claims it takes along.

    held: reason -> claims. posted: claims with a posting proposal.
    """

    name: str
    files: list[tuple[str, bytes]]
    refused: list[str] = field(default_factory=list)
    quarantined: dict[tuple[str, str], int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    posted: int = 0
    duplicates: int = 0
    day: date = DAY

    @property
    def shas(self) -> set[str]:
        return {hashlib.sha256(data).hexdigest() for _, data in self.files}

    def holds_key(self, key: str) -> bool:
        """Whether a claim or remittance key is of one of these files."""
        return any(key.startswith(remittance_key(sha, ordinal)) for sha in self.shas for ordinal in range(8))


#: What a code field holds that somebody wrote a name into, as changes of a plain claim: NAME is the patient's last name.
_CLAIM_TEXT = {
    "CLP06": {"tail": "NAME*{number}*11*1"},
    "CLP08": {"tail": "12*{number}*NAME*1"},
    "CLP09": {"tail": "12*{number}*11*NAME"},
    "CLP11": {"tail": "12*{number}*11*1**NAME"},
    "MOA03": {"extra": ("MOA***NAME",)},
    "NM109 of the rendering provider": {"extra": ("NM1*82*1*TESTWELL*ORLENA****XX*NAME",)},
}
_LINE_TEXT = {
    "SVC01-1": {"code": "NAME:99213"},
    "SVC01-2": {"code": "HC:NAME"},
    "SVC01-2 with a digit": {"code": "HC:NAME FOR 99213"},
    "SVC01-3": {"code": "HC:99213:NAME"},
    "SVC04": {"rest": "*NAME*1"},
    "SVC06": {"rest": "**1*HC:NAME"},
    "CAS02": {"cas": (("CO", "NAME", 2_000),)},
    "LQ02": {"extra": ("LQ*HE*NAME",)},
    "REF*HPI": {"extra": ("REF*HPI*NAME",)},
}
_PAYMENT_TEXT = {
    "BPR03": {"bpr": "NAME*ACH"},
    "BPR04": {"bpr": "C*NAME"},
    "PLB03-1": {"plb": (("NAME", 0),)},
    "PLB03-1 before a reference": {"plb": (("NAME:REF1", 0),)},
    "REF*TJ": {"header": ("REF*TJ*NAME",)},
    "N104 of the payee": {"npi": "NAME"},
}


def _named(changes: dict, name: str) -> dict:
    def one(value: object) -> object:
        if isinstance(value, str):
            return value.replace("NAME", name)
        return tuple(one(v) for v in value) if isinstance(value, tuple) else value

    return {key: one(value) for key, value in changes.items()}


def build(office: w.Office) -> list[Case]:
    """All cases, their claims billed."""
    cases: list[Case] = []
    plain, line, day = office.claim, w.Line, lambda: DAY

    def add(name: str, *files: bytes, **expected: object) -> None:
        cases.append(Case(name, [(f"{name}_{i}.835", data) for i, data in enumerate(files)], **expected))

    def paid(*claims: w.Claim, **changes: object) -> bytes:
        return w.interchange(day(), w.Payment(claims, **changes))

    add("good", paid(plain(), plain()), posted=2)
    add("empty", b"", refused=["EMPTY_FILE"])
    add("blank", b" \r\n\t\r\n", refused=["EMPTY_FILE"])
    who = plain()
    add("pdf", b"%PDF-1.7\n1 0 obj\n<</Title (" + who.last.encode() + b")>>\nendobj\n%%EOF\n", refused=["NOT_X12"])
    add("zeros", b"\0" * 4096, refused=["NOT_X12"])
    add("cut_in_isa", paid(plain())[:70], refused=["NOT_X12"])
    add("cut_after_isa", paid(plain())[:107], refused=["NO_REMITTANCE"])

    whole = paid(plain(), plain())
    at = whole.index(b"CLP*", whole.index(b"CLP*") + 4)
    add("cut_between_segments", whole[: whole.index(b"CAS*", at)], quarantined={("transaction", "TRUNCATED"): 2})
    whole = paid(plain(), plain())
    at = whole.index(b"CLP*", whole.index(b"CLP*") + 4)
    add("cut_in_segment", whole[: whole.index(b"SVC*", at) + 9], quarantined={("transaction", "TRUNCATED"): 2})
    whole = w.interchange(day(), w.Payment((plain(),)), w.Payment((plain(),)))
    add(
        "cut_between_payments",
        whole[: whole.index(b"ST*", whole.index(b"SE*"))],
        quarantined={("transaction", "ENVELOPE_ERROR"): 1},
    )
    whole = w.interchange(day(), w.Payment((plain(),))) + w.interchange(day(), w.Payment((plain(),)), control=2)
    add("cut_in_second_isa", whole[: whole.rindex(b"ISA*") + 50], quarantined={("transaction", "ENVELOPE_ERROR"): 1})
    add("wrong_se01", paid(plain(), plain(), se=1), quarantined={("transaction", "ENVELOPE_ERROR"): 2})

    off = plain(line("ZQOFFA", cas=(("CO", "45", 1_000),)))
    add("unbalanced_line", paid(off, plain()), quarantined={("claim", "CLAIM_UNBALANCED"): 1}, posted=1)
    off = plain(charge=12_000)
    add("unbalanced_claim", paid(off, plain()), quarantined={("claim", "CLAIM_UNBALANCED"): 1}, posted=1)
    add("unbalanced_payment", paid(plain(), plain(), off=1), quarantined={("transaction", "TRANSACTION_UNBALANCED"): 2})

    same = paid(plain())
    add("duplicate", same, same, posted=1, duplicates=1)
    two = (w.Payment((plain(),)), w.Payment((plain(),), payer="BLUE RIVER MUTUAL", payer_id="BRM02"))
    add("two_payers", w.interchange(day(), *two), posted=2)
    add("unknown_carc", paid(plain(line("ZQUNKA", cas=(("CO", "45", 1_500), ("CO", "ZZ9", 500))))), posted=1)

    back = line("ZQREVA", charge=-10_000, paid=-8_000, cas=(("CO", "45", -2_000),))
    first = plain(replace(back, charge=10_000), bill=False)
    reversed_, again = (
        replace(first, status="22", lines=(back,)),
        replace(first, lines=(line("ZQREVA", paid=9_000, cas=(("CO", "45", 1_000),)),)),
    )
    office.bill(again)
    add("negative", paid(reversed_, again), posted=2)
    nothing = plain(line("ZQZERA", charge=0, paid=0, cas=()))
    denied = plain(line("ZQZERB", paid=0, cas=(("CO", "50", 10_000),)), status="4")
    add("zero", paid(nothing, denied), posted=2)
    add("negative_payment", paid(plain(line("ZQNEGA", charge=-500, paid=-500, cas=()), status="22")), posted=1)

    many = tuple(line(f"ZQMANY{i}", charge=1_000, paid=800, cas=(("CO", "45", 200),)) for i in range(10_000))
    add("ten_thousand_lines", paid(plain(*many)), posted=1)
    double = plain()
    office.bill(double, w.SERVICE_DAY + timedelta(days=1))
    add("ambiguous", paid(double, plain()), held={"AMBIGUOUS_CLAIM": 1}, posted=1)
    add("other_practice", paid(plain(), npi=w.OTHER_NPI), held={"OTHER_PRACTICE": 1})
    add("unknown_claim", paid(plain(bill=False), plain()), held={"UNMATCHED_CLAIM": 1}, posted=1)
    add("utf16", paid(plain(last="ZQLÄSTÉR")).decode().encode("utf-16"), posted=1)
    add("utf16_cut", paid(plain()).decode().encode("utf-16")[:-131], quarantined={("transaction", "TRUNCATED"): 1})
    several = w.interchange(day(), w.Payment((plain(),))) + w.interchange(
        day(), w.Payment((plain(), plain(bill=False))), control=2, separator="|", end="\x1d"
    )
    add("several_interchanges", several, held={"UNMATCHED_CLAIM": 1}, posted=2)

    texts = []
    for changes in _CLAIM_TEXT.values():
        who = plain()
        texts.append(replace(who, **_named(changes, who.last)))
    for k, changes in enumerate(_LINE_TEXT.values()):
        who = plain(line(f"ZQTXT{k}A"))
        texts.append(replace(who, lines=(replace(who.lines[0], **_named(changes, who.last)),)))
    good = [plain() for _ in texts]
    add("text_in_code", paid(*texts, *good), quarantined={("claim", "BAD_CODE"): len(texts)}, posted=len(good))
    payments = []
    for changes in _PAYMENT_TEXT.values():
        who = plain()
        payments.append(w.Payment((who,), **_named(changes, who.last)))
    add(
        "text_in_payment_code",
        w.interchange(day(), *payments),
        quarantined={("transaction", "BAD_CODE"): len(payments)},
    )
    who = plain()
    add(
        "text_in_version",
        w.interchange(day(), w.Payment((who,)), gs8=who.last),
        quarantined={("transaction", "BAD_CODE"): 1},
    )
    office.canaries.discard("ZQHUMANA")
    add("patient_named_as_payer", paid(plain(last="ZQHUMANA"), plain(), payer="ZQHUMANA"), posted=2)
    office.canaries.discard("ZQHUMANA")  # the payer's name, which is published

    cases.append(
        Case(
            "file_names",
            [
                (name, paid(plain()))
                for name in (
                    "ZQNAMEONE_ZQVIOLA_19800101.835",
                    "..ZQNAMETWO..%2F..%2Fetc%2Fpasswd..835"[2:],
                    "ZQNAMEDEEP/ZQNAMETHREE.835",
                    "ZQNAMELONG" * 25,
                    "ZQNAMEÜ\u202e538.\u200b😀.835",
                    " ",
                )
            ],
            posted=6,
        )
    )
    add("next_day", w.interchange(NEXT_DAY, w.Payment((plain(),))), posted=1, day=NEXT_DAY)
    office.canaries |= {"ZQNAME", "ZQVIOLA", "passwd", "😀"}
    return cases


CASES = {case.name: case for case in build(w.Office())}


@pytest.fixture(scope="module")
def world(module_database: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.World]:
    """Every case dropped and run to the end, once."""
    office = w.Office()
    cases = build(office)
    made = w.open_world(module_database, tmp_path_factory.mktemp("home"), office)
    made.moved = office.claim(bill=False)
    office.bill(made.moved, MOVED_FROM)
    made.bill()
    for case in cases:
        for name, data in case.files:
            made.drop(name, data)
    made.run()
    yield made


@pytest.mark.parametrize("name", CASES)
def test_each_bad_input_has_its_outcome(world: w.World, name: str) -> None:
    case = CASES[name]
    files = world.rows(inbox_files, inbox_files.c.sha256.in_(case.shas))
    assert len(files) == len(case.files) - case.duplicates
    assert [f["reason_code"] for f in files if f["status"] == "quarantined"] == case.refused
    assert [q["reason_code"] for q in world.rows(quarantine, quarantine.c.record_key.in_(case.shas))] == case.refused
    if case.refused:
        return
    assert {(f["status"], f["day"]) for f in files} == {("landed", case.day)}
    found: Counter[tuple[str, str]] = Counter()
    for q in world.rows(quarantine, quarantine.c.level != "file"):
        if case.holds_key(q["record_key"]):
            found[q["level"], q["reason_code"]] += q["claims"]
    assert found == case.quarantined
    held = [h["reason_code"] for h in world.rows(holds) if case.holds_key(h["claim_key"])]
    assert Counter(held) == case.held
    assert len(_postings(world, case)) == case.posted


def _postings(world: w.World, case: Case) -> list[dict]:
    found = world.rows(proposals, proposals.c.kind == "posting")
    return [p for p in found if case.holds_key(p["payload"]["posting"]["claim_key"])]


def test_nothing_is_lost(world: w.World) -> None:
    w.assert_nothing_lost(world)


def test_every_file_has_left_the_inbox(world: w.World) -> None:
    assert world.waiting() == []


def test_nobody_is_named(world: w.World) -> None:
    w.assert_no_canary(world, world.office.canaries)


def test_the_ledger_verifies_and_every_read_is_in_it(world: w.World) -> None:
    checked = verify(world.ctx.db)
    assert checked.problems == []
    with world.ctx.db.connect() as connection:
        reads = connection.execute(
            sa.text("SELECT count(*) FROM audit.rows WHERE kind = 'inbox.read' AND outcome = 'success'")
        ).scalar()
    assert reads == sum(len(case.files) for case in CASES.values())


def test_the_lines_of_the_long_claim_are_all_allocated(world: w.World) -> None:
    (posting,) = _postings(world, CASES["ten_thousand_lines"])
    lines = posting["payload"]["lines"]
    assert len(lines) == 10_000 and {line["matched_by"] for line in lines} == {"line_control_number"}
    assert posting["amount"] * 100 == 8_000_000


def test_an_unknown_reason_is_posted_with_a_note(world: w.World) -> None:
    (posting,) = _postings(world, CASES["unknown_carc"])
    assert "unknown reason code: 1" in posting["payload"]["posting"]["note"]


def test_running_again_changes_nothing(world: w.World) -> None:
    before = world.fingerprint()
    for case in CASES.values():
        for name, data in case.files:
            world.drop(f"again-{hashlib.sha256(name.encode()).hexdigest()[:8]}.835", data)
    received = world.scan()
    assert received.duplicates == received.files
    world.land()
    world.publish()
    for partition in world.rows(partitions, partitions.c.object == "remittances"):
        for step in (post.post, triage.triage):
            step(world.ctx, Partition(w.PRACTICE, "remittances", partition["day"]))
    assert world.fingerprint() == before


def test_names_the_store_does_not_take_stop_nobody(world: w.World) -> None:
    """Such a file stays where it is, the ledger has the code, the files after it are taken."""
    odd = ["ZQNAMEBACK\\..\\x.835", "ZQNAMELINE\n.835", os.fsdecode(b"ZQNAMEBYTES\xff.835")]
    for name in odd:
        (world.inbox / name).write_bytes(b"never read")
    (world.inbox / "ZQNAMELINK.835").symlink_to(world.inbox / odd[0])  # not followed, not counted
    sha = world.drop("zz_after_them.835", b" ")
    received = world.scan()
    assert (received.files, received.refused, received.quarantined) == (4, 3, 1)
    assert world.rows(inbox_files, inbox_files.c.sha256 == sha)[0]["status"] == "quarantined"
    assert world.waiting() == sorted([*odd, "ZQNAMELINK.835"])
    with world.ctx.db.connect() as connection:
        refused = (
            connection.execute(sa.text("SELECT payload FROM audit.rows WHERE outcome = 'failure'")).scalars().all()
        )
    assert [json.loads(bytes(row))["details"]["error"] for row in refused] == ["KEY_REFUSED"] * 3
    w.assert_no_canary(world, {"ZQNAME"})
    for name in world.waiting():
        (world.inbox / name).unlink()


def test_a_visit_moved_to_another_day_is_one_claim(world: w.World) -> None:
    """It is found on the new day alone, though nothing else is left on the old one, so its payment is not ambiguous."""
    moved, new_day = world.moved, MOVED_FROM + timedelta(days=1)
    world.office.billed = [row for row in world.office.billed if row[0] != moved.id]
    world.office.bill(moved, new_day)
    world.drop("moved.835", w.interchange(NEXT_DAY, w.Payment((moved,)), control=7))
    extract.extract(world.ctx, w.PRACTICE, "drchrono", world.office, MOVED_FROM, new_day)
    world.run()
    assert world.rows(holds, holds.c.reason_code == "AMBIGUOUS_CLAIM", holds.c.day == NEXT_DAY) == []
    assert len(world.rows(proposals, proposals.c.day == NEXT_DAY, proposals.c.kind == "posting")) == 2
    w.assert_nothing_lost(world)
