"""What AdvancedMD's adapter reads and can do, and how sure we are of it."""

from __future__ import annotations

from types import MappingProxyType

from medbill.platforms.base import Certainty, Operation

PLATFORM = "advancedmd"

USED = {
    "visits": frozenset({"id", "date", "patientid", "profileid", "lastupdated", "reason"}),
    "charges": frozenset({"id", "proccode", "units", "amount"}),
    "charge_details": frozenset({"id", "proccode", "modcodes", "diagcodes", "fee", "void", "insbilled"}),
    "day_visits": frozenset({"id", "patientid", "carname", "carcode"}),
    "history": frozenset({"id", "visit", "void"}),
    "patients": frozenset({"id", "firstname", "lastname", "dob"}),
    "plans": frozenset({"carrier", "subscribernum"}),
    "carriers": frozenset({"id", "name", "code"}),
    "files": frozenset({"id", "description"}),
    "note_types": frozenset({"id", "name"}),
}
NEEDED = {
    "visits": frozenset({"id", "date", "patientid"}),
    "charges": frozenset({"id", "amount"}),
    "charge_details": frozenset({"id", "void"}),
    "day_visits": frozenset({"id"}),
    "history": frozenset({"visit"}),
    "patients": frozenset({"id"}),
    "files": frozenset({"id", "description"}),
    "note_types": frozenset({"id", "name"}),
}
EXTRACTED = ("visits", "charges", "charge_details", "day_visits", "history", "patients", "plans", "carriers")

CAPABILITIES = MappingProxyType(
    {
        "login": Operation(
            "XML login, redirect, login", Certainty.CODE, "the redirect is followed inside the vendor's domain only"
        ),
        "extract claims": Operation(
            "getupdatedvisits, getchargedetaildata, getdemographic",
            Certainty.CODE,
            "datechanged and since are both seen as the parameter: changed_since of the connection; a visit as claim and CLM01, "
            "and fee as the line's whole charge, are guesses",
        ),
        "extract payers": Operation(
            "getdatevisits (insurance), getdemographic (insplanlist, carrierlist)",
            Certainty.CODE,
            "a carrier's code is the practice's own, not the payer id of its claims",
        ),
        "extract notes": Operation("getupdatedvisits (reason)", Certainty.CODE, "clinical notes are not read"),
        "extract providers": Operation(
            "none", Certainty.GUESS, "no public shape carries an NPI: profile_npis of the connection"
        ),
        "completeness": Operation("getdatevisits by day, gettxhistory by patient", Certainty.CODE),
        "requested fields": Operation(
            "template children of getdatevisits", Certainty.CODE, "elsewhere fields are dropped here"
        ),
        "rate limits": Operation(
            "by tier and minute, lower Mon-Fri 06-18 in Denver",
            Certainty.CODE,
            "two code bases agree; that overuse is billed has one source",
        ),
        "write file": Operation("uploadfile", Certainty.CODE, "names of the file's attributes are a guess"),
        "find file": Operation("getdemographic (filelist)", Certainty.GUESS, "seen in a third party's test data only"),
        "write note": Operation(
            "lookupnotetypes, savepatientnotes", Certainty.CODE, "a note cannot be read back by any known action"
        ),
        "find note": Operation("none", Certainty.GUESS, "an unknown outcome waits for a person"),
        "payments": Operation(
            "none; REST transaction/payments, addpayments",
            Certainty.GUESS,
            "known from one source only and not offered: a posting becomes a file",
        ),
        "check": Operation("lookupnotetypes", Certainty.CODE),
    }
)
