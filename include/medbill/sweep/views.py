"""What bytes say in every reading somebody could give them: escapes undone, encodings decoded, packed members unpacked.

A reading that is made of another one knows where in the first bytes it came from, about, so that a hit has a place.
"""

from __future__ import annotations

import binascii
import html
import quopri
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from medbill.sweep import containers
from medbill.sweep.canaries import KEPT, squeezed
from medbill.sweep.containers import TooComplex

#: Decodings on top of each other that are looked into.
DEPTH = 7
#: Bytes of all readings: this many times those read, and this many more (a packed member may be much larger).
GROWTH, ALLOWANCE = 12, 1 << 30
#: Stands between pieces that do not belong together: no value reaches across it.
BARRIER = b"\n\xff\xff\n"
_MARGIN = 320  # bytes around an escape: the longest value an escape may stand in


def _set(members: bytes) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, dtype=bool)
    table[list(members)] = True
    return table


_IS_KEPT = _set(KEPT)
_BASE64_LEAST, _IS_BASE64 = 8, _set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_HEX_LEAST, _IS_HEX = 12, _set(b"0123456789abcdef")
_WIDE_LEAST = 6
_READABLE_LEAST, _IS_READABLE = 14, _set(bytes([9, 10, 13, *range(32, 127)]))


def _runs(data: bytes, members: npt.NDArray[np.bool_], least: int) -> list[tuple[int, bytes]]:
    """Every stretch of at least so many bytes that are all members, and where it begins."""
    inside = members[np.frombuffer(data, dtype=np.uint8)].view(np.int8)
    return [(a, data[a:b]) for a, b in _stretches(inside, least)]


def _wide(data: bytes) -> list[tuple[int, bytes]]:
    """Every stretch in which each other byte is zero and the rest can be read: Latin letters in UTF-16, without the zeros.

    What is big-endian is little-endian from its second byte on, but for its last letter.
    """
    found = []
    for first in (0, 1):
        octets = np.frombuffer(data, dtype=np.uint8)[first:]
        half = len(octets) // 2 * 2
        inside = (_IS_READABLE[octets[0:half:2]] & (octets[1:half:2] == 0)).view(np.int8)
        for start, end in _stretches(inside, _WIDE_LEAST):
            found.append((first + 2 * start, data[first + 2 * start : first + 2 * end + 1 : 2]))
    return found


def _stretches(inside: npt.NDArray[np.int8], least: int) -> list[tuple[int, int]]:
    """(begin, end) of every run of at least so many ones."""
    edges = np.flatnonzero(np.diff(inside, prepend=np.int8(0), append=np.int8(0)))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= least
    return list(zip(starts[long].tolist(), ends[long].tolist(), strict=True))


class View:
    """One reading. how: the decodings that gave it, outermost first; guess: whether it may be decoded noise."""

    def __init__(
        self, data: bytes, how: tuple[str, ...] = (), locate: Callable[[int], int] | None = None, *, guess: bool = False
    ) -> None:
        self.data, self.how, self.guess = data, how, guess
        self._locate = locate

    def offset(self, at: int) -> int:
        """Where in the bytes that were read the byte `at` of this reading comes from, about."""
        return self._locate(at) if self._locate else at

    @cached_property
    def squeezed(self) -> bytes:
        return squeezed(self.data)

    @cached_property
    def kept(self) -> npt.NDArray[np.int64]:
        """Where in data each byte of squeezed stands."""
        return np.flatnonzero(_IS_KEPT[np.frombuffer(self.data, dtype=np.uint8)])

    def child(self, data: bytes, how: str, locate: Callable[[int], int], *, guess: bool = False) -> View:
        return View(data, (*self.how, how), lambda at: self.offset(locate(at)), guess=guess)


def views(data: bytes) -> Iterator[View]:
    """All readings of data, each distinct one once. Raises TooComplex where they do not fit their bounds."""
    room = GROWTH * len(data) + ALLOWANCE
    seen = {hash(data)}
    level = [View(data)]
    for depth in range(DEPTH + 1):
        following = []
        for view in level:
            yield view
            if depth == DEPTH:
                continue
            for child in _children(view):
                mark = hash(child.data)
                if not child.data or mark in seen:
                    continue
                room -= len(child.data)
                if room < 0:
                    raise TooComplex
                seen.add(mark)
                following.append(child)
        level = following


_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|[nrtbf\"'/\\])")
_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
_ENTITY = re.compile(rb"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,15});")
_QUOTED = re.compile(rb"=[0-9A-F]{2}|=\r?\n")
_TAG = re.compile(rb"<[A-Za-z/!?][\t\n\r\x20-\x3b=\x3f-\x7e]{0,300}>")
#: Characters that are not seen: no-break space, soft hyphen, zero-width and directional marks, byte order mark.
_UNSEEN = re.compile(rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x8f\x90-\x95\xa8-\xaf]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf")
_SIGNS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


