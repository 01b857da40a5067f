"""A made-up family practice: providers, payers, patients and visits, a pure function of a seed and dates.

Each service day depends on the seed, the size and that day alone, so a window that moves on by a day keeps every
visit it shares with the window before. All names, numbers and amounts are invented; procedure codes come without text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

import pyarrow as pa

from medbill.model.claims import CLAIM_LINES, CLAIMS
from medbill.sandbox.draw import Draw

PRACTICE_ID = "lakeside"
PRACTICE_NAME = "Lakeside Family Medicine"
PRACTICE_NPI = "1992000004"
PRACTICE_TAX_ID = "990001234"


@dataclass(frozen=True)
class Identity:
    """Who a practice is: its id in practices.yml, the payee on its remittances, and the platform it bills on."""

    id: str
    name: str
    npi: str
    tax_id: str
    platform: str


LAKESIDE = Identity(PRACTICE_ID, PRACTICE_NAME, PRACTICE_NPI, PRACTICE_TAX_ID, "drchrono")

#: Service days before `today` that remittances of the last REMITTANCE_DAYS may speak of (first payment and follow-up).
DEFAULT_DAYS = 52
DEFAULT_CLAIMS = 330
REMITTANCE_DAYS = 30


class Size(StrEnum):
    SMALL = "small"
    MEDIUM = "medium"


#: Claims of a practice and the service days they are of.
SIZES = {Size.SMALL: (DEFAULT_CLAIMS, DEFAULT_DAYS), Size.MEDIUM: (50_000, 90)}


@dataclass(frozen=True)
class Payer:
    """A made-up payer. pays_on: weekdays (Monday 0) of its payment runs. rates: contracted allowed cents per unit and code."""

    id: str
    name: str
    tax_id: str
    filing_indicator: str  # CLP06
    pays_on: frozenset[int]
    rates: dict[str, int]
    sends_line_control: bool = True  # REF*6R
    sends_allowed: bool = True  # AMT*B6


CODES = ("99213", "99214", "99203", "20610", "36415", "80053", "93000", "J1885", "G0439")
#: What the practice charges, cents per unit.
CHARGES = dict(zip(CODES, (15000, 21500, 19000, 14000, 1500, 3200, 4800, 1200, 18500), strict=True))
#: Contracted allowed amounts, cents per unit; include/policies/contracts/*.yml says the same in dollars.
RATES: dict[str, dict[str, int]] = {
    "LHP01": dict(zip(CODES, (9800, 13800, 11800, 8250, 900, 1640, 2400, 450, 12600), strict=True)),
    "BRM02": dict(zip(CODES, (9200, 13150, 11200, 7900, 850, 1510, 2275, 410, 11900), strict=True)),
    "MCR00": dict(zip(CODES, (8940, 12680, 10995, 6820, 883, 1056, 1520, 55, 11735), strict=True)),
}

_DAILY = frozenset(range(7))
PAYERS = {
    p.id: p
    for p in (
        Payer("LHP01", "Lakeshore Health Plan", "990100001", "12", frozenset({0, 2, 4}), RATES["LHP01"]),
        Payer("BRM02", "Birchmont Mutual", "990100002", "13", frozenset({1, 3, 5}), RATES["BRM02"]),
        Payer("MCR00", "Medicare", "990100003", "MB", _DAILY, RATES["MCR00"]),
        Payer("MCD00", "Medicaid", "990100004", "MC", frozenset({2}), {}, sends_line_control=False),
        Payer("UNW03", "Unwin Casualty", "990100005", "AM", frozenset({4}), {}, sends_allowed=False),
    )
}
_PAYER_MIX = ["LHP01"] * 17 + ["BRM02"] * 12 + ["MCR00"] * 12 + ["MCD00"] * 5 + ["UNW03"] * 4


@dataclass(frozen=True)
class Provider:
    id: int
    npi: str
    first_name: str
    last_name: str


@dataclass(frozen=True)
class Patient:
    id: int
    first_name: str
    last_name: str
    birth_date: date
    gender: str
    payer: str
    member_id: str
    secondary: str | None
    secondary_member_id: str | None
    deductible_open: bool
    #: Segments that every remittance on the patient repeats, such as a subscriber's name (NM1) or a record number (REF).
    remitted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One charge. price: cents per unit. pointers: positions in the visit's diagnoses, from 1."""

    id: int
    code: str
    modifiers: tuple[str, ...]
    units: int
    price: int
    pointers: tuple[int, ...]

    @property
    def charge(self) -> int:
        return self.price * self.units


