"""Names of FHIR R4 (4.0.1) that the CareCloud stand-in knows: elements, what must be there, states."""

from __future__ import annotations

_ALL = frozenset({"id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"})


def _of(names: str) -> frozenset[str]:
    return _ALL | frozenset(names.split())


#: Resource -> elements at its root.
ELEMENTS = {
    "Claim": _of(
        "identifier status type subType use patient billablePeriod created enterer insurer provider priority fundsReserve "
        "related prescription originalPrescription payee referral facility careTeam supportingInfo diagnosis procedure "
        "insurance accident item total"
    ),
    "ClaimResponse": _of(
        "identifier status type subType use patient created insurer requestor request outcome disposition preAuthRef "
        "preAuthPeriod payeeType item addItem adjudication total payment fundsReserve formCode form processNote "
        "communicationRequest insurance error"
    ),
    "Coverage": _of(
        "identifier status type policyHolder subscriber subscriberId beneficiary dependent relationship period payor class "
        "order network costToBeneficiary subrogation contract"
    ),
    "Communication": _of(
        "identifier instantiatesCanonical instantiatesUri basedOn partOf inResponseTo status statusReason category priority "
        "medium subject topic about encounter sent received recipient sender reasonCode reasonReference payload note"
    ),
    "Task": _of(
        "identifier instantiatesCanonical instantiatesUri basedOn groupIdentifier partOf status statusReason businessStatus "
        "intent priority code description focus for encounter executionPeriod authoredOn lastModified requester "
        "performerType owner location reasonCode reasonReference insurance note relevantHistory restriction input output"
    ),
}
REQUIRED = {"Task": ("status", "intent", "for", "focus"), "Communication": ("status", "subject", "about", "payload")}
STATUSES = {
    "Task": frozenset(
        {"draft", "requested", "received", "accepted", "rejected", "ready", "cancelled", "in-progress", "on-hold"}
        | {"failed", "completed", "entered-in-error"}
    ),
    "Communication": frozenset(
        {"preparation", "in-progress", "not-done", "on-hold", "stopped", "completed", "entered-in-error", "unknown"}
    ),
}
