"""The claim, service line and adjustment loops of a section as Arrow tables, with the balance of lines and claims.

Loops follow from the segments that open them: CLP opens a claim, SVC a line of it; LX, PLB, SE and the envelope end
both. Which loop a segment belongs to is a running count over the openers, and the NM1, REF, DTM or AMT with a given
qualifier lands in a matrix of slots by loops. All text is taken from the section's bytes in one gather, all amounts are
parsed in one go, all dates in one; the columns are slices of the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medbill.model.types import MONEY, QUANTITY
from medbill.x12 import arrays, columns, values
from medbill.x12.codes import CODE, GROUP_CODES, U8, carc_lookup, flags, group_lookup
from medbill.x12.columns import CLAIM, LINE, OUTSIDE, Column
from medbill.x12.composites import Procedures
from medbill.x12.scan import FIRST, I64, Bools, Section

I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[Any]

_OPENS = flags("ISA", "GS", "ST", "SE", "GE", "IEA", "LX", "TS3", "TS2", "PLB", "CLP", "SVC")
_QUALIFIED = flags("NM1", "REF", "DTM", "AMT")
_CLP, _SVC, _CAS, _LQ, _MIA, _MOA, _ST = (np.uint8(CODE[c]) for c in ("CLP", "SVC", "CAS", "LQ", "MIA", "MOA", "ST"))
_REVERSAL = b"22"


@dataclass(frozen=True)
class Finding:
    """A problem at a segment of the section; claim and line are ordinals in the section, -1 where it concerns none."""

    segment: int
    code: str
    severity: str
    message: str
    claim: int = -1
    line: int = -1


@dataclass(frozen=True)
class Span:
    """Segments start..end (exclusive) of the section belong to one 835 transaction. implied: it has no ST."""

    start: int
    end: int
    remittance_index: int
    implied: bool = False


class _Gather:
    """Elements that many columns want, fetched together; add() tells where in the result a column will be."""

    def __init__(self) -> None:
        self.parts: list[Ints] = [np.zeros(0, np.int32)]
        self.size = 0

    def add(self, elements: Ints) -> slice:
        self.parts.append(elements)
        self.size += len(elements)
        return slice(self.size - len(elements), self.size)

    def elements(self) -> Ints:
        return np.concatenate(self.parts)


class _Use(NamedTuple):
    """A column's place in a gather. segments: where each of its values comes from."""

    column: Column
    at: slice
    segments: Ints


class _Matrix:
    """Per slot and loop the first segment that fills it, or the section's absent one."""

    def __init__(self, section: Section, segments: I64) -> None:
        self.section, self.segments, self.loops = section, segments, segments.shape[1]
        self.uses: dict[str, _Use] = {}

    def prefer(self, alternatives: Mapping[int, tuple[int, ...]]) -> None:
        for into, others in alternatives.items():
            for slot in others:
                empty = self.segments[into] == self.section.size
                self.segments[into][empty] = self.segments[slot][empty]

    def ask(self, *wanted: tuple[_Gather, list[Column]]) -> None:
        """Put the elements of those columns that occur at all into their gathers."""
        section = self.section
        if not self.loops:
            return
        by_slot: dict[int, list[tuple[_Gather, Column]]] = {}
        for gather, columns_of in wanted:
            for column in columns_of:
                by_slot.setdefault(column.slot, []).append((gather, column))
        filled = (self.segments.min(axis=1) < section.size).tolist()
        for slot, pairs in by_slot.items():
            if not filled[slot]:
                continue
            segments = self.segments[slot]
            first, last = section.first.take(segments), section.last.take(segments)
            elements = (last - first).max()
            for gather, column in pairs:
                if column.element <= elements or column.always:
                    at = first + column.element
                    at[at > last] = section.none
                    self.uses[column.name] = _Use(column, gather.add(at), segments)

    def arrays(self, wanted: list[Column], source: pa.Array) -> Iterator[tuple[str, pa.Array]]:
        for column in wanted:
            use = self.uses.get(column.name)
            if use is not None:
                yield column.name, source[use.at]


