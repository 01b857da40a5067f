"""Free-text de-identification side by side in one run: stock Presidio with a model, ours without, on one processor and on
all, and ours with the same model.

    python benchmarks/deid.py [--data FOLDER] [--model en_core_web_sm] [--notes 150] [--json]

Each engine runs in a process of its own on the same texts, after a warm-up on other notes (another seed; none of the texts
measured), as in a process that has been at work for a while: documents per second of processor time and of wall time, peak
resident memory, recall and precision. Without --data (a folder with asq_phi_dev.jsonl and
claim_notes_dev.jsonl) the notes come from tests/deidtext_notes.py.

    python benchmarks/deid.py --by-type GOLD.jsonl     recall for each type of identifier of {"text", "gold", "record"} lines
    python benchmarks/deid.py --memory 2000            resident memory after each of two passes over so many notes
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "include"), str(ROOT / "tests")]
Spans = list[list[tuple[int, int]]]
WARM_UP = 200  # notes


def _documents(data: Path | None, notes: int) -> dict[str, list[dict[str, Any]]]:
    import deidtext_notes

    sets: dict[str, list[dict[str, Any]]] = {"generated": deidtext_notes.notes(notes, seed=90_000)}
    if data is not None:
        for name, file in (("queries", "asq_phi_dev.jsonl"), ("claim notes", "claim_notes_dev.jsonl")):
            rows = [json.loads(line) for line in (data / file).read_text().splitlines()]
            sets[name] = rows[1::2][:notes]
    return sets


def _stock(model: str) -> Callable[[list[dict[str, Any]]], Spans]:
    import importlib

    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    from medbill.deid.text.ner import MODELS

    module = importlib.import_module(MODELS[model])
    name = str(module.model_path()) if hasattr(module, "model_path") else MODELS[model]
    nlp = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": name}]}
    ).create_engine()
    engine = AnalyzerEngine(nlp_engine=nlp, supported_languages=["en"])
    return lambda rows: [[(r.start, r.end) for r in engine.analyze(text=d["text"], language="en")] for d in rows]


def _ours(model: str | None, workers: int = 1) -> Callable[[list[dict[str, Any]]], Spans]:
    from medbill.deid.text.engine import loaded
    from medbill.deid.text.workers import Workers

    engine = loaded(model) if workers == 1 else Workers(model, workers or None)

    def run(rows: list[dict[str, Any]]) -> Spans:
        found = engine.analyze([d["text"] for d in rows], [d.get("record") for d in rows])
        return [[(s.start, s.end) for s in spans] for spans in found]

    return run


def _measure(which: str, model: str, data: Path | None, notes: int) -> dict[str, Any]:
    import deidtext_notes
    import deidtext_score

    sets = _documents(data, notes)
    began = time.perf_counter()
    run = {"stock": lambda: _stock(model), "ours": lambda: _ours(None), "ours+model": lambda: _ours(model)}.get(
        which, lambda: _ours(None, 0)
    )()
    run(deidtext_notes.notes(WARM_UP, seed=40_000))
    out: dict[str, Any] = {"engine": which, "load_s": round(time.perf_counter() - began, 2), "sets": {}}
    for name, rows in sets.items():
        wall, cpu = time.perf_counter(), time.process_time()
        spans = run(rows)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        score = deidtext_score.score(rows, spans)
        out["sets"][name] = {
            "documents": len(rows),
            "characters": sum(len(d["text"]) for d in rows),
            "per_s_cpu": None if which == "ours, all processors" else round(len(rows) / cpu, 1),  # it is its children's
            "per_s_wall": round(len(rows) / wall, 1),
            **{k: score[k] for k in ("recall_full", "recall_tolerant", "precision", "hard_negatives_touched")},
        }
    out["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return out


def _by_type(gold: Path) -> None:
    import deidtext_score

    rows = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    score = deidtext_score.score(rows, _ours(None)(rows))
    print("| identifier | spans | full | tolerant |\n|---|---|---|---|")
    for kind, (count, full, tolerant) in score["by_type"].items():
        print(f"| {kind} | {count} | {full} | {tolerant} |")
    for name in ("spans", "recall_full", "recall_tolerant", "precision", "hard_negatives_touched"):
        print(f"{name}: {score[name]}")


def _memory(notes: int) -> None:
    import deidtext_notes

    run = _ours(None)
    for number in (1, 2):
        for start in range(0, notes, 200):
            run(deidtext_notes.notes(min(200, notes - start), seed=90_000 + start))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(f"pass {number}: {pages * resource.getpagesize() / 2**20:.1f} MB resident")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="en_core_web_sm")
    parser.add_argument("--notes", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--by-type", type=Path, metavar="GOLD.jsonl")
    parser.add_argument("--memory", type=int, metavar="NOTES")
    args = parser.parse_args()
    if args.by_type or args.memory:
        _by_type(args.by_type) if args.by_type else _memory(args.memory)
        return
    if args.engine:
        print(json.dumps(_measure(args.engine, args.model, args.data, args.notes)))
        return
    results = []
    for which in ("stock", "ours", "ours, all processors", "ours+model"):
        command = [sys.executable, __file__, "--engine", which, "--model", args.model, "--notes", str(args.notes)]
        if args.data:
            command += ["--data", str(args.data)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{which} failed:\n{done.stderr[-2000:]}")
        results.append(json.loads(done.stdout.splitlines()[-1]))
    if args.json:
        print(json.dumps(results, indent=1))
        return
    print(
        "| engine | texts | docs/s (cpu) | x stock | docs/s (wall) | x stock | recall full | tolerant | precision | negatives touched | peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for r in results:
        for name, s in r["sets"].items():
            stock = results[0]["sets"][name]
            times = f"{s['per_s_cpu'] / stock['per_s_cpu']:.1f}" if s["per_s_cpu"] else "-"
            on_clock = s["per_s_wall"] / stock["per_s_wall"]
            print(
                f"| {r['engine']} | {name} ({s['documents']}) | {s['per_s_cpu'] or '-'} | {times} | {s['per_s_wall']} | {on_clock:.1f} | "
                f"{s['recall_full']} | {s['recall_tolerant']} | {s['precision']} | {s['hard_negatives_touched']} | {r['peak_mb']} |"
            )


if __name__ == "__main__":
    main()
