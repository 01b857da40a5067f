"""The text as the detectors read it: look-alike letters as the ones they imitate, invisible characters gone."""

from __future__ import annotations

import unicodedata
from array import array
from functools import lru_cache

import regex

_STRANGE = regex.compile(r"[^\x09\x0a\x0d\x20-\x7e]")
#: Letters that look like Latin ones (Unicode confusables, the common ones); accents are handled by decomposition.
_LOOKALIKES = dict(
    zip(
        "\u0410\u0412\u0415\u0405\u0417\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0430\u0435"
        "\u0441\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0391\u0392\u0395\u0396\u0397\u0399"
        "\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03bf\u03b1\u03b5\u03b9\u03c1\u03c4\u03c5\u03bd\u03ba\u0251\u0261\u0131\u2113",
        "ABES3IJKMHOPCTYXaecopxyijshdqwABEZHIKMNOPTYXoaeiptuvkagil",
        strict=True,
    )
)
_PUNCTUATION = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"), **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"), **dict.fromkeys("\u2044\u2215", "/"),
    "\u2236": ":", "\u2024": ".", **dict.fromkeys("\u2028\u2029\x85\x0b\x0c", "\n"), "\x7f": "", "\xad": "",
    "\xdf": "ss", "\xe6": "ae", "\xc6": "AE", "\xf8": "o", "\xd8": "O", "\u0111": "d", "\u0110": "D", "\u0142": "l",
    "\u0141": "L",
}  # fmt: skip


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    known = _PUNCTUATION.get(character, _LOOKALIKES.get(character))
    if known is not None:
        return known
    category = unicodedata.category(character)
    if category in ("Cf", "Cc", "Mn", "Me"):
        return ""
    if category == "Cs":  # a lone surrogate: not text, but it keeps its place
        return "?"
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.digit(character, 0))
    decomposed = unicodedata.normalize("NFKD", character)
    kept = "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Me"))
    return "".join(_LOOKALIKES.get(c, c) for c in kept) or " "


class View:
    """text: what is searched; original: what was given. Offsets of the view are turned back with to_original()."""

    __slots__ = ("_map", "original", "text")

    def __init__(self, original: str) -> None:
        self.original = original
        self._map: array[int] | None = None
        if original.isascii() and _STRANGE.search(original) is None:
            self.text = original
            return
        pieces: list[str] = []
        index = array("q")
        same = True
        position = 0
        for match in _STRANGE.finditer(original):
            at = match.start()
            plain = _plain(original[at])
            pieces += (original[position:at], plain)
            index.extend(range(position, at))
            index.extend([at] * len(plain))
            same = same and len(plain) == 1
            position = at + 1
        pieces.append(original[position:])
        self.text = "".join(pieces)
        if not same:
            index.extend(range(position, len(original)))
            self._map = index

    @property
    def same(self) -> bool:
        """Whether offsets are those of the original."""
        return self._map is None

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """Where text[start:end] (not empty) stands in the original."""
        if self._map is None:
            return start, end
        return self._map[start], self._map[end - 1] + 1
