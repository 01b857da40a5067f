"""Rows of a member as text, whatever it is: comma or tab separated (any encoding CMS uses), or a spreadsheet.

Headers are found, not assumed: preambles vary in length, and a header may be wrapped over several rows or have newlines
in its cells.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from xml.parsers import expat

from medbill.errors import BadInput
from medbill.rules.reference import archive
from medbill.rules.reference.archive import Member

_HEADER_WITHIN = 60  # rows
_WRAPPED_OVER = 8
_DATES = (
    (re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[ T].*)?"), (1, 2, 3)),
    (re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: .*)?"), (3, 1, 2)),
)


@dataclass(frozen=True)
class Grid:
    """Data rows under a found header. columns: wanted name -> index; a name that is optional may be absent."""

    columns: Mapping[str, int]
    header: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]

    def get(self, row: Sequence[str], name: str) -> str:
        """The trimmed cell, empty where row or file does not have it."""
        at = self.columns.get(name, -1)
        return row[at].strip() if 0 <= at < len(row) else ""


def text(data: bytes) -> str:
    """UTF-8 where it is that, else Windows-1252 (a superset of what CMS calls latin-1)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def rows(member: Member) -> Iterator[tuple[int, list[str]]]:
    """(row number from 1, cells). A row number counts records, a record with newlines in its cells is one."""
    data = member.read()
    if member.name.lower().endswith((".xlsx", ".xlsm")) or data[:4] == b"PK\x03\x04":
        yield from _sheet(data, member.part)
        return
    content = text(data)
    del data
    head = content[:20_000]
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t" if head.count("\t") > head.count(",") else ",")
    try:
        yield from enumerate(reader, 1)
    except csv.Error:
        raise malformed(member, reader.line_num) from None


def find(member: Member, wanted: Mapping[str, str], optional: Mapping[str, str] | None = None) -> Grid:
    """The grid under the header that has a column for each of wanted (name -> regex its normalised title must end with).

    Raises BadInput REFERENCE_WRONG_KIND where there is no such header.
    """
    source = rows(member)
    seen: list[list[str]] = []
    for number, row in source:
        if number > _HEADER_WITHIN:
            break
        seen.append(row)
        for span in range(1, min(_WRAPPED_OVER, len(seen)) + 1):
            header = _joined(seen[-span:])
            columns = _columns(header, wanted)
            if len(columns) == len(wanted):
                return Grid(columns | _columns(header, optional or {}), header, source)
    raise BadInput(
        f"file {member.part} has no header of this kind; check --kind and that it is the official file",
        code="REFERENCE_WRONG_KIND",
    )


def malformed(member: Member, row: int, what: str = "cannot be read") -> BadInput:
    return BadInput(
        f"file {member.part}, row {row} {what}; it is damaged or its layout is new", code="REFERENCE_MALFORMED"
    )


def day(value: str, member: Member, row: int) -> date | None:
    """YYYYMMDD, YYYY-MM-DD (with or without a time), M/D/YYYY or YYYYDDD; None where empty, * or zeros.

    Raises BadInput REFERENCE_MALFORMED for anything else.
    """
    value = value.strip()
    if not value or value == "*" or not value.strip("0"):
        return None
    try:
        for pattern, order in _DATES:
            if found := pattern.fullmatch(value):
                year, month, dom = (int(found[i]) for i in order)
                return date(year, month, dom)
        if re.fullmatch(r"\d{7}(?:\.0)?", value):
            return date.fromordinal(date(int(value[:4]), 1, 1).toordinal() + int(value[4:7]) - 1)
    except ValueError:
        pass
    raise malformed(member, row, "has an unreadable date")


def normalised(title: str) -> str:
    return re.sub(r"[\s_]+", " ", title).strip().upper()


def _joined(found: list[list[str]]) -> tuple[str, ...]:
    width = max((len(r) for r in found), default=0)
    return tuple(normalised(" ".join(r[i] for r in found if i < len(r))) for i in range(width))


