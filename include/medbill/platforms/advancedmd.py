"""AdvancedMD: billed claims out of its XMLRPC service, approved proposals in as files and notes on the patient.

One visit with charges is one claim; the visit's number is taken for what the practice sends as CLM01. `CAPABILITIES` says how
sure we are of each operation. Changed visits come without pages and without a total that could be trusted: the visits of each
day are asked for as well, and a visit missing among the changed ones is looked up in its patient's history.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.platforms import pdf, ppmd
from medbill.platforms.advancedmd_claims import (
    Changed,
    Patient,
    Plan,
    Read,
    Visit,
    billing_status,
    changed_at,
    check_names,
    claim_row,
    day_of,
    line_row,
    note_rows,
    us_date,
)
from medbill.platforms.advancedmd_profile import CAPABILITIES, EXTRACTED, NEEDED, PLATFORM, USED
from medbill.platforms.advancedmd_session import HOSTS, Account, Session, limits
from medbill.platforms.base import (
    Adapter,
    Client,
    Extraction,
    Receipt,
    Setup,
    WriteBack,
    reference,
)
from medbill.platforms.budget import RateBudget
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import MemoryTokenStore, TokenStore
from medbill.platforms.values import Unreadable
from medbill.settings import Settings

#: Charges are entered at the visit or later; so long before the window a visit may have changed last all the same. One attempt
#: each: further back where a visit with charges is missing.
CHANGED_BEFORE = (timedelta(days=7), timedelta(days=90), timedelta(days=400))
#: How far back a claim's visit is looked for, in steps, when something is to be written on its patient.
LOOK_BACK = (timedelta(days=35), timedelta(days=130), timedelta(days=400))
#: Characters of a note that others saw taken, and bytes of a file.
MAX_NOTE, MAX_FILE = 1000, 1024 * 1024


class AdvancedMD(Client):
    """One office. Safe to share between threads; close it, or use it in a with statement.

    changed_since: the name of the parameter of getupdatedvisits. profile_npis: number of a profile -> NPI. note_type: name
    of the type notes get. now: for windows, message times and peak hours.
    """

    platform = PLATFORM
    extracted = EXTRACTED

    def __init__(
        self,
        base_url: str,
        account: Account,
        *,
        tokens: TokenStore | None = None,
        changed_since: str = "datechanged",
        profile_npis: Mapping[str, str] | None = None,
        note_type: str = "Billing",
        extraction: ExtractionPolicy | None = None,
        policies: Path | None = None,
        budget: RateBudget | None = None,
        circuit: Circuit | None = None,
        timeout: float = 30.0,
        deadline: float = 300.0,
        hosts: frozenset[str] = HOSTS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if changed_since not in ("datechanged", "since"):
            raise PlatformError("changed_since is datechanged or since", code="PLATFORM_CONFIGURATION")
        self._policy = extraction or ExtractionPolicy.load(
            policies or Settings.from_env().policies, PLATFORM, USED, NEEDED
        )
        self._changed_since, self._npis, self._note_type = changed_since, dict(profile_npis or {}), note_type
        self._now = now
        self._session = Session(
            base_url,
            account,
            tokens=tokens or MemoryTokenStore(),
            budget=budget or RateBudget(limits(now=now)),
            circuit=circuit,
            timeout=timeout,
            deadline=deadline,
            hosts=hosts,
            now=now,
        )
        self._patient_of: dict[str, str] = {}

    def check(self) -> None:
        self._note_types()

    def close(self) -> None:
        self._patient_of.clear()
        self._session.close()

    # --- claims out ---

    def extract(self, start: date, end: date) -> Extraction:
        """CLAIM_TABLES for service dates start..end, both included, ordered by claim and line. Claims with an unreadable
        record are left out, and counted by reason code."""
        for back in CHANGED_BEFORE:
            last = back == CHANGED_BEFORE[-1]
            read = self._changed_visits(start - back, charges=True)
            booked = self._day_visits(start, end)
            if self._some_missing(read, booked):
                continue
            try:
                return self._claims(start, end, read, booked.visits, last)
            except Changed:
                continue
        raise PlatformError(
            "the changed visits lack some that have charges; nothing of it is taken, run it again later",
            code="PLATFORM_UNSTABLE",
        )

    def _claims(self, start: date, end: date, read: Read, booked: Mapping[str, Visit], last: bool) -> Extraction:
        """last: a charge that is not the same in two answers is left out, instead of being asked for again (Changed)."""
        refused, unknown = Counter(read.refused), Counter[str]()
        claims: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        notes: list[dict[str, Any]] = []
        patients: dict[str, Patient] = {}
        for claim_id, visit in sorted(read.visits.items()):
            try:
                day = day_of(visit.record.get("date"), "SERVICE_DATE")
                if day is None:
                    raise Unreadable("SERVICE_DATE")
                if not start <= day <= end or not visit.charges:
                    continue
                rows, status, strange = self._lines(claim_id, visit)
                if not rows:
                    continue  # all of it is void
                key = visit.record.get("patientid", "")
                if key not in patients:
                    patients[key] = self._patient(key)
                claim = claim_row(claim_id, day, visit, booked.get(claim_id), patients[key], rows, self._npis)
            except Unreadable as error:
                refused[error.reason] += 1
                continue
            except Changed:
                if not last:
                    raise
                refused["CHARGE_DISAGREES"] += 1
                continue
            claim["billing_status"] = status
            unknown["charge_details.insbilled"] += strange
            claims.append(claim)
            lines += rows
            notes += note_rows(claim, visit)
        return Extraction.of(claims, lines, notes, refused, unknown)

    def _changed_visits(self, since: date, charges: bool) -> Read:
        """Visits changed since a day. One that comes twice counts once; where both differ, the later change counts."""
        label = "getupdatedvisits"
        asked = {self._changed_since: us_date(since), "includecharges": "1" if charges else "0"}
        answer = self._call(label, "api", asked, resource="visits")
        read = Read()
        for record, node in self._rows(answer, label, "visits", ("visitlist", "visit")):
            held = [self._policy.keep("charges", ppmd.attributes(c)) for c in ppmd.nodes(node, "chargelist", "charge")]
            check_names(label, held, NEEDED["charges"])
            key = ppmd.number(record.get("id", ""))
            if not key:
                read.refused["VISIT_WITHOUT_ID"] += 1
                read.nameless.add(record.get("patientid", ""))
            elif key not in read.visits or changed_at(read.visits[key].record) <= changed_at(record):
                read.visits[key] = Visit(record, held)
        return read

    def _day_visits(self, start: date, end: date) -> Read:
        """The visits of each day, with the insurance they are booked on."""
        label, read = "getdatevisits", Read()
        template = {
            "visit": {"@apptstatus": "ApptStatus"},
            "patient": {"@chart": "Chart"},
            "insurance": {"@carname": "CarName", "@carcode": "CarCode"},
        }
        for offset in range((end - start).days + 1):
            asked = {"visitdate": us_date(start + timedelta(days=offset))}
            answer = self._call(label, "api", asked, template, resource="day_visits")
            for record, _ in self._rows(answer, label, "day_visits", ("visitlist", "visit")):
                key = ppmd.number(record.get("id", ""))
                if key:
                    read.visits[key] = Visit(record, [])
                else:
                    read.nameless.add(record.get("patientid", ""))
        return read

    def _some_missing(self, read: Read, booked: Read) -> bool:
        """Whether a visit of these days has charges, but is not among the changed ones."""
        for key in sorted(booked.visits.keys() - read.visits.keys()):
            patient = booked.visits[key].record.get("patientid", "")
            if patient in read.nameless:
                continue  # its row came without an id and is counted as such
            asked = {"patientid": patient, "pagenumber": "1", "filterhistory": "0", "typefilter": "1", "getmemo": "0"}
            answer = self._call("gettxhistory", "demographics", asked, resource="history")
            rows = self._rows(answer, "gettxhistory", "history", ("chargelist", "charge"), count="")
            if any(ppmd.number(r.get("visit", "")) == key and r.get("void", "0") != "1" for r, _ in rows):
                return True
        return False

    def _lines(self, claim_id: str, visit: Visit) -> tuple[list[dict[str, Any]], str | None, int]:
        """A claim's lines, its billing status, and how many codes of it are unknown to us."""
        charges: dict[str, dict[str, str]] = {}
        for charge in visit.charges:
            if not ppmd.number(charge.get("id", "")):
                raise Unreadable("CHARGE_WITHOUT_ID")
            charges[ppmd.number(charge["id"])] = charge
        rows: list[dict[str, Any]] = []
        billed: list[str] = []
        for key, charge in sorted(charges.items(), key=lambda c: (len(c[0]), c[0])):
            detail = self._charge_detail(charge["id"], key)
            if detail.get("void") == "1":
                continue
            rows.append(line_row(claim_id, len(rows) + 1, key, charge, detail))
            billed.append(detail.get("insbilled", ""))
        status, strange = billing_status(billed)
        return rows, status, strange

    def _charge_detail(self, identifier: str, key: str) -> dict[str, str]:
        label = "getchargedetaildata"
        answer = self._call(label, "demographics", {"chargeid": identifier}, resource="charge_details")
        for record, _ in self._rows(answer, label, "charge_details", ("chargelist", "charge")):
            if ppmd.number(record.get("id", "")) == key:
                return record
        raise Changed

    def _patient(self, identifier: str) -> Patient:
        label = "getdemographic"
        answer = self._call(label, "demographics", {"patientid": identifier}, resource="patients")
        for record, node in self._rows(answer, label, "patients", ("patientlist", "patient")):
            if record.get("id") and ppmd.number(record["id"]) == ppmd.number(identifier):
                carriers = {
                    c.get("id", ""): c
                    for n in ppmd.nodes(answer, "Results", "carrierlist", "carrier")
                    if (c := self._policy.keep("carriers", ppmd.attributes(n)))
                }
                plans = [
                    self._policy.keep("plans", ppmd.attributes(p)) for p in ppmd.nodes(node, "insplanlist", "insplan")
                ]
                return Patient(record, [Plan.of(p, carriers.get(p.get("carrier", ""), {})) for p in plans], node)
        raise Unreadable("PATIENT")

    # --- files and notes in ---

    def write(self, write_back: WriteBack) -> Receipt:
        """file: a PDF on the patient, its description the reference; looked for at once, so that no success is believed that
        left nothing. note: on the patient, the reference its last line. Sends once; raises as Writer says."""
        ref = reference(write_back.idempotency_key)
        patient = self._patient_id(write_back.claim_id)
        if write_back.action == "note":
            return self._save_note(write_back, patient, ref)
        content = pdf.document(write_back.title, f"{write_back.text}{_due(write_back)}\n{ref}")
        if len(content) > MAX_FILE:
            raise PlatformError("the text is longer than a file may be", code="PLATFORM_REFUSED")
        file = {
            "@patientid": patient,
            "@filename": f"{ref.replace(':', '-')}.pdf",
            "@fileext": "pdf",
            "@filetype": "GENERAL",
            "@description": ref,
            "@filecontents": base64.b64encode(content).decode(),
        }
        answer = self._call(
            "uploadfile", "files", {}, {"file": file}, resource="files", fields=[n[1:] for n in file], write=True
        )
        numbers = [ppmd.attributes(n).get("id", "") for n in ppmd.nodes(answer, "Results", "file")]
        if not any(numbers):
            raise PlatformUnknownOutcome("ppmdmsg uploadfile answered without an id; read back before sending again")
        try:
            found = self.find(write_back)
        except PlatformError:
            found = None  # the platform cannot be asked just now
        if found is None:
            raise PlatformUnknownOutcome(
                "ppmdmsg uploadfile answered success, and the file is not there; read back later"
            )
        return found

    def find(self, write_back: WriteBack) -> Receipt | None:
        """The file that carries the key. Raises PlatformError PLATFORM_NO_READ_BACK for a note, and where no files are
        listed."""
        ref = reference(write_back.idempotency_key)
        if write_back.action == "note":
            raise PlatformError(
                "AdvancedMD has no known way to list notes; look in the patient's notes", code="PLATFORM_NO_READ_BACK"
            )
        try:
            patient = self._patient(self._patient_id(write_back.claim_id))
        except Unreadable:
            raise PlatformError("getdemographic answered without the patient", code="PLATFORM_BAD_ANSWER") from None
        if "filelist" not in patient.node:
            raise PlatformError("AdvancedMD did not list the patient's files; look there", code="PLATFORM_NO_READ_BACK")
        for node in ppmd.nodes(patient.node, "filelist", "file"):
            file = self._policy.keep("files", ppmd.attributes(node))
            if file.get("description") == ref and file.get("id"):
                return Receipt(PLATFORM, write_back.action, ppmd.number(file["id"]), ref)
        return None

    def _save_note(self, write_back: WriteBack, patient: str, ref: str) -> Receipt:
        head, tail = write_back.title, f"{_due(write_back)}\n{ref}"
        whole = f"{head}\n{write_back.text}{tail}"
        text = whole if len(whole) <= MAX_NOTE else f"{head[:200]}\nThe whole text is in the patient's files.{tail}"
        kinds = {name.casefold(): key for key, name in self._note_types().items()}
        if self._note_type.casefold() not in kinds:
            raise PlatformError(
                "the office has no note type of that name; set note_type in the connection",
                code="PLATFORM_CONFIGURATION",
            )
        record = {
            "@uid": "",
            "@patientfid": ppmd.number(patient),
            "@profilefid": "",
            "@notetypefid": ppmd.number(kinds[self._note_type.casefold()]),
            "@note": text,
        }
        attributes = {"id": ppmd.number(patient), "useclienttime": "1"}
        answer = self._call(
            "savepatientnotes",
            "api",
            attributes,
            {"masterfile": record},
            resource="notes",
            fields=[n[1:] for n in record],
            write=True,
        )
        made = ppmd.attributes(answer).get("newid", "")
        if not made:
            raise PlatformUnknownOutcome("ppmdmsg savepatientnotes answered without an id; look before sending again")
        return Receipt(PLATFORM, "note", made, ref)

    def _note_types(self) -> dict[str, str]:
        label = "lookupnotetypes"
        answer = self._call(label, "api", {}, resource="note_types")
        rows = self._rows(answer, label, "note_types", ("notetypelist", "notetype"))
        return {r["id"]: r["name"] for r, _ in rows if r.get("id") and r.get("name")}

    def _patient_id(self, claim_id: str) -> str:
        """The patient of a visit, in no more of the past than it takes; there is no action that gives one visit.

        Raises PlatformError PLATFORM_REFUSED where no such visit is found.
        """
        for back in LOOK_BACK:
            if claim_id in self._patient_of:
                break
            today = self._now().astimezone(ppmd.DENVER).date()
            found = self._changed_visits(today - back, charges=False).visits
            self._patient_of.update(
                {key: v.record["patientid"] for key, v in found.items() if v.record.get("patientid")}
            )
        if claim_id not in self._patient_of:
            raise PlatformError("the claim's visit is not found on the platform", code="PLATFORM_REFUSED")
        return self._patient_of[claim_id]

    # --- the wire ---

    def _call(
        self,
        action: str,
        class_: str,
        attributes: Mapping[str, str],
        children: Mapping[str, Any] | None = None,
        *,
        resource: str,
        fields: object = None,
        write: bool = False,
    ) -> Mapping[str, Any]:
        kept = self._policy.fields.get(resource, frozenset()) if fields is None else fields
        return self._session.call(action, class_, attributes, children, resource=resource, fields=kept, write=write)

    def _rows(
        self,
        answer: Mapping[str, Any],
        action: str,
        resource: str,
        path: tuple[str, str],
        count: str = "visitcount",
    ) -> list[tuple[dict[str, str], Mapping[str, Any]]]:
        """The records of a list with the policy's fields, each beside its element; the patient and the insurance inside
        of a visit count as its own.

        Raises PlatformError where the list is missing, has other names, or is not as long as the answer says.
        """
        list_name, element = path
        (outcome,) = ppmd.nodes(answer, "Results") or [{}]
        elements = ppmd.nodes(outcome, *path)
        others = [
            n for n in ppmd.nodes(outcome, list_name) for name in n if not name.startswith("@") and name != element
        ]
        said = ppmd.attributes(outcome).get(count, "")
        wrong = (
            "something else"
            if (list_name not in outcome and said != "0") or (others and not elements)
            else "fewer records than it counts"
            if said.isdigit() and len(elements) < int(said)
            else ""
        )
        if wrong:
            raise PlatformError(f"ppmdmsg {action} answered with {wrong}", code="PLATFORM_BAD_ANSWER")
        rows = []
        for node in elements:
            flat = dict(ppmd.attributes(node))
            for inner in ppmd.nodes(node, "patient"):
                flat.setdefault("patientid", ppmd.attributes(inner).get("id", ""))
            for inner in ppmd.nodes(node, "insurance")[:1]:
                flat.update(ppmd.attributes(inner))
            rows.append((self._policy.keep(resource, flat), node))
        check_names(action, [r for r, _ in rows], NEEDED[resource])
        return rows


def _due(write_back: WriteBack) -> str:
    return f"\nAnswer by {write_back.due_on.isoformat()}" if write_back.due_on else ""


def open_(setup: Setup) -> AdvancedMD:
    """The account of a connection: host, login (user), password, office_code, app_name; changed_since, profile_npis,
    note_type and calls_per_minute (tier1, tier2, tier3, login: as the office's contract allows) where they differ."""
    user, password, office_code, app_name = setup.needs("login", "password", "office_code", "app_name")
    more = {n: setup.connection[n] for n in ("changed_since", "profile_npis", "note_type") if setup.connection.get(n)}
    return AdvancedMD(
        setup.base_url,
        Account(user, password, office_code, app_name),
        tokens=setup.tokens,
        policies=setup.policies,
        budget=RateBudget(limits(setup.connection.get("calls_per_minute")), setup.calls),
        circuit=setup.circuit,
        **more,
    )


#: A note cannot be read back, so what must not get lost is a file; a denial gets a note as well, which billers see first.
ADAPTER = Adapter(PLATFORM, open_, CAPABILITIES, {"*": ("file",), "denial_follow_up": ("file", "note")})