class Loops:
    """All loops of the 835 transactions of a section.

    first_claim, first_line: claim_index and line_index of the first one. claim_segments: where each claim begins.
    charge, paid: cents per claim, 0 where unreadable (then `readable` is false).
    """

    def __init__(self, section: Section, spans: list[Span], first_claim: int, first_line: int) -> None:
        self.section, self.spans = section, spans
        self.first_claim, self.first_line = first_claim, first_line
        self.findings: list[Finding] = []
        self._text, self._money, self._units, self._days = _Gather(), _Gather(), _Gather(), _Gather()
        self._find()
        self._qualify()
        self._adjust()

    def fill(self, broken: list[int]) -> None:
        """Values, balances, findings and the tables. broken: claims inside of which the file ends."""
        self._remark()
        self._read()
        self._balance()
        self._check()
        self.claim_table, self.line_table, self.adjustment_table = self._tables(np.array(broken, np.int64))

    def _find(self) -> None:
        """Openers, and for any segment the last one before it."""
        code = _within(self.section, self.spans)
        opens = _OPENS.take(code)
        opener = opens.nonzero()[0]
        kind = code[opener]
        is_claim, is_line = kind == _CLP, kind == _SVC
        # a line belongs to a claim only where the last opener that is no line is a claim
        outer = np.maximum.accumulate(np.where(is_line, 0, np.arange(len(opener))))
        orphans = is_line & ~is_claim[outer]
        if orphans.any():
            for segment in opener[orphans].tolist():
                self._stray(segment, "a service line (SVC) outside of any claim was not read")
            is_line &= ~orphans
        self.code = code
        self.claim_segments, self.line_segments = opener[is_claim], opener[is_line]
        self.claims, self.lines = len(self.claim_segments), len(self.line_segments)
        # one entry per opener and, reached as number -1, one for segments before the first
        self._opener = np.cumsum(opens, dtype=np.int64)
        self._opener -= 1
        region = np.full(len(opener) + 1, OUTSIDE, np.int64)
        region[:-1][is_claim], region[:-1][is_line] = CLAIM, LINE
        self._region = region
        self._claim_of = np.cumsum(np.append(is_claim, False), dtype=np.int32) - np.int32(1)
        self._line_of = np.cumsum(np.append(is_line, False), dtype=np.int32) - np.int32(1)
        self.line_claim = self._claim_of[:-1][is_line]

    def _stray(self, segment: int, message: str) -> None:
        self.findings.append(Finding(segment, "SEGMENT_OUT_OF_PLACE", "error", message))

    def _qualify(self) -> None:
        """Fill the slots of all loops, then ask for the elements of every column."""
        section = self.section
        rows = (_QUALIFIED.take(self.code)).nonzero()[0]
        first = section.first[rows]
        length = section.end[first + 1] - section.start[first]
        keys = section.head[rows] & FIRST.take(length, mode="clip")
        numbers = columns.qualifiers(section.delimiters.element)(keys)
        # one row of cells per slot of the claims, then per slot of the lines, then cells nobody looks at
        of_claims, of_lines = len(columns.CLAIM_SLOTS) * self.claims, len(columns.LINE_SLOTS) * self.lines
        nowhere = of_claims + of_lines
        cells = np.full(nowhere + max(self.claims, self.lines) + 1, section.size, np.int64)
        table = columns.slots()
        row_begins = np.full(table.shape, nowhere)
        row_begins[CLAIM] = np.where(table[CLAIM] >= 0, table[CLAIM] * self.claims, nowhere)
        row_begins[LINE] = np.where(table[LINE] >= 0, of_claims + table[LINE] * self.lines, nowhere)
        opener = self._opener[rows]
        parent = np.where(self._region == LINE, self._line_of, self._claim_of)
        parent[self._region == OUTSIDE] = 0
        cell = row_begins.reshape(-1).take(self._region.take(opener, mode="wrap") * table.shape[1] + numbers)
        cell += parent.take(opener, mode="wrap")
        cells[cell[::-1]] = rows[::-1]  # of several the first stays: it is written last
        self.of_claim = _Matrix(section, cells[:of_claims].reshape(len(columns.CLAIM_SLOTS), self.claims))
        self.of_line = _Matrix(section, cells[of_claims:nowhere].reshape(len(columns.LINE_SLOTS), self.lines))
        self.of_claim.segments[0], self.of_line.segments[0] = self.claim_segments, self.line_segments
        self.of_claim.prefer(columns.CLAIM_ELSE)
        self.of_line.prefer(columns.LINE_ELSE)
        rendering = self.of_claim.segments[columns.RENDERING]
        rendering[~values.same_text(section, section.elements(rendering, 8), b"XX")] = section.size
        self.of_claim.ask(
            (self._text, columns.CLAIM_TEXT), (self._money, columns.CLAIM_MONEY), (self._days, columns.CLAIM_DATES)
        )
        self.of_line.ask(
            (self._text, columns.LINE_TEXT), (self._money, columns.LINE_MONEY),
            (self._units, columns.LINE_QUANTITY), (self._days, columns.LINE_DATES),
        )  # fmt: skip
        self._status = section.elements(self.claim_segments, 2)

    def _adjust(self) -> None:
        """One row per CAS triplet that is not empty."""
        section = self.section
        cas = (self.code == _CAS).nonzero()[0]
        outside = self._region.take(self._opener[cas], mode="wrap") == OUTSIDE
        if outside.any():
            for segment in cas[outside].tolist():
                self._stray(segment, "an adjustment (CAS) outside of any claim was not read")
            cas = cas[~outside]
        triplets: I64 = (section.last[cas] - section.first[cas] + 1) // 3
        number: I64 | int = 2
        if len(cas) and (np.any(triplets != 1)):
            before = np.cumsum(triplets) - triplets
            cas = np.repeat(cas, triplets)
            number = (np.arange(len(cas)) - np.repeat(before, triplets)) * 3 + 2
        parts = [section.elements(cas, number + i) for i in range(3)]
        filled = section.end[parts[1]] > section.start[parts[1]]
        if not filled.all():
            for other in (parts[0], parts[2]):
                filled |= section.end[other] > section.start[other]
            cas, parts = cas[filled], [part[filled] for part in parts]
        reason, amount, quantity = parts
        opener = self._opener[cas]
        self.adj_segments, self.adjustments = cas, len(cas)
        self.adj_claim, self.adj_line = self._claim_of[opener], self._line_of[opener]
        self.at_line = self._region[opener] == LINE
        self._group, self._reason = section.elements(cas, 1), reason
        counted = bool((quantity != section.none).any())
        self._adj = (
            self._text.add(self._group), self._text.add(reason), self._money.add(amount),
            self._units.add(quantity) if counted else None,
        )  # fmt: skip

    def _remark(self) -> None:
        """Remark codes of claims (MIA, MOA) and of lines (LQ)."""
        section = self.section
        rows = ((self.code == _MIA) | (self.code == _MOA)).nonzero()[0]
        rows = rows[self._region[self._opener[rows]] == CLAIM]
        numbers = np.where((self.code[rows] == _MIA)[:, None], columns.MIA_REMARKS, columns.MOA_REMARKS)
        elements = section.elements(rows[:, None], numbers)
        there = section.end[elements] > section.start[elements]
        parents = np.repeat(self._claim_of[self._opener[rows]], there.sum(axis=1))
        self._claim_remarks = (
            self._text.add(elements[there]),
            arrays.offsets(np.bincount(parents, minlength=self.claims)),
        )
        rows = (self.code == _LQ).nonzero()[0]
        rows = rows[self._region[self._opener[rows]] == LINE]
        qualifier, elements = section.elements(rows, 1), section.elements(rows, 2)
        there = section.end[elements] > section.start[elements]
        there &= values.same_text(section, qualifier, b"HE") | values.same_text(section, qualifier, b"RX")
        parents = self._line_of[self._opener[rows[there]]]
        self._line_remarks = self._text.add(elements[there]), arrays.offsets(np.bincount(parents, minlength=self.lines))

    def _read(self) -> None:
        section = self.section
        self._strings = section.strings(self._text.elements())
        self._cents, self._has_cents, self._bad_cents = values.numbers(section, self._money.elements(), 2)
        self._count, self._has_count, self._bad_count = values.numbers(section, self._units.elements(), 3)
        self._day, self._has_day, self._bad_day = values.dates(section, self._days.elements())
        self.procedures = Procedures(section, self.line_segments)
        use = self.of_line.uses.get("paid_units")
        if use is not None:  # absent means one (TR3)
            absent = ~(self._has_count[use.at] | self._bad_count[use.at])
            self._count[use.at][absent], self._has_count[use.at][absent] = 1000, True

    def _balance(self) -> None:
        """Line: SVC02 - CAS = SVC03. Claim: CLP03 - CAS of the claim and its lines = CLP04."""
        amount, known = self._cents[self._adj[2]], self._has_cents[self._adj[2]]
        lines = self.at_line.nonzero()[0]
        line_sum, line_ok = _sums(amount[lines], known[lines], self.adj_line[lines], self.lines)
        claim_sum, claim_ok = _sums(amount, known, self.adj_claim, self.claims)
        charge, charge_ok = self._amount(self.of_line, "charge")
        paid, paid_ok = self._amount(self.of_line, "paid")
        self._line_known = line_ok & charge_ok & paid_ok
        self._line_difference = (charge - line_sum - paid) * self._line_known
        self._line_balanced = self._line_known & (self._line_difference == 0)
        self.charge, charge_ok = self._amount(self.of_claim, "charge")
        self.paid, paid_ok = self._amount(self.of_claim, "paid")
        self.readable = charge_ok & paid_ok
        self._claim_known = claim_ok & self.readable
        self._claim_difference = (self.charge - claim_sum - self.paid) * self._claim_known
        self._claim_rule = self._claim_known & (self._claim_difference == 0)
        self._claim_balanced = self._claim_rule.copy()
        self._claim_balanced[self.line_claim[~self._line_balanced]] = False
        self._line_sum, self._claim_sum = line_sum, claim_sum
        self.line_count = np.bincount(self.line_claim, minlength=self.claims).astype(np.int32)
        self.lines_before = np.concatenate(([0], np.cumsum(self.line_count, dtype=np.int64)))
        self.adjustments_before = np.concatenate(([0], np.cumsum(np.bincount(self.adj_claim, minlength=self.claims))))
        self.line_number = (np.arange(1, self.lines + 1) - self.lines_before[self.line_claim]).astype(np.int32)

    def _amount(self, matrix: _Matrix, name: str) -> tuple[I64, Bools]:
        use = matrix.uses.get(name)
        if use is None:
            return np.zeros(matrix.loops, np.int64), np.zeros(matrix.loops, np.bool_)
        return self._cents[use.at], self._has_cents[use.at]

    def at(self, segment: int) -> tuple[int, int]:
        """Claim and line (ordinals in the section) the segment is in, -1 for none."""
        if segment < 0:
            return -1, -1
        opener = self._opener[segment]
        region = self._region[opener]
        return (
            int(self._claim_of[opener]) if region != OUTSIDE else -1,
            int(self._line_of[opener]) if region == LINE else -1,
        )

    def number(self, line: int) -> int | None:
        """Number of a line (ordinal in the section, or -1) within its claim."""
        return int(self.line_number[line]) if line >= 0 else None

    # --- problems -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        for line in (~self._line_balanced & self._line_known).nonzero()[0].tolist():
            self._at_line(line, "LINE_UNBALANCED", "error", "SVC02 less the line's adjustments is not SVC03")
        for claim in (~self._claim_rule & self._claim_known).nonzero()[0].tolist():
            self._at_claim(claim, "CLAIM_UNBALANCED", "error", "CLP03 less all adjustments of the claim is not CLP04")
        self._check_columns()
        self._check_adjustments()
        for line in self.procedures.foreign.tolist():
            message = "SVC01 or SVC06 uses another component separator than ISA16 declares; it was read all the same"
            self._at_line(line, "COMPONENT_SEPARATOR", "warning", message)
        inside = np.zeros(self.section.size, np.bool_)
        unknown = (self.section.code == 0).nonzero()[0]
        for span in self.spans if len(unknown) else ():
            inside[span.start : span.end] = True
        for segment in unknown[inside[unknown]].tolist():
            message = "the segment's id is not one of the 835; the segment was not read"
            self.findings.append(Finding(segment, "UNKNOWN_SEGMENT", "warning", message))

    def _check_columns(self) -> None:
        gathers: tuple[tuple[list[Column], list[Column], Bools, Bools], ...] = (
            (columns.CLAIM_MONEY, columns.LINE_MONEY, self._has_cents, self._bad_cents),
            ([], columns.LINE_QUANTITY, self._has_count, self._bad_count),
            (columns.CLAIM_DATES, columns.LINE_DATES, self._has_day, self._bad_day),
        )
        for of_claim, of_line, has, bad in gathers:
            any_bad = bad.any()
            for matrix, wanted, report in (
                (self.of_claim, of_claim, self._at_claim),
                (self.of_line, of_line, self._at_line),
            ):
                for column in wanted:
                    use = matrix.uses.get(column.name)
                    if use is None or not (any_bad or column.required):
                        continue
                    for row in (bad[use.at]).nonzero()[0].tolist():
                        report(row, *_unreadable(has is self._has_day, column), segment=int(use.segments[row]))
                    if column.required:
                        for row in (~has[use.at] & ~bad[use.at]).nonzero()[0].tolist():
                            report(row, "AMOUNT_MISSING", "error", f"{column.label} is empty")
        ids = self.section.elements(self.claim_segments, 1)
        for row in (self.section.end[ids] == self.section.start[ids]).nonzero()[0].tolist():
            self._at_claim(row, "CLAIM_ID_MISSING", "error", "CLP01 is empty")

    def _check_adjustments(self) -> None:
        section = self.section
        start = section.start[self._reason]
        length = section.end[self._reason] - start
        known = carc_lookup()(section.eight(start) & FIRST.take(length, mode="clip")) > 0
        for row in (~known).nonzero()[0].tolist():
            self._unknown(row, int(length[row]), "UNKNOWN_CARC", "claim adjustment reason code")
        # the group is all that stands between the id and the reason, so the segment's first bytes tell
        group = (section.head[self.adj_segments] >> np.uint64(32)) & FIRST[3]
        known = group_lookup(section.delimiters.element)(group) > 0
        for row in (~known).nonzero()[0].tolist():
            at = self._group[row]
            text = section.buffer[section.start[at] : section.end[at]]
            if text.decode("utf-8", "replace") not in GROUP_CODES:
                self._unknown(row, len(text), "UNKNOWN_GROUP_CODE", "claim adjustment group code")
        amount, quantity = self._adj[2], self._adj[3]
        for row in (~self._has_cents[amount]).nonzero()[0].tolist():
            if self._bad_cents[amount][row]:
                message = "the adjustment's amount is no exact number of cents"
                self._at_adjustment(row, "AMOUNT_UNREADABLE", "error", message)
            else:
                self._at_adjustment(row, "AMOUNT_MISSING", "error", "the adjustment has no amount")
        for row in (self._bad_count[quantity]).nonzero()[0].tolist() if quantity else ():
            self._at_adjustment(row, "QUANTITY_UNREADABLE", "warning", "the adjustment's quantity is no number")

    def _unknown(self, row: int, length: int, code: str, what: str) -> None:
        if length:
            self._at_adjustment(row, code, "warning", f"the {what} is not in the list of valid codes")
        else:
            self._at_adjustment(row, "ADJUSTMENT_INCOMPLETE", "warning", f"the {what} is empty")

    def _at_claim(self, claim: int, code: str, severity: str, message: str, segment: int | None = None) -> None:
        where = int(self.claim_segments[claim]) if segment is None else segment
        self.findings.append(Finding(where, code, severity, message, claim))

    def _at_line(self, line: int, code: str, severity: str, message: str, segment: int | None = None) -> None:
        where = int(self.line_segments[line]) if segment is None else segment
        self.findings.append(Finding(where, code, severity, message, int(self.line_claim[line]), line))

    def _at_adjustment(self, row: int, code: str, severity: str, message: str) -> None:
        claim, line = int(self.adj_claim[row]), int(self.adj_line[row]) if self.at_line[row] else -1
        self.findings.append(Finding(int(self.adj_segments[row]), code, severity, message, claim, line))

    # --- tables ---------------------------------------------------------------------------------------------------

    def _tables(self, broken: I64) -> tuple[pa.Table, pa.Table, pa.Table]:
        """claims, service_lines, adjustments."""
        claims, lines = self.claims, self.lines
        everything = np.ones(max(claims, lines), np.bool_)
        complete = everything[:claims].copy()
        complete[broken] = False
        computed = arrays.decimals(
            np.concatenate((self._claim_sum, self._claim_difference, self._line_sum, self._line_difference)),
            np.concatenate((everything[:claims], self._claim_known, everything[:lines], self._line_known)),
            MONEY,
        )
        cuts = np.cumsum([claims, claims, lines, lines]).tolist()
        money = arrays.decimals(self._cents, self._has_cents, MONEY)
        quantity = arrays.decimals(self._count, self._has_count, QUANTITY)
        days = arrays.dates(self._day, self._has_day)
        starts = np.array([s.start for s in self.spans], np.int64)
        owners = np.array([s.remittance_index for s in self.spans], np.int32)
        remittance = owners[np.searchsorted(starts, self.claim_segments, "right") - 1] if claims else owners[:0]
        first_claim, first_line = np.int32(self.first_claim), np.int32(self.first_line)
        of_claims = {
            "remittance_index": arrays.int32(remittance),
            "claim_index": arrays.int32(np.arange(claims, dtype=np.int32) + first_claim),
            "remark_codes": arrays.lists(self._claim_remarks[1], self._strings[self._claim_remarks[0]]),
            "is_reversal": arrays.booleans(values.same_text(self.section, self._status, _REVERSAL)),
            "line_count": arrays.int32(self.line_count),
            "adjustment_total": computed[: cuts[0]],
            "balance_difference": computed[cuts[0] : cuts[1]],
            "balanced": arrays.booleans(self._claim_balanced),
            "complete": arrays.booleans(complete),
            **dict(self.of_claim.arrays(columns.CLAIM_TEXT, self._strings)),
            **dict(self.of_claim.arrays(columns.CLAIM_MONEY, money)),
            **dict(self.of_claim.arrays(columns.CLAIM_DATES, days)),
        }
        of_lines = {
            "remittance_index": arrays.int32(remittance[self.line_claim]),
            "claim_index": arrays.int32(self.line_claim + first_claim),
            "line_index": arrays.int32(np.arange(lines, dtype=np.int32) + first_line),
            "line_number": arrays.int32(self.line_number),
            "remark_codes": arrays.lists(self._line_remarks[1], self._strings[self._line_remarks[0]]),
            "adjustment_total": computed[cuts[1] : cuts[2]],
            "balance_difference": computed[cuts[2] :],
            "balanced": arrays.booleans(self._line_balanced),
            **self.procedures.columns(),
            **dict(self.of_line.arrays(columns.LINE_TEXT, self._strings)),
            **dict(self.of_line.arrays(columns.LINE_MONEY, money)),
            **dict(self.of_line.arrays(columns.LINE_QUANTITY, quantity)),
            **dict(self.of_line.arrays(columns.LINE_DATES, days)),
        }
        group, reason, amount, number = self._adj
        of_adjustments = {
            "remittance_index": arrays.int32(remittance[self.adj_claim]),
            "claim_index": arrays.int32(self.adj_claim + first_claim),
            "line_index": arrays.int32(self.adj_line + first_line, self.at_line),
            "group_code": self._strings[group],
            "reason_code": self._strings[reason],
            "amount": money[amount],
            "quantity": quantity[number] if number else None,
        }
        return (
            arrays.table("claims", of_claims, claims),
            arrays.table("service_lines", of_lines, lines),
            arrays.table("adjustments", of_adjustments, self.adjustments),
        )


