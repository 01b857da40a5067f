"""The made-up practice: deterministic, stable as its window moves, with everything the product must find."""

from datetime import date, timedelta
from decimal import Decimal

from medbill.sandbox import practice, wire
from medbill.sandbox.adjudication import decide
from medbill.sandbox.practice import DENIAL_ROUND, PAYERS, RATES, generate

START = date(2026, 5, 4)


def luhn(npi: str) -> bool:
    digits = [int(d) for d in "80840" + npi]
    doubled = [d * 2 - 9 * (d > 4) if i % 2 else d for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def decisions(visit):
    return [(d.day, d.kind, d.lines, d.payer_claim_number) for d in decide(3, visit)[0]]


def test_same_arguments_give_the_same_practice():
    assert generate(3, START) == generate(3, START)
    assert generate(3, START) != generate(4, START)


def test_a_day_does_not_change_as_the_window_moves():
    before, after = generate(3, START), generate(3, START + timedelta(days=1))
    shared = {v.id: v for v in before.visits if v.service_date >= after.start}
    moved = {v.id: v for v in after.visits if v.id in shared}
    assert shared.keys() == moved.keys()
    for claim, visit in shared.items():
        assert visit.lines == moved[claim].lines
        assert visit.scenario == moved[claim].scenario
        assert decisions(visit) == decisions(moved[claim])


def test_identifiers_are_valid_and_unique():
    data = generate(3, START)
    npis = [p.npi for p in data.providers] + [practice.PRACTICE_NPI]
    assert all(luhn(n) and len(n) == 10 for n in npis)
    assert len({p.id for p in data.patients}) == len(data.patients)
    assert len({p.member_id for p in data.patients}) == len(data.patients)
    ids = [v.id for v in data.visits] + [line.id for v in data.visits for line in v.lines]
    assert len(ids) == len(set(ids))


def test_size_follows_the_argument():
    assert 250 <= len(generate(3, START).visits) <= 400
    assert 2300 <= len(generate(3, START, claims=2500).visits) <= 2700
    assert generate(3, START, claims=0).visits[:1] != ()  # what is kept back for flawed files is still there


def test_denials_are_about_eleven_percent_of_first_decisions():
    for claims in (330, 3000):
        visits = [v for v in generate(5, START, claims=claims).visits if not v.scenario.startswith("planted")]
        denied = sum("/" in v.scenario for v in visits)
        assert 0.08 <= denied / len(visits) <= 0.14


def test_every_kind_of_denial_is_in_any_window():
    for seed in (1, 2, 3):
        scenarios = {v.scenario for v in generate(seed, START).visits}
        assert {name for name, _ in DENIAL_ROUND} <= scenarios


def test_every_payer_has_patients_and_contracts_cover_every_code():
    data = generate(3, START)
    assert {p.payer for p in data.patients} == set(PAYERS)
    assert all(set(rates) == set(practice.CODES) for rates in RATES.values())
    assert RATES["LHP01"]["99213"] == 9800
    assert practice.money(RATES["MCR00"]["J1885"]) == Decimal("0.55")


def test_wire_records_survive_the_trip_with_exact_amounts():
    records = wire.records(generate(3, START, claims=60))
    assert wire.loads(wire.dumps(records)) == records
    assert all(isinstance(r["billed"], Decimal) for r in records["line_items"])
    for name in ("line_items", "transactions", "appointments", "eobs"):
        ids = [r["id"] for r in records[name]]
        assert len(ids) == len(set(ids))


def test_wire_claims_carry_more_than_medbill_wants():
    record = wire.records(generate(3, START, claims=60))["patients"][0]
    assert {"social_security_number", "address", "email", "cell_phone"} <= record.keys()
    assert "social_security_number" not in wire.summary(record)
