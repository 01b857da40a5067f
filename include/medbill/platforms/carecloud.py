"""CareCloud: billed claims out (FHIR R4 financial resources, v2 REST for people and visits), approved proposals in.

No shape of its billing is published. What is assumed stands in include/policies/carecloud.yml and can be set in the
connection; `CAPABILITIES` says how sure we are of each operation. Payments are not asked for: remittances come as 835.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medbill.errors import PlatformError
from medbill.platforms.base import (
    Adapter,
    Certainty,
    Client,
    Extraction,
    Operation,
    Receipt,
    Setup,
    WriteBack,
    reference,
)
from medbill.platforms.budget import Limit, RateBudget, always
from medbill.platforms.carecloud_claims import (
    PLATFORM,
    Billed,
    appointment_notes,
    billed,
    claim_rows,
    communication_notes,
    contained,
    coverage_of,
    responses_by_claim,
)
from medbill.platforms.carecloud_fhir import Fhir, Found, target
from medbill.platforms.carecloud_profile import Profile
from medbill.platforms.carecloud_v2 import V2, Record
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import Credentials, MemoryTokenStore, TokenStore
from medbill.platforms.values import Unreadable
from medbill.settings import Settings

HOSTS = frozenset({".carecloud.com"})
#: FHIR tokens come from Azure Active Directory (the vendor's portal says so), or from CareCloud itself.
TOKEN_HOSTS = HOSTS | {"login.microsoftonline.com"}
#: None is published.
LIMITS = always(Limit(10, 1))
#: A claim's resource is not older than its service date, less so many days.
MARGIN = timedelta(days=7)

_MONEY = ("value", "currency")
_USED = {
    "Claim": frozenset(
        {
            "id",
            "meta.lastUpdated",
            "contained",
            "identifier.system",
            "identifier.value",
            "status",
            "use",
            "patient.reference",
            "billablePeriod.start",
            "created",
            "insurer.identifier.value",
            "insurer.display",
            "careTeam.sequence",
            "careTeam.provider.reference",
            "careTeam.provider.identifier.system",
            "careTeam.provider.identifier.value",
            "diagnosis.sequence",
            "diagnosis.diagnosisCodeableConcept.coding.system",
            "diagnosis.diagnosisCodeableConcept.coding.code",
            "insurance.focal",
            "insurance.coverage.reference",
            "insurance.preAuthRef",
            "item.id",
            "item.sequence",
            "item.careTeamSequence",
            "item.diagnosisSequence",
            "item.productOrService.coding.system",
            "item.productOrService.coding.code",
            "item.modifier.coding.code",
            "item.servicedDate",
            "item.servicedPeriod.start",
            "item.locationCodeableConcept.coding.code",
            "item.quantity.value",
            *(f"{amount}.{part}" for amount in ("item.unitPrice", "item.net", "total") for part in _MONEY),
        }
    ),
    "ClaimResponse": frozenset(
        {"id", "meta.lastUpdated", "status", "patient.reference", "request.reference", "outcome", "preAuthRef"}
    ),
    "Coverage": frozenset({"id", "beneficiary.reference", "subscriberId"}),
    "Communication": frozenset(
        {"id", "meta.lastUpdated", "identifier.system", "identifier.value", "status"}
        | {"subject.reference", "about.reference", "sent", "payload.contentString"}
    ),
    "Task": frozenset({"id", "identifier.system", "identifier.value"}),
    "patients": frozenset({"id", "first_name", "last_name", "date_of_birth"}),
    "appointments": frozenset({"id", "patient_id", "start_time", "status", "comments"}),
    "providers": frozenset({"id", "npi"}),
}
_NEEDED = {
    "Claim": frozenset(
        {
            *("id", "meta.lastUpdated", "identifier.system", "identifier.value", "status", "patient.reference"),
            *("item.sequence", "item.net.value", "item.net.currency"),
        }
    ),
    "ClaimResponse": frozenset({"id", "meta.lastUpdated", "status", "patient.reference", "request.reference"}),
    "Coverage": frozenset({"id", "beneficiary.reference"}),
    "Communication": frozenset({"id", "status", "subject.reference", "about.reference", "payload.contentString"}),
    "Task": _USED["Task"],
    "patients": frozenset({"id"}),
}
#: In an answer with many of them; of a search for our identifier only what carries it comes.
_NEVER_ABSENT = {
    "Claim": frozenset({"id", "meta", "identifier", "status", "patient", "item"}),
    "ClaimResponse": frozenset({"id", "meta", "status", "patient", "request"}),
    "Coverage": frozenset({"id", "beneficiary"}),
    "Communication": frozenset({"id", "status"}),
}
_EXTRACTED = ("Claim", "ClaimResponse", "Coverage", "Communication", "patients", "appointments", "providers")
_PRIORITIES = {10: "routine", 20: "routine", 30: "urgent", 40: "asap"}

CAPABILITIES = MappingProxyType(
    {
        "extract claims": Operation(
            "FHIR GET Claim, ClaimResponse, Coverage; v2 GET /patients/{id}, /providers",
            Certainty.GUESS,
            "no billing shape is published: FHIR R4 is taken, every address a setting; the patient's and providers' shapes are code",
        ),
        "extract notes": Operation(
            "FHIR GET Communication; v2 GET /appointments",
            Certainty.GUESS,
            "listing appointments by day and their comments are guesses; empty v2_appointments leaves them out",
        ),
        "requested fields": Operation(
            "FHIR _elements", Certainty.GUESS, "parts of an element, and v2 fields, are dropped here"
        ),
        "windows": Operation("FHIR _lastUpdated, _total=accurate, next links", Certainty.GUESS, "FHIR R4 as written"),
        "tokens v2": Operation("POST /oauth2/access_token, refresh token, Basic", Certainty.CODE),
        "tokens FHIR": Operation(
            "client credentials",
            Certainty.GUESS,
            "the portal speaks of Azure Active Directory; grant, address and scopes are settings",
        ),
        "rate limits": Operation("10 calls a second", Certainty.GUESS, "none is published"),
        "write task": Operation(
            "FHIR POST Task or Communication",
            Certainty.GUESS,
            "only where the connection says write_back; else our own work queue",
        ),
        "find task": Operation("FHIR GET Task or Communication by identifier", Certainty.GUESS),
        "check": Operation("FHIR GET Claim _summary=count; v2 GET /providers", Certainty.GUESS),
    }
)


class CareCloud(Client):
    """One practice's account. Safe to share between threads; close it, or use it in a with statement.

    fhir_url, fhir_token_url: hosts of the FHIR side; credentials: of v2; fhir_client: id and secret of the FHIR side.
    """

    platform = PLATFORM
    extracted = _EXTRACTED

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        fhir_url: str,
        fhir_client: tuple[str, str],
        *,
        fhir_token_url: str | None = None,
        tokens: TokenStore | None = None,
        profile: Profile | None = None,
        extraction: ExtractionPolicy | None = None,
        policies: Path | None = None,
        budget: RateBudget | None = None,
        circuit: Circuit | None = None,
        timeout: float = 30.0,
        hosts: frozenset[str] = HOSTS,
    ) -> None:
        folder = policies or Settings.from_env().policies
        self._policy = extraction or ExtractionPolicy.load(folder, PLATFORM, _USED, _NEEDED)
        self._profile = profile or Profile.load(folder)
        budget = budget or RateBudget(LIMITS)
        self._v2 = V2(
            base_url,
            credentials,
            self._profile,
            self._policy,
            tokens=tokens or MemoryTokenStore(),
            hosts=hosts,
            budget=budget,
            circuit=circuit,
            timeout=timeout,
        )
        self._fhir = Fhir(
            fhir_url,
            fhir_token_url or fhir_url,
            *fhir_client,
            self._profile,
            self._policy,
            _NEVER_ABSENT,
            hosts=hosts,
            token_hosts=hosts | TOKEN_HOSTS,
            budget=budget,
            circuit=circuit,
            timeout=timeout,
        )

    def check(self) -> None:
        self._v2.npis()
        self._fhir.count("Claim", [("_lastUpdated", f"ge{datetime.now(UTC).date().isoformat()}T00:00:00Z")])

    def close(self) -> None:
        self._v2.close()
        self._fhir.close()

    # --- claims out ---

    def extract(self, start: date, end: date) -> Extraction:
        """CLAIM_TABLES for service dates start..end, both included, ordered by claim and line. FHIR R4 cannot search claims
        by service date: all that changed since `start` are read, and those of other days left out."""
        refused: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        since = start - MARGIN
        found = self._changed("Claim", since, unknown)
        chosen = billed(found, self._profile.claim_number_system, start, end, refused, unknown)
        responses = responses_by_claim(self._changed("ClaimResponse", since, unknown)) if chosen else {}
        coverages = self._coverages(chosen.values(), unknown)
        patients = {id: self._v2.patient(id) for id in sorted({claim.patient for claim in chosen.values()})}
        npis = self._v2.npis() if chosen and self._policy.fields.get("providers") else {}
        claims: list[dict[str, Any]] = []
        lines: list[dict[str, Any]] = []
        by_resource: dict[str, dict[str, Any]] = {}
        for _, claim in sorted(chosen.items()):
            try:
                row, rows = claim_rows(
                    claim, patients[claim.patient], coverages, responses.get(claim.id), npis, unknown
                )
            except Unreadable as error:
                refused[error.reason] += 1
                continue
            claims.append(row)
            lines += rows
            by_resource[claim.id] = row
        notes = self._notes(by_resource, since, refused, unknown)
        return Extraction.of(claims, lines, notes, refused, unknown)

    def _changed(self, resource: str, since: date, unknown: Counter[str]) -> list[Record]:
        if not self._policy.fields.get(resource):
            return []
        return _counted(self._fhir.changed(resource, since), unknown)

    def _coverages(self, claims: Iterable[Billed], unknown: Counter[str]) -> dict[str, Record]:
        """Coverages by id, those that do not lie in their claim."""
        if "subscriberId" not in self._policy.fields.get("Coverage", frozenset()):
            return {}
        wanted = {
            id
            for claim in claims
            if contained(claim.record, coverage_of(claim.record)) is None
            and (id := target(coverage_of(claim.record), "Coverage"))
        }
        found = _counted(self._fhir.by_id("Coverage", sorted(wanted)), unknown)
        return {str(record["id"]): record for record in found if record.get("id")}

    def _notes(
        self,
        claims: Mapping[str, Mapping[str, Any]],
        since: date,
        refused: Counter[str],
        unknown: Counter[str],
    ) -> list[dict[str, Any]]:
        if not claims:
            return []
        notes = communication_notes(claims, self._changed("Communication", since, unknown), refused)
        if "comments" in self._policy.fields.get("appointments", frozenset()):
            days = [row["service_date"] for row in claims.values()]
            notes += appointment_notes(list(claims.values()), self._v2.appointments(min(days), max(days)))
        return sorted(notes, key=lambda n: (n["claim_id"], n["note_type"], n["note_id"]))

    # --- proposals in ---

    def write(self, write_back: WriteBack) -> Receipt:
        """A Task on the claim, or a Communication about it, with the reference as identifier and last line. Sends once.

        Raises as Writer says; PlatformError PLATFORM_READ_ONLY where the connection does not say which of both.
        """
        kind = self._kind()
        ref = reference(write_back.idempotency_key)
        claim, patient = self._claim(write_back.claim_id)
        due = f"\nAnswer by {write_back.due_on.isoformat()}" if write_back.due_on else ""
        text = f"{write_back.text}{due}\n{ref}"
        about, whose = {"reference": f"Claim/{claim}"}, {"reference": f"Patient/{patient}"}
        body: dict[str, Any] = {
            "resourceType": kind,
            "identifier": [{"system": self._profile.reference_system, "value": ref}],
            "priority": _PRIORITIES.get(write_back.priority, "routine"),
        }
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if kind == "Task":
            body |= {
                "status": "requested",
                "intent": "order",
                "description": write_back.title,
                "focus": about,
                "for": whose,
                "authoredOn": now,
                "note": [{"text": text}],
            }
            if write_back.due_on:
                body["restriction"] = {"period": {"end": write_back.due_on.isoformat()}}
        else:
            body |= {
                "status": "completed",
                "subject": whose,
                "about": [about],
                "sent": now,
                "payload": [{"contentString": write_back.title}, {"contentString": text}],
            }
        id = self._fhir.create(body, self._profile.reference_system, ref)
        return Receipt(PLATFORM, write_back.action, f"{kind}/{id}", ref)

    def find(self, write_back: WriteBack) -> Receipt | None:
        """The resource with the reference as identifier, None where there is none. Raises as write()."""
        kind = self._kind()
        ref = reference(write_back.idempotency_key)
        mine = {"system": self._profile.reference_system, "value": ref}
        found = self._fhir.search(kind, [("identifier", f"{mine['system']}|{ref}")], _USED["Task"])
        for record in found.records:
            if record.get("id") and mine in (record.get("identifier") or []):
                return Receipt(PLATFORM, write_back.action, f"{kind}/{record['id']}", ref)
        return None

    def _kind(self) -> str:
        if not self._profile.write_back:
            raise PlatformError(
                "this CareCloud connection does not say write_back: task or communication", code="PLATFORM_READ_ONLY"
            )
        return self._profile.write_back.capitalize()

    def _claim(self, number: str) -> tuple[str, str]:
        """Resource id and patient of a claim. Raises PlatformError PLATFORM_REFUSED where there is not one such patient."""
        mine = {"system": self._profile.claim_number_system, "value": number}
        only = frozenset({"id", "identifier.system", "identifier.value", "status", "patient.reference"})
        found = self._fhir.search("Claim", [("identifier", f"{mine['system']}|{number}")], only)
        live = [
            (str(record["id"]), patient)
            for record in found.records
            if record.get("id")
            and mine in (record.get("identifier") or [])
            and record.get("status") == "active"
            and (patient := target((record.get("patient") or {}).get("reference"), "Patient"))
        ]
        if len({patient for _, patient in live}) != 1:
            raise PlatformError("the claim does not exist on the platform", code="PLATFORM_REFUSED")
        return max(live)


def _counted(found: Found, unknown: Counter[str]) -> list[Record]:
    if found.strange:
        unknown["Bundle.resourceType"] += found.strange
    return found.records


def open_(setup: Setup) -> CareCloud:
    """The account of a connection: host, login (client id), password (client secret) and refresh_token of v2; fhir_host,
    fhir_client_id, fhir_client_secret, and fhir_token_host where tokens come from elsewhere; settings of carecloud.yml."""
    login, password, refresh_token = setup.needs("login", "password", "refresh_token")
    fhir_host, client, secret = setup.needs("fhir_host", "fhir_client_id", "fhir_client_secret")
    return CareCloud(
        setup.base_url,
        Credentials(login, password, refresh_token),
        fhir_host,
        (client, secret),
        fhir_token_url=setup.connection.get("fhir_token_host") or None,
        tokens=setup.tokens,
        profile=Profile.load(setup.policies, setup.connection),
        policies=setup.policies,
        budget=RateBudget(LIMITS, setup.calls),
        circuit=setup.circuit,
    )


ADAPTER = Adapter(PLATFORM, open_, CAPABILITIES, {"*": ("task",)})
