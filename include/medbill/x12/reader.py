"""A file from its first byte to its last: sections, envelope, the header and balance of each transaction.

A section ends where a claim or a transaction ends, so a claim is always whole in one. What an open transaction has
summed up so far is carried in a Transaction; nothing else of a section is kept.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from medbill.errors import BadInput, NotX12
from medbill.x12 import arrays, delimiters, source, values
from medbill.x12.codes import CODE, SEGMENTS, flags
from medbill.x12.delimiters import Delimiters
from medbill.x12.feed import Feed
from medbill.x12.loops import Loops, Span
from medbill.x12.scan import Section
from medbill.x12.tables import EraTables, empty

_ENVELOPE = flags("ISA", "GS", "ST", "SE", "GE", "IEA")
_AFTER_HEADER = flags("ISA", "GS", "ST", "SE", "GE", "IEA", "LX", "TS3", "TS2", "PLB", "CLP", "SVC", "CAS")
#: A section may end before these: they end the claim before them ...
_ENDS_CLAIM = flags("CLP", "LX", "PLB", "SE")
#: ... and before an envelope segment that follows one of these, so no claim is open.
_NO_CLAIM = flags("ISA", "GS", "SE", "GE", "IEA")
_PLB, _ISA, _IEA = (CODE[c] for c in ("PLB", "ISA", "IEA"))
_OPENS_IMPLIED = flags("BPR", "CLP", "PLB")
_IN_PLACE = flags("TA1")
_BLANK = bytes(range(33))
_FINAL_IEA = re.compile(rb"IEA(.)[0-9]{1,5}\1[0-9]{9}", re.DOTALL)
_SEGMENT_ID = re.compile(rb"[A-Z][A-Z0-9]{1,2}")
_HEADER_BEGINS = re.compile(rb"ISA([^A-Za-z0-9\s])(?:[0-9]{2}\1|[0-9]{0,2}\Z)")
_TRANSACTION_SETS = frozenset({"270", "271", "276", "277", "278", "820", "824", "834", "837", "997", "999"})
_KEPT_BLOCK = 1 << 24
_LARGEST = 10**18  # what the 18 digits of the schema hold, in cents


@dataclass
class _Group:
    ordinal: int
    control: str | None
    functional: str | None
    version: str | None
    transactions: int = 0


@dataclass
class _Interchange:
    ordinal: int
    control: str | None
    date: datetime.date | None
    groups: int = 0


@dataclass
class _Transaction:
    """An open 835: its header, and what its claims have summed up to so far (cents). segments: before this section."""

    index: int
    ordinal: int
    control: str | None
    implied: bool
    header: dict[str, Any]
    first_claim: int = -1
    segments: int = 0
    claims: int = 0
    lines: int = 0
    adjustments: int = 0
    charge: int = 0
    paid: int = 0
    provider_adjustments: int = 0
    readable: bool = True
    payment: int | None = None


@dataclass
class _Part:
    """The segments of a transaction that are in this section. ended: how, where it does."""

    transaction: _Transaction
    start: int
    end: int
    ended: str = ""  # "", "closed" (SE) or "broken" (no SE)
    before: int = 0  # segments of the transaction in earlier sections


@dataclass
class _Problem:
    segment: int
    code: str
    severity: str
    place: str
    message: str
    remittance: int | None = None
    claim: int | None = None
    line: int | None = None


@dataclass
class _Batch:
    """Rows that are made one by one."""

    remittances: list[dict[str, Any]] = field(default_factory=list)
    provider_adjustments: list[dict[str, Any]] = field(default_factory=list)
    problems: list[_Problem] = field(default_factory=list)

    def note(
        self, code: str, severity: str, place: str, message: str, segment: int = -1, remittance: int | None = None
    ) -> None:
        self.problems.append(_Problem(segment, code, severity, place, message, remittance))


@dataclass(frozen=True)
class _Piece:
    """Whole segments, the unfinished one after them, what follows, and whether that is no part of these interchanges.

    mended: the file's last segment, an IEA, was taken as whole although its terminator is missing.
    """

    section: Section
    rest: bytes
    after: bytes
    closed: bool
    mended: bool


@dataclass
class _Work:
    """A section with all that depends on the sections before it settled.

    broken: claims (ordinals in the section) inside of which the file breaks off. partial: so does a segment.
    """

    parts: list[_Part]
    loops: Loops
    batch: _Batch
    broken: list[int]
    partial: bool
    first_claim: int
    first_line: int


class Reader:
    """Reads sources one after the other; indices run on over all of them.

    chunk_bytes: how much is read at a time.
    """

    def __init__(self, chunk_bytes: int) -> None:
        if chunk_bytes < 1:
            raise ValueError("chunk_bytes must be positive")
        self._chunk = chunk_bytes
        # glibc keeps freed blocks up to the largest size it has seen freed, instead of returning them to the system after
        # each section and getting them anew, page by page; this one is never touched, so it costs no memory
        bytes(_KEPT_BLOCK)
        self._file = -1
        self._remittances = self._claims = self._lines = 0

    def read(self, what: bytes | Path) -> Iterator[EraTables]:
        """Batches of one source. Raises NotX12 where it holds no interchange at all."""
        self._file += 1
        self._interchanges = self._transactions = 0
        self._interchange: _Interchange | None = None
        self._group: _Group | None = None
        self._open: _Transaction | None = None
        self._foreign = False
        self._batch = _Batch()
        self._window = 2 * self._chunk  # how far to scan at once
        for work in self._sections(what):
            work.loops.fill(work.broken)
            yield self._finish(work)
            del work  # before the next section is scanned
        if not self._transactions:
            self._batch.note("NO_REMITTANCE", "warning", f"file {self._file + 1}", "the file holds no 835 transaction")
        yield _tables(self._batch, None)

    def _sections(self, what: bytes | Path) -> Iterator[_Work]:
        feed = Feed(source.blocks(what, self._chunk))
        found_any = False
        while (found := self._seek(feed, found_any)) is not None:
            found_any = True
            yield from self._delimited(feed, feed.ascii(found))

    # --- bytes ----------------------------------------------------------------------------------------------------

    def _seek(self, feed: Feed, found_any: bool) -> Delimiters | None:
        """Go to the next interchange header; None at the end of the file. Raises NotX12 where there was none at all."""
        skipped = b""
        marks: Delimiters | None = None
        while True:
            found = delimiters.find(feed.data, whole=feed.ended)
            at, marks = found or (len(feed.data) if feed.ended else max(len(feed.data) - 3, 0), None)
            skipped = skipped or feed.data[:at].removeprefix(b"\xef\xbb\xbf").strip(_BLANK)
            if marks is not None or feed.ended:
                break
            feed.data = feed.data[at:]
            feed.more(self._chunk)
        place = f"file {self._file + 1}, after interchange {self._interchanges}"
        if marks is None:
            begun = _HEADER_BEGINS.search(feed.data) is not None
            if not found_any:
                raise NotX12(_no_interchange(begun, bool(skipped)))
            if begun:
                self._batch.note("TRUNCATED", "error", place, "the file breaks off inside an interchange header (ISA)")
        feed.data = feed.data[at:]
        if skipped:
            message = "text outside of any interchange was not read"
            self._batch.note("TEXT_SKIPPED", "info", place if self._interchanges else f"file {self._file + 1}", message)
        if marks is not None and not marks.exact:
            message = "the ISA segment has not its fixed widths; its delimiters were inferred"
            self._batch.note("ISA_MALFORMED", "warning", place, message)
        return marks

    def _delimited(self, feed: Feed, current: Delimiters) -> Iterator[_Work]:
        """Interchanges with the same delimiters, section by section, until other delimiters, other text or the end."""
        while True:
            piece = _cut(feed, current, self._window, None)
            if _may_hold_other(piece.section, piece.rest):
                limit = delimiters.next_other(feed.data, current)
                if limit is not None:
                    piece = _cut(feed, current, self._window, limit)
            section, rest, after, closed, mended = piece.section, piece.rest, piece.after, piece.closed, piece.mended
            del piece
            text = _text_after_interchange(section, rest if closed else b"")
            if text is not None:
                # where text is between interchanges there may be more of it: do not scan far only to stop there again
                self._window = min(self._window, 4 * section.position(text))
                after, rest, closed = section.rest(text) + rest + after, b"", True
            size = section.size if text is None else text
            if not closed:
                size = self._boundary(section)
                if not size:  # a claim longer than what was read: double it
                    self._window = max(self._window, 2 * len(feed.data))
                    if len(feed.data) < self._window:
                        feed.more(self._window - len(feed.data))
                    continue
            partial = closed and bool(rest.strip(_BLANK))
            feed.data = after if closed else section.rest(size) + rest + after
            work = self._prepare(section, size, closed, partial)
            if mended:
                place = f"file {self._file + 1}, interchange {self._interchanges}"
                message = "the last segment (IEA) has no terminator"
                work.batch.note("TERMINATOR_MISSING", "info", place, message, size - 1)
            yield work
            if closed:
                return
            del work
            del section
            self._window = min(4 * self._window, max(self._window, 2 * self._chunk))
            if len(feed.data) < self._chunk:
                feed.more(self._chunk)

    def _boundary(self, section: Section) -> int:
        """The last segment before which a section may end, 0 where there is none."""
        size = section.size
        for back in (1024, size):  # nearly always close to the end
            code = section.code[max(size - back, 0) :]
            may = _ENDS_CLAIM[code]
            may[1:] |= _ENVELOPE[code[1:]] & _NO_CLAIM[code[:-1]]
            at = np.flatnonzero(may[1:])
            if len(at):
                return int(at[-1]) + 1 + max(size - back, 0)
        # inside of another transaction set nothing needs to be kept together
        return size if self._foreign and not _ENVELOPE[section.code].any() else 0

    # --- sections -------------------------------------------------------------------------------------------------

    def _prepare(self, section: Section, size: int, closed: bool, partial: bool) -> _Work:
        """The first `size` segments. closed: nothing of these interchanges follows. partial: a segment was cut off."""
        parts = self._envelope(section, size)
        if closed:
            self._end(parts, size, partial)
        spans = [Span(p.start, p.end, p.transaction.index, p.transaction.implied and not p.before) for p in parts]
        loops = Loops(section, spans, self._claims, self._lines)
        broken = []
        for p in parts:
            t = p.transaction
            if t.first_claim < 0:
                t.first_claim = self._claims + int(np.searchsorted(loops.claim_segments, p.start))
            t.segments = p.before + p.end - p.start
            claim, _ = loops.at(p.end - 1)
            if p.ended == "broken" and claim >= 0:
                broken.append(claim)
        self._provider(section, size, parts)
        work = _Work(parts, loops, self._batch, broken, partial, self._claims, self._lines)
        self._batch = _Batch()
        self._claims += loops.claims
        self._lines += loops.lines
        return work

    def _finish(self, work: _Work) -> EraTables:
        """Add a filled section to its transactions, close those that end in it, and make its tables."""
        loops, parts = work.loops, work.parts
        bounds = np.searchsorted(loops.claim_segments, [edge for p in parts for edge in (p.start, p.end)])
        charge = np.concatenate(([0], np.cumsum(loops.charge)))
        paid = np.concatenate(([0], np.cumsum(loops.paid)))
        starts = [p.start for p in parts]
        for f in loops.findings:
            part = parts[int(np.searchsorted(starts, f.segment, "right")) - 1]
            claim = work.first_claim + f.claim if f.claim >= 0 else None
            line = work.first_line + f.line if f.line >= 0 else None
            place = self._place(part, f.segment, claim, loops.number(f.line))
            work.batch.problems.append(
                _Problem(f.segment, f.code, f.severity, place, f.message, part.transaction.index, claim, line)
            )
        for p, low, high in zip(parts, bounds[0::2].tolist(), bounds[1::2].tolist(), strict=True):
            t = p.transaction
            t.claims += high - low
            t.lines += int(loops.lines_before[high] - loops.lines_before[low])
            t.adjustments += int(loops.adjustments_before[high] - loops.adjustments_before[low])
            t.charge += int(charge[high] - charge[low])
            t.paid += int(paid[high] - paid[low])
            t.readable = t.readable and bool(loops.readable[low:high].all())
            if p.ended == "broken":
                claim, line = loops.at(p.end - 1)
                message = "the transaction breaks off after this segment: no SE"
                if work.partial and p is parts[-1]:
                    message += ", and a last segment that is cut off was not read"
                place = self._place(p, p.end - 1, work.first_claim + claim if claim >= 0 else None, loops.number(line))
                work.batch.note("TRUNCATED", "error", place, message, p.end - 1, t.index)
            if p.ended:
                self._close(p, work.batch)
        return _tables(work.batch, loops)

    def _envelope(self, section: Section, size: int) -> list[_Part]:
        """Walk the envelope segments; the parts of 835 transactions between them."""
        code = section.code[:size]
        parts: list[_Part] = []
        if self._open is not None:
            parts.append(_Part(self._open, 0, size, before=self._open.segments))
        envelope = np.flatnonzero(_ENVELOPE.take(code)).tolist()
        following = 0
        for s in envelope:
            self._between(section, code, following, s, parts)
            name = SEGMENTS[code[s]]
            if name == "SE":
                self._se(section, s, parts)
            else:
                if self._open is not None:
                    self._leave(parts, s, "broken")
                self._foreign = False
                getattr(self, f"_{name.lower()}")(section, s, parts)
            following = s + 1
        self._between(section, code, following, size, parts)
        if self._open is not None:
            parts[-1].end = size
        return parts

    def _between(self, section: Section, code: Any, start: int, end: int, parts: list[_Part]) -> None:
        """Segments with no transaction open: an 835 that has lost its ST is read all the same."""
        if start >= end or self._open is not None or self._foreign:
            return
        opener = np.flatnonzero(_OPENS_IMPLIED[code[start:end]])
        lost = end
        if len(opener) and (self._group is None or self._group.functional in (None, "HP")):
            lost = start + int(opener[0])
        for s in range(start, lost):
            if not _IN_PLACE[code[s]]:
                message = "a segment outside of any transaction was not read"
                self._batch.note("SEGMENT_OUT_OF_PLACE", "warning", self._where(), message, segment=s)
        if lost < end:
            self._begin(section, lost, None, True, parts)

    def _isa(self, section: Section, s: int, parts: list[_Part]) -> None:
        if self._interchange is not None:
            self._batch.note("TRUNCATED", "error", self._where(), "the interchange breaks off: no IEA", segment=s)
        self._interchanges += 1
        self._group = None
        self._interchange = _Interchange(self._interchanges, section.text(s, 13), isa_date(section.value(s, 9)))

    def _gs(self, section: Section, s: int, parts: list[_Part]) -> None:
        self._group_left_open(s)
        if self._interchange is not None:
            self._interchange.groups += 1
        ordinal = self._interchange.groups if self._interchange else 1
        self._group = _Group(ordinal, section.text(s, 6), section.text(s, 1), section.text(s, 8))

    def _group_left_open(self, s: int) -> None:
        if self._group is not None:
            self._batch.note("GE_MISSING", "error", self._where(), "the functional group has no GE", segment=s)
        self._group = None

    def _ge(self, section: Section, s: int, parts: list[_Part]) -> None:
        group = self._group
        if group is None:
            self._batch.note("SEGMENT_OUT_OF_PLACE", "warning", self._where(), "a GE without a GS", segment=s)
            return
        if values.parse_one(section.value(s, 1), 0) != group.transactions:
            message = "GE01 is not the number of transactions in the group"
            self._batch.note("GE_COUNT", "error", self._where(), message, segment=s)
        if not _same_number(section.text(s, 2), group.control):
            self._batch.note("GE_CONTROL", "error", self._where(), "GE02 is not the group's GS06", segment=s)
        self._group = None

    def _iea(self, section: Section, s: int, parts: list[_Part]) -> None:
        self._group_left_open(s)
        interchange = self._interchange
        if interchange is None:
            self._batch.note("SEGMENT_OUT_OF_PLACE", "warning", self._where(), "an IEA without an ISA", segment=s)
            return
        if values.parse_one(section.value(s, 1), 0) != interchange.groups:
            message = "IEA01 is not the number of groups in the interchange"
            self._batch.note("IEA_COUNT", "error", self._where(), message, segment=s)
        if not _same_number(section.text(s, 2), interchange.control):
            self._batch.note("IEA_CONTROL", "error", self._where(), "IEA02 is not the interchange's ISA13", segment=s)
        self._interchange = None

    def _st(self, section: Section, s: int, parts: list[_Part]) -> None:
        if self._group is not None:
            self._group.transactions += 1
        kind = section.text(s, 1) or ""
        payment_group = self._group is not None and self._group.functional == "HP"
        if kind == "835":
            self._begin(section, s, section.text(s, 2), False, parts)
        elif payment_group and not re.fullmatch(r"[0-9]{3}", kind):
            message = "ST01 is no transaction set identifier; read as an 835, which its group is for"
            self._batch.note("ST_UNREADABLE", "error", self._where(), message, segment=s, remittance=self._remittances)
            self._begin(section, s, section.text(s, 2), False, parts)
        else:
            self._foreign = True
            named = f"transaction set {kind}" if kind in _TRANSACTION_SETS else "another transaction set"
            severity = "info" if kind in _TRANSACTION_SETS else "warning"
            message = f"{named} beside the 835 was skipped"
            self._batch.note("TRANSACTION_SKIPPED", severity, self._where(), message, segment=s)

    def _se(self, section: Section, s: int, parts: list[_Part]) -> None:
        t = self._open
        if t is None:
            if not self._foreign:
                self._batch.note("SEGMENT_OUT_OF_PLACE", "warning", self._where(), "an SE without an ST", segment=s)
            self._foreign = False
            return
        part = parts[-1]
        place = self._place(part, s)
        if not t.implied:
            if values.parse_one(section.value(s, 1), 0) != part.before + s - part.start + 1:
                message = "SE01 is not the number of segments in the transaction"
                self._batch.note("SE_COUNT", "error", place, message, segment=s, remittance=t.index)
            if section.text(s, 2) != t.control:
                message = "SE02 is not the transaction's ST02"
                self._batch.note("SE_CONTROL", "error", place, message, segment=s, remittance=t.index)
        self._leave(parts, s + 1, "closed")

    def _leave(self, parts: list[_Part], end: int, how: str) -> None:
        parts[-1].end, parts[-1].ended = end, how
        self._open = None

    def _end(self, parts: list[_Part], size: int, partial: bool) -> None:
        """Nothing of this interchange follows: what is still open breaks off here."""
        if self._open is not None:
            self._leave(parts, size, "broken")
        elif self._interchange is not None:
            message = "the interchange breaks off: no IEA"
            message += ", and a last segment that is cut off was not read" if partial else ""
            self._batch.note("TRUNCATED", "error", self._where(), message, segment=size)
        self._foreign, self._group, self._interchange = False, None, None

    # --- transactions ---------------------------------------------------------------------------------------------

    def _begin(self, section: Section, s: int, control: str | None, implied: bool, parts: list[_Part]) -> None:
        interchange, group = self._interchange, self._group
        self._transactions += 1
        t = _Transaction(self._remittances, self._transactions, control, implied, {})
        self._remittances += 1
        part = _Part(t, s, section.size)
        parts.append(part)
        self._open = t
        t.header = {
            "interchange_control": interchange.control if interchange else None,
            "interchange_date": interchange.date if interchange else None,
            "group_control": group.control if group else None,
            "version": (group.version if group else None) or (None if implied else section.text(s, 3)),
            "transaction_control": control,
        }
        if implied:
            message = "a transaction without an ST was read as an 835"
            self._batch.note("ST_MISSING", "error", self._place(part, s), message, segment=s, remittance=t.index)
        self._header(section, part, range(s, _header_end(section, s if implied else s + 1)))

    def _header(self, section: Section, part: _Part, segments: range) -> None:
        """BPR, TRN, DTM*405 and the payer's and payee's N1 loops; of several the first counts."""
        t, h = part.transaction, part.transaction.header
        party = ""
        for s in segments:
            name = SEGMENTS[section.code[s]]
            text = section.text
            if name == "BPR" and "handling_code" not in h:
                h["handling_code"], h["credit_debit"], h["payment_method"] = text(s, 1), text(s, 3), text(s, 4)
                h["payment_date"] = self._date(section, s, 16, "BPR16", part)
                t.payment = values.parse_one(section.value(s, 2), 2)
                if t.payment is None:
                    code = "AMOUNT_UNREADABLE" if section.value(s, 2) else "AMOUNT_MISSING"
                    message = "BPR02 is no exact number of cents" if section.value(s, 2) else "BPR02 is empty"
                    self._batch.note(code, "error", self._place(part, s), message, segment=s, remittance=t.index)
            elif name == "TRN" and "trace_number" not in h:
                h["trace_number"], h["payer_trace_id"] = text(s, 2), text(s, 3)
            elif name == "DTM" and section.value(s, 1) == b"405" and "production_date" not in h:
                h["production_date"] = self._date(section, s, 2, "DTM*405", part)
            elif name == "N1":
                party = text(s, 1) or ""
                if party == "PR" and "payer_name" not in h:
                    h["payer_name"], h["payer_id"] = text(s, 2), text(s, 4)
                elif party == "PE" and "payee_name" not in h:
                    h["payee_name"] = text(s, 2)
                    kind = {"XX": "payee_npi", "FI": "payee_tax_id"}.get(text(s, 3) or "")
                    if kind:
                        h[kind] = text(s, 4)
            elif name == "REF":
                if party == "PR" and section.value(s, 1) == b"2U":
                    h.setdefault("payer_2u", text(s, 2))
                elif party == "PE" and section.value(s, 1) == b"TJ" and not h.get("payee_tax_id"):
                    h["payee_tax_id"] = text(s, 2)
        h["payer_id"] = h.get("payer_id") or h.pop("payer_2u", None) or h.get("payer_trace_id")
        if "handling_code" not in h:
            message = "the transaction has no BPR, so no payment amount"
            self._batch.note("BPR_MISSING", "error", self._place(part, part.start), message, part.start, t.index)

    def _date(self, section: Section, s: int, element: int, label: str, part: _Part) -> datetime.date | None:
        text = section.value(s, element)
        day = values.parse_date(text)
        if text and day is None:
            message = f"the date of {label} is no day of the calendar (CCYYMMDD)"
            place = self._place(part, s)
            self._batch.note("DATE_UNREADABLE", "warning", place, message, segment=s, remittance=part.transaction.index)
        return day

    def _provider(self, section: Section, size: int, parts: list[_Part]) -> None:
        """PLB: one row per pair of reason and amount that is not empty."""
        at = np.flatnonzero(section.code[:size] == _PLB)
        for p in parts if len(at) else ():
            t = p.transaction
            for s in at[(at >= p.start) & (at < p.end)].tolist():
                period = self._date(section, s, 2, "PLB02", p)
                for element in range(3, int(section.last[s] - section.first[s]) + 1, 2):
                    reason, amount = section.value(s, element), section.value(s, element + 1)
                    if not reason and not amount:
                        continue
                    cents = values.parse_one(amount, 2)
                    if cents is None:
                        code = "AMOUNT_UNREADABLE" if amount else "AMOUNT_MISSING"
                        message = f"PLB{element + 1:02d} is {'no exact number of cents' if amount else 'empty'}"
                        self._batch.note(code, "error", self._place(p, s), message, segment=s, remittance=t.index)
                        t.readable = False
                    t.provider_adjustments += cents or 0
                    pieces = _split(reason, section.delimiters.component)
                    self._batch.provider_adjustments.append(
                        {
                            "remittance_index": t.index,
                            "provider_id": section.text(s, 1),
                            "fiscal_period_end": period,
                            "reason_code": pieces[0],
                            "reference": pieces[1] if len(pieces) > 1 else None,
                            "amount": cents,
                        }
                    )

    def _close(self, part: _Part, batch: _Batch) -> None:
        """The remittance's row, and whether BPR02 = sum of CLP04 - sum of PLB."""
        t = part.transaction
        for amount in (t.charge, t.paid, t.provider_adjustments):
            if abs(amount) >= _LARGEST:
                raise BadInput("the amounts of a transaction add up to more than 18 digits", code="AMOUNTS_TOO_LARGE")
        difference = None
        if t.payment is not None and t.readable:
            difference = t.payment - (t.paid - t.provider_adjustments)
        if difference:
            message = "BPR02 is not the sum of CLP04 less the sum of PLB amounts"
            place = self._place(part, part.end - 1)
            batch.note("TRANSACTION_UNBALANCED", "error", place, message, part.end - 1, t.index)
        if not t.claims:
            batch.note("NO_CLAIMS", "info", self._place(part, part.end - 1), "no claim (CLP)", part.end - 1, t.index)
        batch.remittances.append(
            {
                **t.header,
                "remittance_index": t.index,
                "file_index": self._file,
                "payment_amount": t.payment,
                "claim_count": t.claims,
                "service_line_count": t.lines,
                "adjustment_count": t.adjustments,
                "charge": t.charge,
                "paid": t.paid,
                "provider_adjustment_amount": t.provider_adjustments,
                "balance_difference": difference,
                "balanced": difference == 0,
                "complete": part.ended == "closed",
            }
        )

    # --- problems -------------------------------------------------------------------------------------------------

    def _where(self) -> str:
        place = f"file {self._file + 1}, interchange {self._interchanges}"
        return place + (f", group {self._group.ordinal}" if self._group else "")

    def _place(self, part: _Part, segment: int, claim: int | None = None, line: int | None = None) -> str:
        """claim: claim_index; line: number in its claim."""
        place = f"file {self._file + 1}, transaction {part.transaction.ordinal}"
        if claim is not None:
            place += f", claim {claim - part.transaction.first_claim + 1}"
        if line is not None:
            place += f", line {line}"
        return f"{place}, segment {part.before + segment - part.start + 1}"


