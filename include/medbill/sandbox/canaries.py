"""Identifiers that may be found nowhere afterwards: made-up people whose every identifier is unlike anything else.

They take the places of a few patients of the practice, those of the visits that are paid, denied, disputed and planted with
flaws, so that no count and no amount changes. Their identifiers stand in what the platform sends (demographics, notes), in
the remittances (names, numbers, references), and in the names and the broken parts of two more files in the inbox.
Each kind is one of 45 CFR 164.514(b)(2)(i)(A)-(R), or a sub-kind of one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from medbill.sandbox import era, wire
from medbill.sandbox.adjudication import decide
from medbill.sandbox.draw import Draw
from medbill.sandbox.practice import Patient, PracticeData, Visit

PEOPLE = 6
_ONSETS = ("Zor", "Quil", "Vash", "Brix", "Trel", "Krum", "Yolv", "Dwer", "Skab", "Plim")
_MIDDLES = ("van", "thim", "dre", "zul", "mor", "kest", "fil", "gar", "bo", "lent")
_ENDS = ("quist", "zeth", "mander", "bryx", "oval", "ander", "wick", "thul", "ezar", "imb")
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"

#: Notes, each about identifiers that go together; the names in braces are kinds.
_NOTES = (
    "{first_name} {last_name} (DOB {dob}, SSN {ssn}) seen today. MRN {mrn}, member ID {member_id}.",
    "New address: {street}, {city}, IL {zip}. Cell {phone}, fax {fax}, email {email}. Chart updated.",
    "Policy number {policy}, group number {group}; account number {account}. Auth {authorization} on file.",
    "Driver's license {licence} copied. License plate {plate}, VIN {vin} for the accident claim.",
    "Pacemaker serial number {device}. Portal login from IP address {ip_address}, link {url} sent.",
    "Fingerprint ID {biometric}, photo {photo} on file. Employee ID {employee}.",
    "Pt's daughter {relative} called from {phone} about the balance. DEA {dea} of the outside prescriber noted.",
)


@dataclass(frozen=True)
class Person:
    """One made-up person: kind of identifier -> value."""

    values: dict[str, str]

    def __getitem__(self, kind: str) -> str:
        return self.values[kind]

    @property
    def born(self) -> date:
        return date.fromisoformat(self["birth_date"])

    def segments(self) -> tuple[str, ...]:
        """What a remittance says of the person besides the patient's name."""
        first, last = self["relative"].upper().split()
        return (
            f"NM1*IL*1*{last}*{first}****MI*{self['policy']}",
            f"REF*1L*{self['group']}",
            f"REF*EA*{self['mrn']}",
            f"REF*G1*{self['authorization']}",
            f"REF*SY*{self['ssn'].replace('-', '')}",
        )

    def notes(self) -> list[str]:
        dob = f"{self.born:%m/%d/%Y}"
        return [note.format_map({**self.values, "dob": dob}) for note in _NOTES]

    def demographics(self) -> dict[str, Any]:
        """The fields of a patient's record on the platform."""
        return {
            "address": self["street"],
            "cell_phone": self["phone"],
            "chart_id": self["mrn"],
            "city": self["city"],
            "email": self["email"],
            "emergency_contact_name": self["relative"],
            "emergency_contact_phone": self["phone"],
            "home_phone": self["fax"],
            "patient_photo": self["photo"],
            "social_security_number": self["ssn"],
            "zip_code": self["zip"],
        }


def person(seed: int, number: int) -> Person:
    """The number-th person; the same for the same seed."""
    draw = Draw(seed, "canary", number)

    def digits(n: int) -> str:
        return str(draw.between(10 ** (n - 1), 10**n - 1))

    def letters(n: int) -> str:
        return "".join(draw.choice(_LETTERS) for _ in range(n))

    ends = iter(_ENDS)

    def name() -> str:  # its middle is the person's, its end its own: no two are alike
        return draw.choice(_ONSETS) + _MIDDLES[number % len(_MIDDLES)] + next(ends)

    first, last = name(), name()
    born = date(draw.between(1931, 1949), draw.between(1, 12), draw.between(13, 28))
    return Person(
        {
            "first_name": first,
            "last_name": last,
            "relative": f"{name()} {name()}",
            "street": f"{draw.between(1000, 9899)} {name()} Lane",
            "city": f"{name()}ville",
            "zip": f"606{draw.between(61, 99)}",
            "birth_date": born.isoformat(),
            "phone": f"({draw.between(301, 989)}) {draw.between(220, 989)}-{digits(4)}",
            "fax": f"{draw.between(301, 989)}-{draw.between(220, 989)}-{digits(4)}",
            "email": f"{first}.{last}@{name()}.com".lower(),
            "ssn": f"{draw.between(101, 665)}-{draw.between(11, 99)}-{digits(4)}",
            "mrn": f"{letters(2)}{digits(8)}",
            "patient_id": digits(10),
            "member_id": f"{letters(3)}{digits(9)}",
            "policy": f"{letters(2)}{digits(9)}",
            "group": f"{letters(1)}{digits(8)}",
            "account": digits(11),
            "authorization": f"A{digits(9)}",
            "licence": f"{letters(1)}{digits(11)}",
            "dea": f"{letters(2)}{digits(7)}",
            "vin": f"1HG{letters(2)}{digits(2)}{letters(1)}{draw.between(1, 9)}A{digits(7)}",
            "plate": f"{letters(3)} {digits(4)}",
            "device": f"SN{digits(8)}{letters(2)}",
            "url": f"https://portal.{name()}.com/p/{digits(9)}".lower(),
            "ip_address": f"{draw.between(11, 99)}.{draw.between(101, 255)}.{draw.between(101, 255)}.{draw.between(101, 255)}",
            "biometric": f"FP{digits(8)}{letters(1)}",
            "photo": f"{last}_{first}_{digits(6)}.jpg".lower(),
            "employee": f"E{digits(8)}",
        }
    )


