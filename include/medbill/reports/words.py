"""Own words of the denial report: categories, what to do, definitions. No text of a licensed code list."""

from __future__ import annotations

CATEGORIES = {
    "appeal_process": "Appeal process",
    "authorization_referral": "Authorization or referral",
    "benefit_limit_frequency": "Benefit limit or frequency",
    "bundling_ncci": "Bundling (NCCI)",
    "clinical_documentation": "Clinical documentation",
    "coding": "Coding",
    "contractual": "Contractual",
    "coordination_of_benefits": "Coordination of benefits",
    "duplicate": "Duplicate",
    "eligibility_coverage": "Eligibility or coverage",
    "medical_necessity": "Medical necessity",
    "missing_documentation": "Missing documentation",
    "missing_information_data": "Missing information",
    "non_covered": "Non-covered service",
    "patient_responsibility": "Patient responsibility",
    "pricing_reduction": "Pricing reduction",
    "prior_payer_amount": "Prior payer's amount",
    "provider_enrollment": "Provider enrollment",
    "registration_demographic": "Registration",
    "timely_filing": "Timely filing",
    "unclassified": "Unclassified",
}

#: action of a denial -> (short name for a table cell, what to do)
ACTIONS = {
    "appeal_with_records": (
        "Appeal with records",
        "Appeal with the records that show why the service was needed for this diagnosis.",
    ),
    "attach_auth_or_appeal": (
        "Attach authorization",
        "Look for an authorization or referral on file: send it with a corrected claim; if there is none, ask for a retroactive one or appeal.",
    ),
    "benefit_review_or_bill_patient": (
        "Check benefits",
        "Check the plan's benefits. Covered: appeal. Not covered: bill the patient only where a signed notice allows it.",
    ),
    "bill_other_payer": (
        "Bill other payer",
        "Find out which payer comes first, bill it, then send its answer to this one.",
    ),
    "confirm_original_then_close": (
        "Confirm the original",
        "Find the first claim. Paid: close this one. Never answered, or really a second service: resubmit with the modifier that says so.",
    ),
    "correct_member_or_rebill": (
        "Correct member data",
        "Check coverage for the service date, correct the member's data, and rebill the payer that covered it.",
    ),
    "corrected_claim": (
        "Corrected claim",
        "Correct the code, modifier or diagnosis and send a corrected claim; an appeal is not needed.",
    ),
    "fix_enrollment": (
        "Fix enrollment",
        "Check the provider's enrollment and NPI with this payer, correct them, then resubmit what was held back.",
    ),
    "next_level_or_close": (
        "Next appeal level",
        "Decide on the next level of appeal before its deadline, or close the denial.",
    ),
    "post_adjustment": ("Post adjustment", "Post the adjustment as the contract says; nothing is to be recovered."),
    "proof_of_timely_filing": (
        "Prove timely filing",
        "Send the clearinghouse's acceptance report as proof that the claim was filed in time.",
    ),
    "reprice_or_route": (
        "Check the price",
        "Compare the allowed amount with the contract; dispute a wrong price, post a right one.",
    ),
    "review_modifier_or_writeoff": (
        "Review modifier",
        "Check the code pair and the note. A distinct service: corrected claim with the right modifier. Otherwise propose a write-off.",
    ),
    "review_reason_code": (
        "Read the reason code",
        "The reason code is not in the practice's list: read the payer's text, choose the next step, and have the code added.",
    ),
    "review_units_or_appeal": (
        "Review units",
        "Compare units and dates with the limit. A slip: corrected claim. Right as billed: appeal with records.",
    ),
    "send_records": ("Send records", "Send the records the payer asks for, with its reference, before its deadline."),
    "supply_documentation": ("Supply documents", "Send the missing document with the payer's reference."),
    "supply_information": (
        "Supply information",
        "The remark codes name what is missing or wrong: complete it and send a corrected claim.",
    ),
    "verify_coverage_or_bill_patient": (
        "Verify coverage",
        "Verify the patient's coverage on the service date. Other coverage: bill it. None: bill the patient.",
    ),
    "transfer_to_patient": (
        "Transfer to patient",
        "Move the balance to the patient's account and bill it by statement.",
    ),
}

#: (anchor, term, formula and meaning); the first ones in the order of the headline figures, whose footnotes they are.
DEFINITIONS = [
    (
        "denied",
        "Denied dollars, denials, denied claims",
        "Denied dollars = sum of the denying adjustments on remittances with a payment date in the period; each such adjustment is "
        "one denial. Denied claims = distinct claims among them. A claim can be in several groups of a table, so claims do not add "
        "up to the total; denials and dollars do.",
    ),
    (
        "recoverable",
        "Recoverable",
        "Dollars that triage holds for recoverable, of denials that nothing has settled and whose deadline (if any) is not before "
        "the as-of date.",
    ),
    (
        "due",
        "Due within 14 days",
        "The part of recoverable dollars whose deadline falls on the as-of date or on one of the 14 days after it.",
    ),
    (
        "lost",
        "Lost",
        "Of unsettled denials: those with nothing recoverable (duplicates aside), at the denied amount, and those whose deadline is before the as-of "
        "date, at what was recoverable. Only a person writes them off.",
    ),
    (
        "initial",
        "Initial denial rate",
        "By claims = initially denied claims / claims remitted. Claims remitted = claims whose first remittance has a payment date "
        "in the period; initially denied = that first remittance has a denial. By dollars = denied dollars on first remittances / "
        "charges on first remittances. Claims sent but not yet answered are not counted.",
    ),
    (
        "firstpass",
        "First-pass rate",
        "Claims whose first remittance has no denial / claims remitted. With the initial denial rate by claims it adds up to 100%.",
    ),
    (
        "overturn",
        "Overturn rate",
        "Initially denied claims paid on a later remittance / initially denied claims. Paid means more than was taken back again; "
        "after a partly paid first remittance only the same payer's payments count, so a secondary payer's share does not. "
        "Recent denials have had little time to be overturned.",
    ),
    (
        "settled",
        "Settled since",
        "Denied dollars answered by a later remittance: paid, reversed by the payer, or denied again for the same line and reason "
        "(then the later denial stands for it).",
    ),
    (
        "notowed",
        "Not owed",
        "Denied dollars that winning would not bring: the charge above the expected payment at which triage values a denial, and "
        "duplicates, whose dollars are those of the original claim. Neither recoverable nor lost. Denied = recoverable + lost + "
        "not owed + settled since.",
    ),
    (
        "age",
        "Age of denial",
        "Days from the payment date of the denying remittance to the as-of date. Day 30 is in 0-30, day 31 in 31-60, day 121 in 121+.",
    ),
    (
        "share",
        "Share",
        "Part of all denied dollars, rounded to 0.1 so that a column adds up to exactly 100.0%. Cumulative share adds the shares "
        "from the top.",
    ),
]


def category(value: str) -> str:
    """Name of a denial category; an unknown one in plain letters."""
    return CATEGORIES.get(value) or value.replace("_", " ").capitalize()


def action_name(value: str) -> str:
    return ACTIONS[value][0] if value in ACTIONS else value.replace("_", " ").capitalize()


def action_text(value: str) -> str:
    return ACTIONS[value][1] if value in ACTIONS else f"{action_name(value)}."
