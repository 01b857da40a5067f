"""The egress guard against a vault of 100,000 values: milliseconds per kilobyte, and how often it refuses what is clean.

    python benchmarks/egress.py [--values 100000] [--seconds 3] [--json]

Payloads of 1, 10 and 100 KB: de-identified notes of tests/deidtext_notes.py, a JSON table of denied claims with codes and
amounts, the same notes percent-encoded whole, and as base64. Values: names, ids of all lengths, addresses, towns. Time is
processor time of one thread, the best of many runs; the first check, which reads the vault, is counted apart.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "include"), str(ROOT / "tests")]


def _values(count: int, r: random.Random) -> list[tuple[str, str]]:
    import deidtext_notes as notes
    from medbill.deid.text.lexicon import _list

    first, last = sorted(_list("first_names")), sorted(_list("last_names"))
    out: list[tuple[str, str]] = []

    def digits(low: int, high: int) -> str:
        return "".join(r.choice("0123456789") for _ in range(r.randint(low, high)))

    while len(out) < count:
        a, b = r.choice(first).title(), r.choice(last).title()
        out += [
            ("PERSON", r.choice((f"{b}, {a}", f"{a} {b}", b, a))),
            ("MEMBER", r.choice((digits(8, 12), f"{r.choice('ABCXYZ')}{r.choice('KLMN')}{digits(6, 9)}"))),
            ("CLAIM", digits(8, 14)),
            ("PAYER_CLAIM", digits(11, 15)),
            ("MRN", digits(6, 8)),
            ("PHONE", f"{digits(3, 3)}-{digits(3, 3)}-{digits(4, 4)}"),
            ("ADDRESS", f"{digits(2, 5)} {b} {r.choice(notes._SUFFIX)}"),
            ("ZIP", digits(5, 5)),
            ("CITY", r.choice(notes._CITY)),
            ("LINE", digits(7, 9)),
        ]
    return out[:count]


def _notes(size: int) -> str:
    import deidtext_notes as notes
    from medbill.deid.text.engine import Engine

    rows = notes.notes(600, seed=90_000)
    done = Engine().deidentify([row["text"] for row in rows], [row["record"] for row in rows])
    text = "\n\n".join(one.text for one in done)
    return (text * (size // len(text) + 1))[:size]


def _table(size: int, r: random.Random) -> str:
    """Denied claims as they are published: tokens, codes, amounts, payer, days of payment."""
    from medbill.deid.text.engine import RunTokens

    tokens = RunTokens()
    import pyarrow as pa

    rows: list[dict[str, object]] = []
    while sum(len(str(row)) for row in rows[:1]) * len(rows) < size + 4_000:
        n = len(rows)
        rows.append(
            {
                "claim_token": tokens.tokenize("CLAIM", pa.array([f"claim {n}"]))[0].as_py(),
                "remittance_key": f"{r.getrandbits(64):016x}",
                "payer": r.choice(("Humana", "Blue Cross Blue Shield of Texas", "Aetna", "Medicare Part B")),
                "procedure": r.choice(("99213", "99285", "71046", "J1885", "G0438")),
                "modifiers": ["25"],
                "diagnosis": r.choice(("E11.65", "I10", "M54.50", "S72.001A")),
                "charge_cents": r.randint(1_000, 900_000),
                "paid": f"{r.randint(0, 900)}.{r.randint(0, 99):02d}",
                "carc": r.choice(("CO-45", "CO-97", "PR-1", "CO-197")),
                "rarc": r.choice(("N130", "M76", "MA130")),
                "payment_date": f"2025-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}",
                "npi": "1992000004",
            }
        )
    return json.dumps(rows)


def _milliseconds(guard: object, payload: str, seconds: float) -> float:
    best, spent = float("inf"), 0.0
    while spent < seconds:
        began = time.process_time()
        guard.inspect(payload)  # type: ignore[attr-defined]
        took = time.process_time() - began
        best, spent = min(best, took), spent + took
    return best / (len(payload.encode()) / 1024) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    from medbill.deid.egress import Guard
    from medbill.deid.egress_values import Forms, forms

    r = random.Random(7)
    values = _values(options.values, r)

    class Listed:
        practice = "benchmark"
        known = Forms()

        def current(self) -> Forms:
            return self.known

    class NoLedger:
        def record(self, event: object, outcome: str = "success") -> int:
            return 0

    source = Listed()
    began = time.process_time()
    source.known.add((kind, forms(kind, value)) for kind, value in values)
    loaded = time.process_time() - began
    guard = Guard(source, NoLedger())

    longest = _notes(100 * 1024)
    table = json.loads(_table(100 * 1024, r))
    figures: dict[str, dict[str, float]] = {}
    for size in (1, 10, 100):
        text = longest[: size * 1024]
        rows = json.dumps(table[: max(1, len(table) * size // 100)])
        figures[f"{size} KB"] = {
            "notes": _milliseconds(guard, text, options.seconds),
            "table": _milliseconds(guard, rows, options.seconds),
            "percent-encoded": _milliseconds(guard, quote(text[: size * 1024 // 2]), options.seconds),
            "base64": _milliseconds(guard, base64.b64encode(text[: size * 768].encode()).decode(), options.seconds),
        }
    payloads: Iterable[str] = [json.dumps(table[n : n + 5]) for n in range(0, len(table) - 5, 5)]
    refused = [guard.inspect(payload).code is not None for payload in payloads]
    summary = {
        "values": len(values),
        "forms": len(source.known),
        "seconds_to_index": round(loaded, 2),
        "ms_per_kb": {name: {k: round(v, 2) for k, v in row.items()} for name, row in figures.items()},
        "clean_tables": len(refused),
        "clean_tables_refused": sum(refused),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if options.json:
        print(json.dumps(summary))
        return
    print(
        f"{len(values):,} values, {len(source.known):,} forms, indexed in {loaded:.1f} s, peak {summary['peak_mb']} MB"
    )
    for name, row in figures.items():
        print(f"{name:>7}: " + ", ".join(f"{kind} {value:.2f} ms/KB" for kind, value in row.items()))
    print(f"clean tables of five claims refused: {sum(refused)} of {len(refused)}")


if __name__ == "__main__":
    main()
