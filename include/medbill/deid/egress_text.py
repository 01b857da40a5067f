"""What an outgoing payload says, in every reading somebody could give it: fields, escapes, encodings, look-alike letters.

`texts` turns a payload into text, `layers` adds what decoding gives, `Reading` cuts one text into pieces for the search.
Whatever cannot be read within bounds raises TooComplex: it is not let out.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any
from uuid import UUID

from medbill.deid.text.lexicon import WORD, flags
from medbill.deid.text.view import View
from medbill.deid.vault import is_token

#: Between two texts that do not belong together: no value reaches across it.
BARRIER = "\n|\n"
#: Decodings on top of each other; a payload with more is refused.
DEPTH = 4
#: Characters of all readings of a payload: this many times its own, and this many more.
GROWTH, ALLOWANCE = 6, 200_000
MOST = 8_000_000
_NESTED = 60
_SHORT_FIELD = 80
_NUMBER = re.compile(r"-?(\d{1,9})(?:\.\d+)?")
#: Names of fields whose numbers (not texts) are amounts or counts.
_AMOUNT_FIELD = re.compile(
    r"(?:^|[\W_])(?:cents|amounts?|charged?|charges|paid|allowed|balance|billed|totals?|counts?|bytes|rows|units|price|"
    r"deductible|copay|coinsurance|adjusted|recoverable|underpaid|underpayment|expected)(?:$|[\W_])",
    re.I,
)
_NO_NAME = re.compile(r"[\d\[{|\n]")
_MARGIN = 80  # around an escape: the longest value an escape may stand in


class TooComplex(Exception):
    """The payload cannot be read in bounds. Holds nothing of it."""


def texts(payload: object) -> list[str]:
    """The payload as texts: of JSON every field with its name, and the short fields of an object side by side."""
    out: list[str] = []
    _walk(payload, None, 0, out)
    if sum(map(len, out)) > MOST:
        raise TooComplex
    return out


def _walk(value: object, name: str | None, depth: int, out: list[str]) -> str | None:
    """Adds a value's texts to out; the short text it is, if it is one."""
    if depth > _NESTED:
        raise TooComplex
    if value is None or isinstance(value, bool):
        if name:
            out.append(name)
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        value = _decoded(bytes(value))
    if isinstance(value, _Object):
        _fields(value.pairs, depth, out, name)
        return None
    if isinstance(value, dict):
        _fields(list(value.items()), depth, out, name)
        return None
    if isinstance(value, list | tuple | set | frozenset):
        _fields([(None, one) for one in value], depth, out, name)
        return None
    if isinstance(value, int | float | Decimal) and name and _AMOUNT_FIELD.search(name):
        number = _NUMBER.fullmatch(str(value))
        if number is not None:
            out.append(f"{name}: ${number[1]}")  # as an amount: cents and counts are no ids, however long
            return None
    if isinstance(value, int | float | Decimal | date | time | UUID):
        value = str(value)
    if not isinstance(value, str):
        raise TooComplex
    if len(value) > MOST:
        raise TooComplex
    parsed = _json(value)
    if parsed is not None:
        _walk(parsed, name, depth + 1, out)
        return None
    out.append(f"{name}: {value}" if name else value)
    return value if len(value) <= _SHORT_FIELD else None


def _fields(pairs: list[tuple[Any, object]], depth: int, out: list[str], name: str | None) -> None:
    """The fields of an object, then those of them that are short side by side: a name may stand in two."""
    if name:
        out.append(name)
    short = [_walk(value, None if key is None else _HUMP.sub(" ", str(key)), depth + 1, out) for key, value in pairs]
    beside = [text for text in short if text and not _NO_NAME.search(text)]
    if len(beside) > 1:
        out.append(" ; ".join(beside))