def _columns(header: Sequence[str], wanted: Mapping[str, str]) -> dict[str, int]:
    found = {}
    for name, pattern in wanted.items():
        match = next((i for i, title in enumerate(header) if re.search(rf"(?:{pattern})\W*$", title)), None)
        if match is not None:
            found[name] = match
    return found


# --- spreadsheets -------------------------------------------------------------------------------------------------


def _sheet(data: bytes, part: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of the first worksheet (ECMA-376 part 1, 18.3): shared and inline strings, numbers as written."""
    broken = BadInput(f"file {part} is a damaged spreadsheet; download it again", code="ARCHIVE_BROKEN")
    try:
        book = zipfile.ZipFile(io.BytesIO(data))
        entries = {e.filename: e for e in book.infolist()}
        if sum(e.file_size for e in entries.values()) > archive.MAX_MEMBER:
            raise BadInput(f"file {part} would inflate to more than any official release", code="ARCHIVE_TOO_LARGE")
        sheet = min((n for n in entries if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n)), key=_number, default=None)
        if sheet is None:
            raise broken
        shared: list[str] = []
        if "xl/sharedStrings.xml" in entries:
            shared = _Strings().parse(book.read("xl/sharedStrings.xml"))
        found = _Rows(shared).parse(book.read(sheet))
    except (zipfile.BadZipFile, expat.ExpatError, ValueError, IndexError, OSError, EOFError):
        raise broken from None
    yield from found


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


class _Xml:
    """An expat parser that refuses document types, and with them entities of any kind."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = lambda name, attributes: self.start(name.rpartition(" ")[2], attributes)
        self._parser.EndElementHandler = lambda name: self.end(name.rpartition(" ")[2])
        self._parser.CharacterDataHandler = self.characters

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("document types are refused")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        raise ValueError(name)

    def end(self, name: str) -> None:
        raise ValueError(name)

    def characters(self, data: str) -> None:
        raise ValueError(data)


class _Strings(_Xml):
    def parse(self, data: bytes) -> list[str]:
        self._found: list[str] = []
        self._text: list[str] | None = None
        self._in_text = self._phonetic = False
        self._parser.Parse(data, True)
        return self._found

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "si":
            self._text = []
        elif name == "rPh":
            self._phonetic = True
        elif name == "t":
            self._in_text = not self._phonetic

    def end(self, name: str) -> None:
        if name == "si":
            self._found.append("".join(self._text or []))
            self._text = None
        elif name == "rPh":
            self._phonetic = False
        elif name == "t":
            self._in_text = False

    def characters(self, data: str) -> None:
        if self._in_text and self._text is not None:
            self._text.append(data)


class _Rows(_Xml):
    def __init__(self, shared: list[str]) -> None:
        super().__init__()
        self._shared = shared

    def parse(self, data: bytes) -> list[tuple[int, list[str]]]:
        self._found: list[tuple[int, list[str]]] = []
        self._row: list[str] = []
        self._number = 0
        self._column = 0
        self._kind = ""
        self._value: list[str] = []
        self._reading = False
        self._parser.Parse(data, True)
        return self._found

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "row":
            self._number = int(attributes.get("r", self._number + 1))
            self._row = []
        elif name == "c":
            letters = re.match(r"[A-Z]{1,3}", attributes.get("r", ""))
            self._column = _column(letters[0]) if letters else len(self._row)
            self._kind, self._value = attributes.get("t", "n"), []
        elif name in ("v", "t"):
            self._reading = True

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._reading = False
        elif name == "c":
            value = "".join(self._value)
            if self._kind == "s" and value:
                value = self._shared[int(value)]
            self._row.extend([""] * (self._column + 1 - len(self._row)))
            self._row[self._column] = value
        elif name == "row":
            self._found.append((self._number, self._row))

    def characters(self, data: str) -> None:
        if self._reading:
            self._value.append(data)


def _column(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - 64
    return index - 1