@dataclass(frozen=True)
class Visit:
    """One appointment, which is one claim. scenario: what its payer will do with it (medbill.sandbox.adjudication)."""

    id: int
    patient: Patient
    provider: Provider
    payer: str
    service_date: date
    minute: int  # of the day
    billed_date: date | None
    diagnoses: tuple[str, ...]
    lines: tuple[Line, ...]
    scenario: str

    @property
    def charge(self) -> int:
        return sum(line.charge for line in self.lines)


@dataclass(frozen=True)
class PracticeData:
    """today is the first day that is not in the data: visits and remittances end the day before."""

    seed: int
    start: date
    today: date
    providers: tuple[Provider, ...]
    patients: tuple[Patient, ...]
    visits: tuple[Visit, ...]
    identity: Identity = LAKESIDE

    def claim_tables(self) -> dict[str, pa.Table]:
        """What a right extraction of all service dates gives, without billing_status (it depends on remittances)."""
        claims = [
            {
                "claim_id": str(v.id),
                "platform": self.identity.platform,
                "patient_id": str(v.patient.id),
                "patient_last_name": v.patient.last_name,
                "patient_first_name": v.patient.first_name,
                "patient_birth_date": v.patient.birth_date,
                "member_id": v.patient.member_id,
                "payer_id": v.payer,
                "payer_name": PAYERS[v.payer].name,
                "rendering_npi": v.provider.npi,
                "place_of_service": None,
                "service_date": v.service_date,
                "billed_date": v.billed_date,
                "authorization_number": None,
                "billing_status": None,
                "charge": money(v.charge),
            }
            for v in sorted(self.visits, key=lambda v: str(v.id))
        ]
        lines = [
            {
                "claim_id": str(v.id),
                "line_id": str(line.id),
                "line_number": number,
                "procedure_code": line.code,
                "modifiers": list(line.modifiers),
                "units": Decimal(line.units),
                "charge": money(line.charge),
                "diagnosis_codes": [v.diagnoses[p - 1] for p in line.pointers],
            }
            for v in sorted(self.visits, key=lambda v: str(v.id))
            for number, line in enumerate(v.lines, 1)
        ]
        return {
            "claims": pa.Table.from_pylist(claims, schema=CLAIMS),
            "claim_lines": pa.Table.from_pylist(lines, schema=CLAIM_LINES),
        }


def money(cents: int) -> Decimal:
    """Cents as dollars with two decimals."""
    return Decimal(cents).scaleb(-2)


