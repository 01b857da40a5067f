"""The measures of de-identification, label-agnostic: what counts is that no letter or digit of an identifier survives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

#: May stay inside an identifier under the tolerant measure: a bare year, a courtesy title, a label.
_MAY_STAY = re.compile(
    r"\b(?:19|20)\d\d\b|\b(?:Mr|Mrs|Ms|Dr|Prof|Miss)\b\.?|\b(?:MRN|SSN|ID|Patient|Account|Acct|Policy|Plan|Member)\b\s*[:#]?",
    re.I,
)


def score(documents: Sequence[dict[str, Any]], predicted: Sequence[Sequence[tuple[int, int]]]) -> dict[str, Any]:
    """documents: {"text", "gold": [[start, end, type], ...]}; predicted: (start, end) for each document.

    recall_full: share of gold spans covered letter by letter; recall_tolerant: as far as they must be; precision: share of
    predicted spans that touch gold; hard_negatives_touched: share of documents without identifiers with any span.
    """
    total, full, tolerant = Counter[str](), Counter[str](), Counter[str]()
    touching = spans = with_id = clean = negatives = touched = 0
    for document, found in zip(documents, predicted, strict=True):
        text = document["text"]
        covered = {k for start, end in found for k in range(start, end)}
        gold: set[int] = set()
        ok = True
        for start, end, kind in document["gold"]:
            letters = [k for k in range(start, end) if text[k].isalnum()]
            stay = {k for m in _MAY_STAY.finditer(text[start:end]) for k in range(start + m.start(), start + m.end())}
            must = [k for k in letters if k not in stay] or letters
            gold.update(letters)
            total[kind] += 1
            full[kind] += all(k in covered for k in letters)
            good = all(k in covered for k in must)
            tolerant[kind] += good
            ok = ok and good
        for start, end in found:
            spans += 1
            touching += any(k in gold for k in range(start, end))
        if document["gold"]:
            with_id += 1
            clean += ok
        else:
            negatives += 1
            touched += bool(found)
    n = sum(total.values())

    def share(a: int, b: int) -> float | None:
        return round(a / b, 4) if b else None

    return {
        "spans": n,
        "recall_full": share(sum(full.values()), n),
        "recall_tolerant": share(sum(tolerant.values()), n),
        "precision": share(touching, spans),
        "clean_documents": share(clean, with_id),
        "hard_negatives_touched": share(touched, negatives),
        "by_type": {t: (total[t], share(full[t], total[t]), share(tolerant[t], total[t])) for t in sorted(total)},
    }