def _within(section: Section, spans: list[Span]) -> U8:
    """Segment numbers with 0 outside of the spans; a span without ST begins with one."""
    if len(spans) == 1 and spans[0].start == 0 and spans[0].end == section.size and not spans[0].implied:
        return section.code
    code = np.zeros(section.size, np.uint8)
    for span in spans:
        code[span.start : span.end] = section.code[span.start : span.end]
        if span.implied and code[span.start] not in (_CLP, _SVC):
            code[span.start] = _ST
    return code


def _sums(amounts: I64, known: Bools, owners: I32, n: int) -> tuple[I64, Bools]:
    """Sum per owner of rows that are in order of their owners, and whether all its rows were known."""
    after = np.cumsum(np.bincount(owners, minlength=n))
    before = np.concatenate(([0], after[:-1])) if n else after
    running = np.concatenate(([0], np.cumsum(amounts)))
    ok = np.ones(n, np.bool_)
    ok[owners[~known]] = False
    return running[after] - running[before], ok


def _unreadable(is_date: bool, column: Column) -> tuple[str, str, str]:
    if is_date:
        return "DATE_UNREADABLE", "warning", f"the date of {column.label} is no day of the calendar (CCYYMMDD)"
    if column in columns.LINE_QUANTITY:
        return "QUANTITY_UNREADABLE", "warning", f"{column.label} is no number"
    return "AMOUNT_UNREADABLE", "error", f"{column.label} is no exact number of cents"