def _tables(batch: _Batch, loops: Loops | None) -> EraTables:
    problems = [
        {
            "code": p.code,
            "severity": p.severity,
            "place": p.place,
            "message": p.message,
            "remittance_index": p.remittance,
            "claim_index": p.claim,
            "line_index": p.line,
        }
        for p in sorted(batch.problems, key=lambda p: p.segment)
    ]
    return EraTables(
        remittances=_rows("remittances", batch.remittances),
        claims=loops.claim_table if loops else _rows("claims", []),
        service_lines=loops.line_table if loops else _rows("service_lines", []),
        adjustments=loops.adjustment_table if loops else _rows("adjustments", []),
        provider_adjustments=_rows("provider_adjustments", batch.provider_adjustments),
        problems=_rows("problems", problems),
    )


def _rows(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    if not rows:
        return empty().table(name)
    filled = {column: arrays.column([r.get(column) for r in rows], kind) for column, kind, _ in arrays.fields(name)}
    return arrays.table(name, filled, len(rows))


def _cut(feed: Feed, current: Delimiters, window: int, limit: int | None) -> _Piece:
    """What of the feed's first `window` bytes can be read now. limit: where other interchanges begin."""
    end = len(feed.data) if limit is None else limit
    closed = end <= window and (limit is not None or feed.ended)
    end = min(end, window)
    body, after = (feed.data[:end], feed.data[end:]) if end < len(feed.data) else (feed.data, b"")
    terminator = bytes([current.terminator])
    cut = body.rfind(terminator) + 1
    rest = body[cut:]
    last = rest.strip(_BLANK)
    mended = closed and _FINAL_IEA.fullmatch(last) is not None and last[3] == current.element
    if mended:
        body, cut, rest = body + terminator, len(body) + 1, b""
    return _Piece(Section(body[:cut], current), rest, after, closed, mended)


def _may_hold_other(section: Section, rest: bytes) -> bool:
    """Whether an interchange with other delimiters may begin in here: it would read as an odd segment, or as no end."""
    if b"ISA" in rest or not section.code.all():
        return True
    component = bytes([section.delimiters.component])
    return any(section.value(s, 16) != component for s in np.flatnonzero(section.code == _ISA)[1:].tolist())


def _header_end(section: Section, start: int) -> int:
    """The first segment from start on that is no part of a transaction's header."""
    for at in range(start, section.size, 64):
        ends = np.flatnonzero(_AFTER_HEADER[section.code[at : at + 64]])
        if len(ends):
            return at + int(ends[0])
    return section.size


def _text_after_interchange(section: Section, rest: bytes) -> int | None:
    """Number of the first segment after an IEA that is no segment; section.size where that is the unfinished rest."""
    for s in np.flatnonzero(section.code == _IEA).tolist():
        if s + 1 < section.size:
            if section.code[s + 1] == 0 and not _SEGMENT_ID.fullmatch(section.value(s + 1, 0)):
                return int(s) + 1
        elif rest.strip(_BLANK):
            return section.size
    return None


def _no_interchange(begun: bool, any_text: bool) -> str:
    if not any_text:
        return "the file is empty; ask the sender to send it again"
    if begun:
        return "the interchange header (ISA) is cut off or malformed, so the file cannot be read as X12"
    return "no X12 interchange header (ISA) in the file; check what was sent under this name"


def isa_date(text: bytes) -> datetime.date | None:
    """ISA09, YYMMDD: years from 70 on are of the last century."""
    text = text.strip()
    if len(text) == 6 and text.isdigit():
        text = (b"19" if text >= b"70" else b"20") + text
    return values.parse_date(text)


def _same_number(a: str | None, b: str | None) -> bool:
    return (a or "").lstrip("0") == (b or "").lstrip("0")


def _split(composite: bytes, component: int) -> list[str | None]:
    separator = bytes([component])
    if separator not in composite and len(composite) > 3 and not composite[2:3].isalnum():
        separator = composite[2:3]  # as in SVC01: another separator than ISA16 declares
    return [piece.decode("utf-8", "replace") or None for piece in composite.split(separator)]
