"""Search of published tables for identifiers of the originals: the last look before anything is published.

The rule. Every personal value the policy tokenises, generalises or drops (and every value of an organisation it hides) is
looked for, case-folded, unless it is shorter than three characters. Where it is looked for depends on the cell:

1. A cell that holds exactly one well-formed token, or in a *_key column exactly one key, holds nothing else: not searched.
2. A cell equal to some value its own field had in the originals, and which the policy keeps (a payer's name, a code), is
   public by that decision. In it count only (a) personal identifiers of six or more characters with a digit among them,
   as whole words, and (b) the last and the first name of one person, both as whole words. So a patient called HC or
   Humana, or a claim number 99213, does not fire on the code or the payer of that name; "SELF PAY JOHN SMITH" does.
3. Any other cell should not exist at all. In it every value counts, also inside longer words; and where none is found but
   the cell stands in a token or key column, it is reported as what it is, NOT_A_TOKEN or NOT_A_KEY.

Free text is not searched here: a last name may be a word like any other in it. The egress guard does that (medbill.deid.egress).

What this does not see: names of one or two characters, values written differently than in the record, a single name in
a kept payer name. Dates are looked for as YYYYMMDD, YYYY-MM-DD and MM/DD/YYYY.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from medbill.deid import vault as vaults
from medbill.deid.policy import Policy
from medbill.deid.vault import is_token, normalised

_SHORTEST = 3
_SPECIFIC = 6  # characters with a digit: too many to be a code of a public code set and a coincidence at once
_KEY = re.compile(r"[0-9a-f]{16}(?:-[0-9]+)?")
_WORDS = re.compile(r"[^\W_]+")
_DATES = ("%Y%m%d", "%Y-%m-%d", "%m/%d/%Y")
_MOST_CELLS = 1000  # distinct wrong cells of a column that are searched inside words; one is enough to close the gate


@dataclass(frozen=True)
class Leak:
    """count cells of table.column hold an identifier of this kind (a vault kind, or the name of a dropped field)."""

    table: str
    column: str
    kind: str
    count: int


@dataclass
class _Wanted:
    """Values to look for. words: as sequences of words; whole: as they are, normalised. Each gives its kind."""

    whole: dict[str, str] = field(default_factory=dict)
    specific: dict[tuple[str, ...], str] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)  # last name -> first names
    longest: int = 0

    def add(self, value: str, kind: str, personal: bool) -> None:
        form = normalised(value)
        if len(form) < _SHORTEST:
            return
        self.whole.setdefault(form, kind)
        if not personal or len(form) < _SPECIFIC or form.isalpha():
            return
        words = (form,) if form.isalnum() else tuple(_WORDS.findall(form))
        letters = "".join(words)
        if len(letters) >= _SPECIFIC and not letters.isalpha():
            self.specific.setdefault(words, kind)
            self.longest = max(self.longest, len(words))


def leaks(
    published: Mapping[str, pa.Table], originals: Mapping[str, pa.Table], policy: Policy, object_name: str
) -> list[Leak]:
    """Identifiers of the originals that are still in the published tables, by the rule above; empty where there are none.

    object_name: which object's policy the tables belong to. Linear in cells and values; nothing found is quoted.
    """
    wanted = _wanted(originals, policy, object_name)
    found = []
    for table_name, table in sorted(published.items()):
        rules = policy.rules[object_name].get(table_name, {})
        kept_from = {rule.column: name for name, rule in rules.items() if rule.action == "keep"}
        free = {rule.column for rule in rules.values() if rule.action == "text"}
        original = originals.get(table_name)
        for column in table.column_names:
            if column in free:
                continue
            cells = _cells(table[column])
            source = kept_from.get(column)
            if not cells:
                continue
            kept = set() if original is None or source not in original.column_names else _public(original[source])
            counts: Counter[str] = Counter()
            for kind, count in _search(column, cells, kept, wanted):
                counts[kind] += count
            found += [Leak(table_name, column, kind, count) for kind, count in sorted(counts.items())]
    return found


def _wanted(originals: Mapping[str, pa.Table], policy: Policy, object_name: str) -> _Wanted:
    wanted = _Wanted()
    for table_name, table in sorted(originals.items()):
        rules = policy.rules[object_name].get(table_name, {})
        for name in table.column_names:
            rule = rules.get(name)
            if (
                rule is None or rule.action in ("keep", "text") or name.endswith("_key")
            ):  # a key is a position, no identifier
                continue
            kind = rule.kind or name
            values = table[name]
            if pa.types.is_date(values.type):
                if rule.personal:
                    days = pc.unique(pc.drop_null(values)).to_pylist()
                    for text in (day.strftime(form) for day in days for form in _DATES):
                        wanted.add(text, kind, personal=True)
            else:
                for text in _cells(values):
                    wanted.add(text, kind, rule.personal)
        for last in (name for name in table.column_names if name.endswith("last_name")):
            first = last.replace("last_name", "first_name")
            if first in table.column_names:
                pairs = table.select([last, first]).drop_null().group_by([last, first]).aggregate([])
                for pair in zip(pairs[last].to_pylist(), pairs[first].to_pylist(), strict=True):
                    a, b = (" ".join(_WORDS.findall(normalised(name))) for name in pair)
                    if min(len(a), len(b)) >= _SHORTEST and a != b:
                        wanted.names.setdefault(a, set()).add(b)
    return wanted


def _search(column: str, cells: Mapping[str, int], kept: set[str], wanted: _Wanted) -> Iterator[tuple[str, int]]:
    wrong, keys = [], column.endswith("_key")
    for text, count in cells.items():
        if (text.startswith("[") and is_token(text)) or (keys and _KEY.fullmatch(text)):
            continue
        if text in kept:
            for kind in _in_public(text, wanted):
                yield kind, count
        else:
            wrong.append((text, count))
    if not wrong:
        return
    forms = [(normalised(text), count) for text, count in wrong]
    searched = forms[:_MOST_CELLS]
    everything = "\n".join(form for form, _ in searched)
    inside = [(value, kind) for value, kind in wanted.whole.items() if value in everything]
    for at, (form, count) in enumerate(forms):
        kinds = {kind for value, kind in inside if value in form} if at < _MOST_CELLS else set()
        if form in wanted.whole:
            kinds.add(wanted.whole[form])
        if not kinds and column.endswith("_token"):
            kinds.add("NOT_A_TOKEN")
        if not kinds and keys:
            kinds.add("NOT_A_KEY")
        for kind in kinds:
            yield kind, count


def _in_public(text: str, wanted: _Wanted) -> set[str]:
    words = _WORDS.findall(normalised(text))
    kinds = set()
    for size in range(1, min(wanted.longest, len(words)) + 1):
        for start in range(len(words) - size + 1):
            kind = wanted.specific.get(tuple(words[start : start + size]))
            if kind is not None:
                kinds.add(kind)
    runs = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, min(a + 4, len(words) + 1))}
    if any(wanted.names[last] & runs for last in runs & wanted.names.keys()):
        kinds.add("PERSON")
    return kinds


def _cells(values: pa.ChunkedArray) -> dict[str, int]:
    """Distinct texts of a column and how many rows hold each; lists element by element; empty for other types."""
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return {}
    counted = pc.value_counts(values).flatten()
    return {
        text: count
        for text, count in zip(counted[0].to_pylist(), counted[1].to_pylist(), strict=True)
        if text is not None
    }


def _public(values: pa.ChunkedArray) -> set[str]:
    """What a kept column may hold: the original's texts, and those of them that were escaped, as escaped."""
    texts = set(_cells(values))
    odd = [text for text in texts if "[" in text]
    return texts | set(vaults.escape(pa.array(odd, pa.string())).to_pylist())