def npi(first_nine: str) -> str:
    """A National Provider Identifier with its check digit: Luhn over 80840 and the nine digits (45 CFR 162.406)."""
    total = 0
    for position, digit in enumerate(reversed("80840" + first_nine)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return first_nine + str(-total % 10)


#: A second practice, on another platform.
RIVERTON = Identity("riverton", "Riverton Family Medicine", npi("199200001"), "990001235", "tebra")
#: A third one, on AdvancedMD.
CEDARHILL = Identity("cedarhill", "Cedarhill Family Medicine", npi("199200003"), "990001237", "advancedmd")
#: Another one, on CareCloud.
PINEGROVE = Identity("pinegrove", "Pinegrove Family Medicine", npi("199200004"), "990001238", "carecloud")


def business_index(day: date) -> int:
    """Weekdays counted since the first Monday of the calendar; Saturday and Sunday share Friday's."""
    weeks, weekday = divmod(day.toordinal() - 1, 7)
    return weeks * 5 + min(weekday, 4)


# Made up by syllables, so that none is a common surname or a word.
_FIRST = [
    "Avelko",
    "Brindal",
    "Corvey",
    "Dastril",
    "Elovan",
    "Fennick",
    "Gilora",
    "Hestral",
    "Ivorin",
    "Jastel",
    "Kelvara",
    "Lorimund",
    "Mirelle",
    "Nostrin",
    "Odalka",
    "Pellwyn",
    "Quorra",
    "Rastelle",
    "Sorvin",
    "Tamsel",
    "Ulvane",
    "Verrity",
    "Wendrick",
    "Xanthel",
    "Yorveth",
    "Zelmira",
]
_LAST = [
    "Abberquill",
    "Brackensmoor",
    "Cindertwist",
    "Dunwhistle",
    "Eldermock",
    "Fabricotte",
    "Grumblethorpe",
    "Hollowmere",
    "Inkspindle",
    "Jesterfield",
    "Knollbrook",
    "Lampwright",
    "Mockridge",
    "Nettlequist",
    "Oddfellowe",
    "Pretendergast",
    "Quillsworth",
    "Rumblebeck",
    "Sampleford",
    "Thistlemock",
    "Umberfeld",
    "Vellumhart",
    "Wobbleston",
    "Xylander",
    "Yarrowmock",
    "Zephyrdale",
    "Bogusham",
    "Dummerstone",
    "Fauxley",
    "Imaginson",
]
_PROVIDERS = (
    ("Orlena", "Testwell"),
    ("Bram", "Specimere"),
    ("Idris", "Mockham"),
    ("Sunniva", "Placehold"),
    ("Tobiah", "Fictley"),
    ("Maren", "Demosand"),
)

#: (weight, diagnoses, lines: code, modifiers, units, pointers)
_Template = tuple[int, tuple[str, ...], tuple[tuple[str, tuple[str, ...], int, tuple[int, ...]], ...]]
TEMPLATES: dict[str, _Template] = {
    "office": (22, ("I10", "E78.5"), (("99213", (), 1, (1, 2)),)),
    "office_long": (16, ("E11.9", "I10"), (("99214", (), 1, (1, 2)),)),
    "labs": (18, ("E11.9", "R53.83"), (("99213", (), 1, (1,)), ("36415", (), 1, (1, 2)), ("80053", (), 1, (1, 2)))),
    "injection": (
        10,
        ("M17.11", "M25.561"),
        (("99213", ("25",), 1, (2,)), ("20610", ("RT",), 1, (1,)), ("J1885", (), 2, (1,))),
    ),
    "injection_only": (6, ("M17.12",), (("20610", ("LT",), 1, (1,)), ("J1885", (), 4, (1,)))),
    "cardiogram": (10, ("R07.9", "I10"), (("99214", (), 1, (1, 2)), ("93000", (), 1, (1,)))),
    "new_patient": (9, ("J20.9", "R53.83"), (("99203", (), 1, (1,)), ("36415", (), 1, (2,)), ("80053", (), 1, (2,)))),
    "wellness": (9, ("Z00.00",), (("G0439", (), 1, (1,)), ("36415", (), 1, (1,)), ("80053", (), 1, (1,)))),
}
_WEIGHTED = [name for name, (weight, _, _) in TEMPLATES.items() for _ in range(weight)]

#: Denials in the order they come round, one a weekday: scenario -> visit template its lines need.
DENIAL_ROUND = (
    ("CO-16/N290", "office"),
    ("CO-197/", "injection"),
    ("CO-50/N115", "labs"),
    ("CO-97/M15", "labs"),
    ("CO-16/M76+MA130", "office_long"),
    ("CO-29/", "cardiogram"),
    ("CO-50/N386", "cardiogram"),
    ("OA-18/N522", "office"),
    ("CO-27/", "labs"),
    ("CO-197/", "injection_only"),
    ("CO-16/M51", "new_patient"),
    ("CO-109/N418", "office_long"),
    ("CO-11/", "cardiogram"),
    ("CO-97/N19", "new_patient"),
    ("CO-4/N519", "injection"),
    ("PR-204/N130", "wellness"),
    ("CO-22/MA04", "labs"),
    ("CO-252/M127", "office_long"),
)
#: Other events in the order they come round, one a weekday: scenario -> template, payers it happens at.
EVENT_ROUND = (
    ("underpaid", "office", ("LHP01", "BRM02", "MCR00")),
    ("corrected", "office_long", ("LHP01", "BRM02", "MCR00")),
    ("changed_code", "office_long", ("UNW03",)),
    ("underpaid", "injection", ("LHP01", "BRM02")),
    ("recouped", "labs", ("LHP01", "BRM02", "MCR00")),
    ("interest", "cardiogram", ("LHP01", "BRM02")),
)
#: Flawed inputs in a round of 20 weekdays: slot -> what is wrong with the extra file of that remittance day.
PLANTED_ROUND = {
    0: "pdf",
    2: "unbalanced_claim",
    4: "unbalanced_transaction",
    6: "duplicate",
    8: "other_practice",
    11: "unknown_claim",
    13: "two_payers",
    15: "truncated",
    17: "unknown_carc",
}
#: Days between a visit kept back for a flawed file and that file.
PLANTED_LAG = 14
_PLANTED_PAYERS = {
    "unbalanced_claim": ("LHP01", "LHP01"),
    "unbalanced_transaction": ("BRM02", "BRM02"),
    "duplicate": ("LHP01", "LHP01"),
    "unknown_claim": ("BRM02",),
    "two_payers": ("LHP01", "BRM02"),
    "truncated": ("BRM02", "BRM02"),
    "unknown_carc": ("LHP01",),
}
_SCHEDULED_PAYERS = ("LHP01", "LHP01", "BRM02", "MCR00")


def planted_kind(remittance_day: date) -> str | None:
    """What is wrong with the extra file of that day, None where there is none."""
    if remittance_day.weekday() > 4:
        return None
    return PLANTED_ROUND.get(business_index(remittance_day) % 20)


def generate(
    seed: int,
    start: date | None = None,
    days: int = DEFAULT_DAYS,
    claims: int = DEFAULT_CLAIMS,
    *,
    today: date | None = None,
    identity: Identity = LAKESIDE,
) -> PracticeData:
    """The practice with about `claims` claims over `days` service days from `start`, or up to the day before `today`.

    On weekdays; from 4 visits a day on, each day has one denial and one other event in turn, so every kind occurs
    within 30 days of remittances whatever the seed.
    """
    if days < 1 or claims < 0:
        raise ValueError("days must be at least 1 and claims not negative")
    if start is None:
        if today is None:
            raise ValueError("give the first service day, or today")
        start = today - timedelta(days=days)
    today = start + timedelta(days=days)
    providers = tuple(
        Provider(7001 + i, npi(f"19920010{i}"), first, last) for i, (first, last) in enumerate(_PROVIDERS)
    )
    patients = tuple(_patient(seed, i) for i in range(max(60, claims // 2)))
    by_payer = {p: [x for x in patients if x.payer == p] for p in PAYERS}
    visits: list[Visit] = []
    for offset in range(days):
        day = start + timedelta(days=offset)
        if day.weekday() < 5:
            visits += _day(seed, day, today, claims, days, providers, patients, by_payer)
    return PracticeData(seed, start, today, providers, patients, tuple(visits), identity)


def _patient(seed: int, i: int) -> Patient:
    draw = Draw(seed, "patient", i)
    payer = _PAYER_MIX[i * 7 % len(_PAYER_MIX)]
    first_year, last_year = {"MCR00": (1935, 1957), "MCD00": (1980, 2015)}.get(payer, (1956, 2004))
    birth = date(draw.between(first_year, last_year), draw.between(1, 12), draw.between(1, 28))
    secondary = "LHP01" if payer == "MCR00" and draw.below(3) == 0 else None
    return Patient(
        id=90_000_000 + i * 37 + draw.below(37),
        first_name=draw.choice(_FIRST),
        last_name=draw.choice(_LAST),
        birth_date=birth,
        gender=draw.choice(("Female", "Male")),
        payer=payer,
        member_id=_member_id(draw, payer),
        secondary=secondary,
        secondary_member_id=_member_id(draw, secondary) if secondary else None,
        deductible_open=draw.chance(150),
    )


def _member_id(draw: Draw, payer: str) -> str:
    return f"{payer[0]}X{draw.between(100_000_000, 999_999_999)}"


def _day(
    seed: int,
    day: date,
    today: date,
    claims: int,
    days: int,
    providers: tuple[Provider, ...],
    patients: tuple[Patient, ...],
    by_payer: dict[str, list[Patient]],
) -> list[Visit]:
    draw = Draw(seed, "day", day)
    per_mille = claims * 7 * 1000 // (days * 5)  # visits of a weekday, in thousandths
    count = per_mille // 1000 + (1 if draw.chance(per_mille % 1000) else 0)
    if count >= 9000:
        raise ValueError("too many claims a day for the ids of the sandbox; ask for fewer")
    scheduled = count >= 4
    turn = business_index(day)
    # about 11 % of the claims are denied: what the round does not give comes by chance
    chance_of_denial = max(0, 110 - 1000 // count) if scheduled else 110
    visits = []
    for i in range(count):
        pick = Draw(seed, "visit", day, i)
        scenario, template = "plain", pick.choice(_WEIGHTED)
        patient = pick.choice(patients)
        if scheduled and i == 0:
            scenario, template = DENIAL_ROUND[turn % len(DENIAL_ROUND)]
            patient = pick.choice(by_payer[pick.choice(_SCHEDULED_PAYERS)])
        elif scheduled and i == 1:
            scenario, template, at = EVENT_ROUND[turn % len(EVENT_ROUND)]
            patient = pick.choice(by_payer[pick.choice(at)])
        elif pick.chance(chance_of_denial):
            scenario, template = pick.choice(DENIAL_ROUND)
        elif patient.payer in RATES and pick.chance(20):
            scenario = "underpaid"
        visits.append(_visit(pick, day, today, i, patient, providers, template, scenario))
    kind = planted_kind(day + timedelta(days=PLANTED_LAG))
    for k, payer in enumerate(_PLANTED_PAYERS.get(kind or "", ())):
        pick = Draw(seed, "planted", day, k)
        patient = pick.choice(by_payer[payer])
        template = "labs" if kind == "truncated" else "office_long"
        visits.append(_visit(pick, day, today, 9000 + k, patient, providers, template, f"planted:{kind}"))
    return visits


def _visit(
    pick: Draw,
    day: date,
    today: date,
    i: int,
    patient: Patient,
    providers: tuple[Provider, ...],
    template: str,
    scenario: str,
) -> Visit:
    number = day.toordinal() - 730_000
    _, diagnoses, lines = TEMPLATES[template]
    billed = day + timedelta(days=pick.between(1, 2))
    return Visit(
        id=300_000_000 + number * 10_000 + i,
        patient=patient,
        provider=pick.choice(providers),
        payer=patient.payer,
        service_date=day,
        minute=8 * 60 + i % 36 * 15,
        billed_date=billed if billed < today else None,
        diagnoses=diagnoses,
        lines=tuple(
            Line(7_000_000_000 + number * 100_000 + i * 10 + k, code, modifiers, units, CHARGES[code], pointers)
            for k, (code, modifiers, units, pointers) in enumerate(lines, 1)
        ),
        scenario=scenario,
    )
