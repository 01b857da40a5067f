"""Which element of which segment fills which column of the claim and service line tables (005010X221A1, 004010X091A1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medbill.x12.codes import Lookup

OUTSIDE, CLAIM, LINE = 0, 1, 2

#: A slot is one segment of a loop that a column may look at: by its id, or by id and qualifier. Slot 0 opens the loop.
CLAIM_SLOTS = (
    "CLP", "NM1*QC", "NM1*IL", "NM1*74", "NM1*82", "NM1*TT", "NM1*PR", "REF*EA", "REF*1L", "REF*G1", "REF*BB", "REF*9F",
    "REF*F8", "DTM*232", "DTM*233", "DTM*050", "DTM*036", "AMT*AU", "AMT*I",
)  # fmt: skip
LINE_SLOTS = ("SVC", "REF*6R", "REF*HPI", "DTM*472", "DTM*150", "DTM*151", "AMT*B6")

_QUALIFIERS = [name for name in (*CLAIM_SLOTS, *LINE_SLOTS) if "*" in name]


@dataclass(frozen=True)
class Column:
    """label: the element as a biller names it, such as CLP03. required: a problem where it is empty.

    always: filled in even where no segment has the element.
    """

    name: str
    slot: int
    element: int
    label: str
    required: bool = False
    always: bool = False


def _columns(
    slots: tuple[str, ...], *specs: tuple[str, str, int], required: tuple[str, ...] = (), always: tuple[str, ...] = ()
) -> list[Column]:
    return [
        Column(
            name,
            slots.index(slot),
            element,
            f"{slot}{element:02d}" if "*" not in slot else slot,
            name in required,
            name in required or name in always,
        )
        for name, slot, element in specs
    ]


CLAIM_TEXT = _columns(
    CLAIM_SLOTS,
    ("patient_control_number", "CLP", 1),
    ("claim_status", "CLP", 2),
    ("filing_indicator", "CLP", 6),
    ("payer_claim_control_number", "CLP", 7),
    ("facility_type", "CLP", 8),
    ("frequency_code", "CLP", 9),
    ("drg_code", "CLP", 11),
    ("patient_last_name", "NM1*QC", 3),
    ("patient_first_name", "NM1*QC", 4),
    ("patient_middle_name", "NM1*QC", 5),
    ("patient_id", "NM1*QC", 9),
    ("insured_last_name", "NM1*IL", 3),
    ("insured_first_name", "NM1*IL", 4),
    ("insured_id", "NM1*IL", 9),
    ("corrected_last_name", "NM1*74", 3),
    ("corrected_first_name", "NM1*74", 4),
    ("corrected_id", "NM1*74", 9),
    ("rendering_npi", "NM1*82", 9),
    ("crossover_payer_name", "NM1*TT", 3),
    ("crossover_payer_id", "NM1*TT", 9),
    ("corrected_payer_name", "NM1*PR", 3),
    ("medical_record_number", "REF*EA", 2),
    ("group_number", "REF*1L", 2),
    ("authorization_number", "REF*G1", 2),
    ("original_reference", "REF*F8", 2),
    required=("patient_control_number",),
)
CLAIM_MONEY = _columns(
    CLAIM_SLOTS,
    ("charge", "CLP", 3),
    ("paid", "CLP", 4),
    ("patient_responsibility", "CLP", 5),
    ("coverage_amount", "AMT*AU", 2),
    ("interest", "AMT*I", 2),
    required=("charge", "paid"),
)
CLAIM_DATES = _columns(
    CLAIM_SLOTS,
    ("statement_from", "DTM*232", 2),
    ("statement_to", "DTM*233", 2),
    ("received_date", "DTM*050", 2),
    ("coverage_expires", "DTM*036", 2),
)
LINE_TEXT = _columns(
    LINE_SLOTS,
    ("revenue_code", "SVC", 4),
    ("line_control_number", "REF*6R", 2),
    ("rendering_npi", "REF*HPI", 2),
)
LINE_MONEY = _columns(
    LINE_SLOTS,
    ("charge", "SVC", 2),
    ("paid", "SVC", 3),
    ("allowed_amount", "AMT*B6", 2),
    required=("charge", "paid"),
)
LINE_QUANTITY = _columns(LINE_SLOTS, ("paid_units", "SVC", 5), ("submitted_units", "SVC", 7), always=("paid_units",))
LINE_DATES = _columns(LINE_SLOTS, ("service_from", "DTM*472", 2), ("service_to", "DTM*151", 2))
#: slot -> slots to look at, in this order, where it is empty
CLAIM_ELSE = {CLAIM_SLOTS.index("REF*G1"): (CLAIM_SLOTS.index("REF*BB"), CLAIM_SLOTS.index("REF*9F"))}
LINE_ELSE = {LINE_SLOTS.index("DTM*472"): (LINE_SLOTS.index("DTM*150"),)}
RENDERING = CLAIM_SLOTS.index("NM1*82")

#: MIA and MOA: the elements that hold remark codes
MIA_REMARKS, MOA_REMARKS = (5, 20, 21, 22, 23), (3, 4, 5, 6, 7)


@cache
def qualifiers(element: int) -> Lookup:
    """Numbers of the qualified slots by the first bytes of a segment ("REF*6R" with that element separator)."""
    separator = bytes([element])
    return Lookup({name.encode().replace(b"*", separator): n for n, name in enumerate(_QUALIFIERS, 1)})


@cache
def slots() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(region, qualifier number) -> slot in that region's matrix, -1 where it has none."""
    table = np.full((3, len(_QUALIFIERS) + 1), -1, np.int64)
    for number, name in enumerate(_QUALIFIERS, 1):
        if name in CLAIM_SLOTS:
            table[CLAIM, number] = CLAIM_SLOTS.index(name)
        if name in LINE_SLOTS:
            table[LINE, number] = LINE_SLOTS.index(name)
    return table