class _Object:
    """A JSON object with all its members, also those of the same name."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def _json(text: str) -> object | None:
    """The object or list a text is the JSON of, None where it is none."""
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("{", "[") or not start:
        return None
    try:
        return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_Object)  # type: ignore[no-any-return]
    except RecursionError:
        raise TooComplex from None
    except ValueError:
        return None


def _decoded(data: bytes) -> str:
    if len(data) > MOST:
        raise TooComplex
    if data.startswith(_OPAQUE):
        raise TooComplex
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    codec = "utf-8-sig"
    if marked:
        codec = "utf-16"
    elif b"\0" in data:
        codec = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        if _binary(data):
            raise TooComplex from None
        return data.decode("cp1252", "replace")
    if (
        codec.startswith("utf-16")
        and not marked
        and sum(character < "\u0250" for character in text) * 4 < len(text) * 3
    ):
        raise TooComplex
    return text


def layers(text: str) -> Iterator[tuple[str, int]]:
    """The text, then what its escapes and encodings decode to, and so on; each distinct reading once.

    Each without its well-formed tokens, and with the number of damaged ones in it.
    """
    room = GROWTH * len(text) + ALLOWANCE
    seen = {text}
    level = [text]
    for depth in range(DEPTH + 1):
        children = []
        for one in level:
            plain, damaged = without_tokens(one)
            yield plain, damaged
            for child in _children(plain):
                if child in seen:
                    continue
                room -= len(child)
                if depth == DEPTH or room < 0:
                    raise TooComplex
                seen.add(child)
                children.append(child)
        level = children


_TOKENS = re.compile(r"\[[A-Z][A-Z_]{1,30}_[0-9A-Z]{17}\]")
_TOKEN_LIKE = re.compile(
    r"\[\s?[A-Za-z][A-Za-z_]{1,30}[_ -]\s?([0-9A-Za-z]{10,24})(?![0-9A-Za-z])|"
    r"(?<![0-9A-Za-z_\[;\\])[A-Z][A-Z_]{1,30}_([0-9A-Z]{17})(?![0-9A-Za-z_])"
)


def without_tokens(text: str) -> tuple[str, int]:
    """The text with "|" for every well-formed token, and how many damaged ones are left in it."""
    if "_" not in text and "[" not in text:
        return text, 0
    plain = _TOKENS.sub(lambda m: "|" if is_token(m[0]) else m[0], text)
    damaged = 0
    for match in _TOKEN_LIKE.finditer(plain):
        body = match[1] or match[2]
        figures = sum(map(str.isdigit, body))
        if match[2] is not None:  # its brackets are gone
            damaged += is_token(f"[{match[0]}]") or figures >= 3
        elif figures >= 2 or (len(body) == 17 and not flags(body) & WORD):
            damaged += 1
    return plain, damaged


_ESCAPE = re.compile(r"\\(?:u\{[0-9a-fA-F]{1,6}\}|[uU][0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|[nrt\"'/\\])")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});?")
_QUOTED = re.compile(r"(?:=[0-9A-Fa-f]{2})+|=\r?\n")
_TAG = re.compile(r"<[A-Za-z/!?][^<>]{0,300}>")
_BASE64 = re.compile(  # the figures of a percent escape are no beginning of it
    r"%[0-9A-Fa-f]{2}|[A-Za-z0-9+/_-]{40,}(?:\r?\n[A-Za-z0-9+/_-]{4,})+|[A-Za-z0-9+/_-]{6,}"
)
_HEX = re.compile(
    r"(?:[0-9A-Fa-f]{2}){4,}|[0-9A-Fa-f]{2}(?:[ :.,-]{1,2}(?:0x)?[0-9A-Fa-f]{2}(?![0-9A-Za-z])){3,}", re.ASCII
)
_MARKS = re.compile(r"[+/_-]")
_ALL_HEX = re.compile(r"[0-9A-Fa-f]+")
_READABLE = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]{4,}")
#: Decoding what is none of it gives four characters that can be read now and then, but seldom of one sort.
_FOUR = re.compile(rb"[A-Za-z]{4}|\d{4}|(?:[0-9A-Za-z][ -]?){6}")
_WORDLY = re.compile(r"[^\W\d_]{4}|\d{4}|(?:[^\W_][ -]?){6}")
_PLAIN = re.compile(rb"[\x09\x0a\x0d\x20-\x7e]")
#: How files begin whose content is compressed or a picture.
_OPAQUE = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"II*\0", b"MM\0*")
_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"x\x9c", b"x\xda", b"x\x01", b"x^")
_OPAQUE_CHARACTERS = 24  # of base64, before its first bytes are taken for the magic of a file
_BLOB = 512  # characters of base64 that are no text: more than any hash or key has
_SIGNS = {"n": "\n", "r": "\r", "t": "\t"}


def _children(text: str) -> Iterator[str]:
    if "\\" in text:
        yield from _around(text, _ESCAPE, lambda part: _joined_surrogates(_ESCAPE.sub(_unescaped, part)))
    if "%" in text:
        yield from _around(text, _PERCENT, lambda part: _PERCENT.sub(lambda m: _octets(m[0].replace("%", "")), part))
    if "&" in text:
        yield from _around(text, _ENTITY, html.unescape)
    if "=" in text:
        yield from _around(text, _QUOTED, _quoted_printable)
    if "<" in text:
        yield from _around(text, _TAG, lambda part: _TAG.sub("", part))
    found: list[str] = []
    for run in dict.fromkeys(_BASE64.findall(text)):
        if run[0] != "%" and not _is_words(run):
            found += _from_base64(run)
    for run in dict.fromkeys(_HEX.findall(text)):
        digits = re.sub(r"0x|[^0-9A-Fa-f]", "", run)
        readings = [bytes.fromhex(digits[shift : shift + (len(digits) - shift) // 2 * 2]) for shift in (0, 1, 2)]
        if len(digits) >= _BLOB and len(set(digits)) > 8 and all(map(_binary, readings)):
            raise TooComplex
        found += [text for data in readings for text in _readable(data)]
    if found:
        yield BARRIER.join(dict.fromkeys(found))


def _is_words(run: str) -> bool:
    """Whether what could be base64 is English words, joined as in names of fields and paths, or a token."""
    if len(run) > 80:
        return False
    if run[-18:-17] == "_" and is_token(f"[KIND_{run[-17:]}]"):  # a token whose brackets are escaped
        return True
    return all(flags(part) & WORD for part in _MARKS.split(run) if part)


def _around(text: str, pattern: re.Pattern[str], decode: Callable[[str], str]) -> Iterator[str]:
    """The parts of a text in which the pattern stands, decoded; nothing where that changes nothing."""
    parts: list[str] = []
    low = high = -1
    for match in pattern.finditer(text):
        a, b = match.span()
        if high >= 0 and a - _MARGIN <= high:
            high = b + _MARGIN
            continue
        if high >= 0:
            parts.append(text[low:high])
        low, high = max(0, a - _MARGIN), b + _MARGIN
    if high >= 0:
        parts.append(text[low:high])
        decoded = [decode(part) for part in parts]
        if decoded != parts:
            yield BARRIER.join(decoded)


def _unescaped(match: re.Match[str]) -> str:
    body = match[0][1:]
    if body[0] in "uUx":
        code = int(body[1:].strip("{}"), 16)
        return chr(code) if code < 0x110000 else ""
    return chr(int(body, 8)) if body[0].isdigit() else _SIGNS.get(body, body)


def _joined_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _octets(digits: str) -> str:
    data = bytes.fromhex(digits)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _quoted_printable(part: str) -> str:
    return _QUOTED.sub(lambda m: "" if m[0][1] in "\r\n" else _octets(m[0].replace("=", "")), part)


def _from_base64(run: str) -> list[str]:
    characters = re.sub(r"[\r\n]", "", run).replace("-", "+").replace("_", "/")
    whole = _base64(characters)
    if len(characters) >= _OPAQUE_CHARACTERS:
        if whole.startswith((_GZIP, *_ZLIB)):
            return [_inflated(whole)]
        if whole.startswith(_OPAQUE):
            raise TooComplex
    found = _readable(whole)
    if len(found) == 1 and len(found[0]) >= len(characters) * 3 // 4 - 3:
        return found
    if len(characters) >= _BLOB and len(set(characters)) > 8 and _binary(whole) and not _ALL_HEX.fullmatch(characters):
        raise TooComplex
    for shift in (1, 2, 3):  # glued to what stands before it
        found += _readable(_base64(characters[shift:]))
    return found


def _base64(characters: str) -> bytes:
    rest = len(characters) % 4
    padded = characters[:-1] if rest == 1 else characters + "=" * (-rest % 4)
    try:
        return base64.b64decode(padded)
    except binascii.Error:
        return b""


def _inflated(data: bytes) -> str:
    """Compressed text. Raises TooComplex where it is damaged or grows beyond bounds."""
    engine = zlib.decompressobj(wbits=47)
    try:
        plain = engine.decompress(data, ALLOWANCE)
    except zlib.error:
        raise TooComplex from None
    if engine.unconsumed_tail or not engine.eof:
        raise TooComplex
    return _decoded(plain)


def _readable(data: bytes) -> list[str]:
    """Runs of four or more characters in bytes that may be text."""
    if data.count(0) * 3 > len(data):  # UTF-16
        data = data.replace(b"\0", b"")
    try:
        return _READABLE.findall(data.decode())
    except UnicodeDecodeError:
        pass
    if _FOUR.search(data) is None:
        return []
    text = data.decode("utf-8" if _binary(data) else "cp1252", "replace")
    return [run for run in _READABLE.findall(text) if _WORDLY.search(run)]


def _binary(data: bytes) -> bool:
    return len(_PLAIN.findall(data)) * 100 < len(data) * 75


_RUN = re.compile(r"[^\W_]+")
_PARTS = re.compile(r"\d+|[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: Amounts: no piece of an id, and no value reaches across one. Six figures before the point: more may be an id.
_AMOUNT = re.compile(
    r"\$\s?\d[\d,]*(?:\.\d{1,2})?(?![\d.]*\d)|(?<![\d.,])\d{1,3}(?:,\d{3})+(?:\.\d\d)?(?![\d.]*\d)|"
    r"(?<![\d.])\d{1,6}\.\d\d(?!\d|\.\d)"
)
#: How two neighbouring pieces hang together.
APART, TIGHT, BROKEN, LOOSE = range(4)
_LOOSE_MOST = 8
_FIGURES = frozenset(" ().-/+>\n\r\t")


def folded(text: str) -> str:
    """Look-alike letters and accents as plain letters, invisible characters gone, case as it was."""
    return View(text).text


def words(text: str) -> list[str]:
    """The words of a folded text, for the index: runs of letters and figures, lower case."""
    return [run.casefold() for run in _RUN.findall(text)]


class Reading:
    """One folded text, cut into pieces: words, and within words where letters meet figures or a hump begins.

    line: all pieces in lower case without anything between them; starts and ends: where each stands in it; places: where
    it stands in text; links: how it hangs together with the next.
    """

    __slots__ = ("ends", "line", "links", "places", "starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text = _AMOUNT.sub("|", text)
        self.places: list[tuple[int, int]] = []
        places = self.places
        for match in _RUN.finditer(text):
            run = match[0]
            if run.isdecimal() or (run.isalpha() and (run.islower() or run.isupper() or run.istitle())):
                places.append(match.span())
            elif len(run) < 4:
                at = match.start()
                places += [(at + a, at + b) for a, b in _short_cut(run)]
            else:
                places += _cut(run, match.start())
        starts, ends, links, parts = [], [], [], []
        position = 0
        last = -1
        low = text.casefold()
        same = len(low) == len(text)
        for a, b in places:
            if last >= 0:
                links.append(LOOSE if a - last == 1 and text[last] == " " else self._link(last, a))
            piece = low[a:b] if same else text[a:b].casefold()
            parts.append(piece)
            starts.append(position)
            position += len(piece)
            ends.append(position)
            last = b
        links.append(APART)
        self.starts, self.ends, self.links = starts, ends, links
        self.line = "".join(parts)

    def _link(self, end: int, start: int) -> int:
        if start == end:
            return TIGHT
        gap = self.text[end:start]
        if "|" in gap or len(gap) > _LOOSE_MOST:
            return APART
        if "\n" in gap or "\r" in gap:
            return BROKEN
        return TIGHT if len(gap) == 1 and gap in "-'._/" else LOOSE

    def piece(self, n: int) -> str:
        return self.line[self.starts[n] : self.ends[n]]

    def numeric_gaps(self, first: int, last: int) -> bool:
        """Whether between the pieces first..last stands only what people put between the figures of one number."""
        return all(
            _FIGURES.issuperset(self.text[self.places[n][1] : self.places[n + 1][0]]) for n in range(first, last)
        )


@lru_cache(maxsize=4096)
def _short_cut(run: str) -> list[tuple[int, int]]:
    """As _cut, for the few short runs that percent escapes and codes are full of."""
    return _cut(run, 0)


def _cut(run: str, at: int) -> list[tuple[int, int]]:
    """Where the parts of a word stand that has letters and figures, or capitals inside."""
    parts = _PARTS.findall(run)
    if len(parts) > 2:  # a hash or an id of many parts: it is one piece
        return [(at, at + len(run))]
    out = []
    for part in parts:
        end = at + len(part)
        if part.islower() or part.isupper() or part.istitle() or part.isdecimal():
            out.append((at, end))
        else:
            edges = [at, *(at + m.start() for m in _HUMP.finditer(part)), end]
            out += pairwise(edges)
        at = end
    return out
