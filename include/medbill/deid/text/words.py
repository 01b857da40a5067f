"""The words of a text that may belong to names: those with a capital, in runs, with what the lexicon knows of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from medbill.deid.text.lexicon import ODD, flags, word_set

_WORD = re.compile(r"(?<![\w])[^\W\d_a-z](?:[^\W_]|['\-](?=[^\W\d_]))*'?\.?")
_GAP = re.compile(r"[ \t]{0,3}(?:-?\r?\n[ \t>]{0,4})?[ \t]{0,3}")


#: "HFrEF", "mRNA": capitals inside a word that neither a name has nor a firm ("MedStar").
_ODD_CASE = re.compile(
    r"(?!(?:Mc|Mac|De|Di|Du|Da|La|Le|Lo|Van|Von|Fitz|O'|D'|L'|St)[A-Z]|[A-Z][a-z]{2,}[A-Z][a-z]{2,}$)[A-Za-z]*[a-z][A-Z][A-Za-z]*"
)


class Word(NamedTuple):
    """text without its final full stop; dotted: whether one follows; flags: of the lexicon; first: opens a sentence."""

    text: str
    start: int
    end: int
    dotted: bool
    flags: int
    first: bool
    upper: bool


def capitalised(text: str) -> list[list[Word]]:
    """Runs of words with a capital, nothing but blanks or one line break between the words of a run."""
    runs: list[list[Word]] = []
    last_end = -1
    for match in _WORD.finditer(text):
        raw = match[0]
        if not raw[0].isupper():
            continue
        start, end = match.span()
        dotted = raw[-1] == "."
        word = raw[:-1] if dotted else raw
        if word.endswith("'"):
            word = word[:-1]
        joined = bool(runs) and last_end >= 0 and _GAP.fullmatch(text, last_end, start) is not None
        first = _opens_sentence(text, start)
        if joined and first and _title_dot(runs[-1][-1]):
            first = False
        known = flags(word)
        if known == 0 and _ODD_CASE.fullmatch(word):
            known = ODD
        entry = Word(word, start, start + len(word), dotted, known, first, word.isupper() and len(word) > 1)
        if joined and not first:
            runs[-1].append(entry)
        else:
            runs.append([entry])
        last_end = end
    return runs


def _title_dot(word: Word) -> bool:
    return word.dotted and (len(word.text) == 1 or word.text.lower() in TITLES or word.text.lower() in ABBREVIATED)


def _opens_sentence(text: str, start: int) -> bool:
    k = start - 1
    while k >= 0 and text[k] in " \t\"'(":
        k -= 1
    if k >= 0 and text[k] == "\n":  # a line break opens a sentence only after a full stop, or with another one
        while k >= 0 and text[k] in "\r\n \t":
            k -= 1
        return k < 0 or text[k] in ".!?:;>|*" or "\n" in text[k + 1 : start].replace("\n", "", 1)
    return k < 0 or text[k] in ".!?:;>|*"


TITLES = word_set("""
dr mr mrs ms miss prof doctor doc nurse rev fr sr sra dra srta sgt capt lt col maj officer judge atty attorney
hon drs mister missus madam sir dame pastor rabbi imam sister
""") - {"sr", "fr", "sister"}
ABBREVIATED = word_set("st med ctr ft mt ste dr univ hosp jr sr")
