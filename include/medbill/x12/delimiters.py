"""Where an interchange begins and which characters delimit it (ASC X12.5: the ISA segment has fixed widths)."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: ISA with every element at its fixed width; group 1 is the element separator, 2 ISA11, 3 ISA16, 4 the terminator.
_STRICT = re.compile(
    rb"ISA([^A-Za-z0-9\s])..\1.{10}\1..\1.{10}\1..\1.{15}\1..\1.{15}\1.{6}\1.{4}\1(.)\1.{5}\1.{9}\1.\1.\1(.)(.)",
    re.DOTALL,
)
#: How far a malformed header may reach.
LOOSE_BYTES = 400
_SPACE = b" \t\r\n\0"


@dataclass(frozen=True, slots=True)
class Delimiters:
    """element, component, terminator: one byte each. exact: the ISA had its fixed widths."""

    element: int
    component: int
    terminator: int
    exact: bool = True


def find(data: bytes, *, whole: bool = True) -> tuple[int, Delimiters | None] | None:
    """The first interchange header: its position and delimiters; None where there is none.

    An ISA of wrong widths counts when its separators and the segment after it can be made out. whole: no bytes follow;
    otherwise what may become a header with more bytes is given without delimiters.
    """
    position = data.find(b"ISA")
    while position >= 0:
        undecided = not whole and len(data) - position <= LOOSE_BYTES
        strict = _STRICT.match(data, position)
        found = _strict(data, strict) if strict and (whole or len(data) - strict.end() >= 16) else None
        if found is None and undecided:
            return position, None
        found = found or _loose(data, position)
        if found is not None:
            return position, found
        position = data.find(b"ISA", position + 3)
    return None


def next_other(data: bytes, current: Delimiters) -> int | None:
    """Position of the next header (not at 0) whose delimiters differ from the current ones."""
    for match in _STRICT.finditer(data, 1):
        found = _strict(data, match)
        if found is not None and (found.element, found.component, found.terminator) != (
            current.element,
            current.component,
            current.terminator,
        ):
            return match.start()
    return None


def _strict(data: bytes, match: re.Match[bytes]) -> Delimiters | None:
    element, component, terminator = match[1][0], match[3][0], match[4][0]
    if bytes([terminator]).isalnum() or terminator in (element, component) or component == element:
        return None
    following = data[match.end() : match.end() + 16].lstrip(_SPACE + bytes([terminator]))
    if len(following) >= 4 and not _segment_start(following, element):
        return None
    return Delimiters(element, component, terminator)


def _segment_start(data: bytes, element: int) -> bool:
    separator = re.escape(bytes([element]))
    return re.match(rb"[A-Z][A-Z0-9]{1,2}" + separator, data) is not None


def _loose(data: bytes, position: int) -> Delimiters | None:
    head = data[position : position + LOOSE_BYTES]
    if len(head) < 5 or bytes(head[3:4]).isalnum() or head[3:4] in (b" ", b"\r", b"\n", b"\t", b"\0"):
        return None
    separator = head[3:4]
    at = 3
    for _ in range(15):
        at = head.find(separator, at + 1)
        if at < 0:
            return None
    tail = head[at + 1 :]
    following = re.search(rb"(?:GS|TA1|IEA)" + re.escape(separator), tail)
    if following is None or following.start() == 0:
        return None
    between = tail[: following.start()]
    marks = between.strip(_SPACE)
    newline = between[-1] if between[-1:] in (b"\r", b"\n") else None
    if len(marks) >= 2:
        component, terminator = marks[0], marks[-1]
    elif len(marks) == 1 and newline is not None and marks not in (b"~", b"'"):
        component, terminator = marks[0], newline
    elif len(marks) == 1:
        component, terminator = ord(":"), marks[0]
    elif newline is not None:
        component, terminator = ord(":"), newline
    else:
        return None
    if bytes([terminator]).isalnum() or separator[0] in (component, terminator) or component == terminator:
        return None
    return Delimiters(separator[0], component, terminator, exact=False)