@dataclass(frozen=True)
class Planted:
    """A practice with people planted in it. people: id of a patient -> who the patient now is."""

    data: PracticeData
    people: dict[int, Person]
    seed: int

    def listing(self) -> bytes:
        """Every planted value as JSON Lines: {"kind", "value"}."""
        rows = [(kind, value) for one in self.people.values() for kind, value in one.values.items()]
        rows += [("name", f"{one['first_name']} {one['last_name']}") for one in self.people.values()]
        for visit in self.data.visits:
            if visit.patient.id in self.people:
                rows.append(("claim_id", str(visit.id)))
                rows += [("line_id", str(line.id)) for line in visit.lines]
                numbers = {d.payer_claim_number for d in decide(self.data.seed, visit)[0]}
                rows += [("payer_claim_id", number) for number in sorted(numbers)]
        rows += [(kind, value) for kind, value in self._stranger().values.items() if kind in _OF_STRANGER]
        return b"".join(json.dumps({"kind": k, "value": v}).encode() + b"\n" for k, v in rows)

    def records(self, data: PracticeData) -> dict[str, list[wire.Record]]:
        """The platform's records of the practice, with what else it knows of these people."""
        found = wire.records(data)
        for patient in found["patients"]:
            if one := self.people.get(patient["id"]):
                patient |= one.demographics()
                for insured in ("primary_insurance", "secondary_insurance"):
                    patient[insured] = {**patient[insured], "subscriber_social_security": one["ssn"]}
        turn = 0
        of_visit: dict[int, Person] = {}
        for appointment in found["appointments"]:
            if (one := self.people.get(appointment["patient"])) and appointment["notes"]:
                appointment["notes"] = one.notes()[turn % len(_NOTES)]
                turn += 1
                of_visit[int(appointment["id"])] = one
        for note in found["claim_billing_notes"]:
            if one := of_visit.get(note["appointment"]):
                note["text"] = one.notes()[note["id"] % len(_NOTES)]
        return found

    def files(self) -> list[era.InboxFile]:
        """Two more files for the inbox: one that is no remittance, one with identifiers where numbers and dates belong."""
        day = self.data.today - timedelta(days=1)
        one = self._stranger()
        name = f"{one['last_name']}_{one['first_name']}"
        text = " | ".join(f"{kind}: {value}" for kind, value in one.values.items())
        prose = era.InboxFile(f"{name}_{one['ssn']}.835", day, "canary", f"EOB scan of {name}\n{text}\n".encode())
        visit = next(v for v in self.data.visits if v.billed_date)
        mine = self._as(visit, one)
        decision = replace(decide(self.seed, mine)[0][0], day=day)
        transaction = era.Transaction(visit.payer, day, f"77{day:%y%m%d}{one['patient_id'][:4]}", (decision,))
        data = era.interchange(visit.payer, day, 97, [transaction]).decode()
        segments = data.split("~\n")
        broken = [
            s.replace(f"{visit.service_date:%Y%m%d}", one["last_name"].upper())
            if s.startswith("DTM*232")
            else f"AMT*B6*{one['ssn']}"
            if s.startswith("AMT*B6")
            else f"SVC*HC:99213*{one['member_id']}*0**1"
            if s.startswith("SVC")
            else s
            for s in segments
        ]
        return [prose, era.InboxFile(f"{one['birth_date']}-{name}.835", day, "canary", "~\n".join(broken).encode())]

    def _stranger(self) -> Person:
        return person(self.seed, PEOPLE + 1)

    def _as(self, visit: Visit, one: Person) -> Visit:
        return replace(visit, id=visit.id + 9_000_000, patient=_become(visit.patient, one))


#: Kinds of the person who is in the two files alone and is nobody's patient.
_OF_STRANGER = frozenset({"first_name", "last_name", "ssn", "member_id", "mrn", "email", "street", "phone", "account"})


def plant(data: PracticeData, seed: int) -> tuple[PracticeData, Planted]:
    """The practice with PEOPLE of its patients replaced, and who they are."""
    chosen = _chosen(data)
    people = {patient: person(seed, number) for number, patient in enumerate(chosen, 1)}
    become = {p.id: _become(p, people[p.id]) for p in data.patients if p.id in people}
    planted = replace(
        data,
        patients=tuple(become.get(p.id, p) for p in data.patients),
        visits=tuple(replace(v, patient=become.get(v.patient.id, v.patient)) for v in data.visits),
    )
    of_new_id = {become[old].id: one for old, one in people.items()}
    return planted, Planted(planted, of_new_id, seed)


def _become(patient: Patient, one: Person) -> Patient:
    return replace(
        patient,
        id=int(one["patient_id"]),
        first_name=one["first_name"],
        last_name=one["last_name"],
        birth_date=one.born,
        member_id=one["member_id"],
        remitted=one.segments(),
    )


def _chosen(data: PracticeData) -> list[int]:
    """Patients of visits of every fate, then those who came most often."""
    billed = [v for v in data.visits if v.billed_date]
    fates = ("planted:unbalanced_claim", "planted:truncated", "CO-", "underpaid", "plain")
    chosen: list[int] = []
    for fate in fates:
        found = next((v.patient.id for v in billed if v.scenario.startswith(fate) and v.patient.id not in chosen), None)
        chosen += [found] if found is not None else []
    visits: dict[int, int] = {}
    for visit in billed:
        visits[visit.patient.id] = visits.get(visit.patient.id, 0) + 1
    often = sorted((p for p in visits if p not in chosen), key=lambda p: (-visits[p], p))
    return (chosen + often)[:PEOPLE]