def _children(view: View) -> Iterator[View]:
    data = view.data
    for name, at, content in containers.members(data, strict=not view.how):
        yield view.child(content, name, lambda _, at=at: at)  # type: ignore[misc]
    if b"\0" in data and (found := _wide(data)):
        yield _joined(view, found, "utf-16")
    if b"\xc2" in data or b"\xe2" in data or b"\xef" in data:
        yield from _around(view, _UNSEEN, "unseen characters", lambda part: _UNSEEN.sub(b" ", part))
    text = view
    if view.guess:  # noise but for what can be read in it
        runs = _runs(data, _IS_READABLE, _READABLE_LEAST)
        if not runs:
            return
        text = _joined(view, runs, None)
        data = text.data
    if b"\\" in data:
        yield from _around(text, _ESCAPE, "json", lambda part: _surrogates(_ESCAPE.sub(_unescaped, part)))
    if b"%" in data:
        yield from _around(text, _PERCENT, "url", unquote_to_bytes)
    if b"&" in data:
        yield from _around(text, _ENTITY, "html", _entities)
    if b"=" in data:
        yield from _around(text, _QUOTED, "quoted-printable", quopri.decodestring)
    if b"<" in data:
        yield from _around(text, _TAG, "markup", lambda part: _TAG.sub(b"", part))
    yield from _base64(text)
    yield from _hex(text)


def _joined(view: View, runs: list[tuple[int, bytes]], how: str | None) -> View:
    """Pieces of a view, each with where it stood there, as one."""
    starts, position = [], 0
    for _, piece in runs:
        starts.append(position)
        position += len(piece) + len(BARRIER)

    def locate(at: int) -> int:
        n = max(0, bisect_right(starts, at) - 1)
        return runs[n][0] + at - starts[n]

    data = BARRIER.join(piece for _, piece in runs)
    if how is None:
        return View(data, view.how, lambda at: view.offset(locate(at)))
    return view.child(data, how, locate)


def _around(view: View, pattern: re.Pattern[bytes], how: str, decode: Callable[[bytes], bytes]) -> Iterator[View]:
    """The parts of a view in which the pattern stands, decoded; nothing where that changes nothing."""
    data = view.data
    parts: list[tuple[int, bytes]] = []
    low = high = -1
    for match in pattern.finditer(data):
        a, b = match.span()
        if high < 0 or a - _MARGIN > high:
            if high >= 0:
                parts.append((low, decode(data[low:high])))
            low = max(0, a - _MARGIN)
        high = b + _MARGIN
    if high >= 0:
        parts.append((low, decode(data[low:high])))
        yield _joined(view, parts, how)


def _unescaped(match: re.Match[bytes]) -> bytes:
    body = match[0][1:]
    if body[:1] in b"uUx" and len(body) > 1:
        code = int(body[1:], 16)
        if body[:1] == b"x":
            return bytes([code])
        return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b""
    return bytes([int(body, 8) & 0xFF]) if body.isdigit() else _SIGNS.get(body, body)


_SURROGATES = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def _surrogates(part: bytes) -> bytes:
    """Two escapes of one character beyond the first plane as that character."""

    def one(match: re.Match[bytes]) -> bytes:
        pair = match[0].decode("utf-8", "surrogatepass")
        return pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()

    return _SURROGATES.sub(one, part)


def _entities(part: bytes) -> bytes:
    return html.unescape(part.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogatepass")


def _base64(view: View) -> Iterator[View]:
    """Every run of base64 or base64url, also broken over lines, from each of its four possible beginnings."""
    flat = view.data.translate(None, b"\r\n")
    runs = _runs(flat, _IS_BASE64, _BASE64_LEAST)
    if not runs:
        return
    joined = b"AAAA".join(run for _, run in runs).translate(_TO_BASE64) + b"AAAA"

    def locate(first: int, at: int) -> int:
        kept = np.flatnonzero(~np.isin(np.frombuffer(view.data, dtype=np.uint8), (10, 13)))
        return int(kept[_place(runs, 4, first + at * 4 // 3)])

    for first in range(4):
        size = (len(joined) - first) // 4 * 4
        decoded = binascii.a2b_base64(memoryview(joined)[first : first + size])
        yield view.child(decoded, "base64", partial(locate, first), guess=True)


def _hex(view: View) -> Iterator[View]:
    """Every run of hexadecimal figures, also with separators, from both of its possible beginnings."""
    runs = _runs(view.squeezed, _IS_HEX, _HEX_LEAST)
    if not runs:
        return
    joined = b"00".join(run for _, run in runs)

    def locate(first: int, at: int) -> int:
        return int(view.kept[_place(runs, 2, first + at * 2)])

    for first in range(2):
        size = (len(joined) - first) // 2 * 2
        decoded = binascii.unhexlify(joined[first : first + size])
        yield view.child(decoded, "hex", partial(locate, first), guess=True)


def _place(runs: list[tuple[int, bytes]], between: int, wanted: int) -> int:
    """Where byte `wanted` of runs joined with so many bytes between them stands in what they are runs of."""
    position = 0
    for start, run in runs:
        if wanted < position + len(run) + between:
            return start + max(0, min(len(run) - 1, wanted - position))
        position += len(run) + between
    return runs[-1][0]
