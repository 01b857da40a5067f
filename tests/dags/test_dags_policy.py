"""Every DAG follows the house's rules, imports fast, and pulls nothing heavy in at its top."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
HEAVY = {
    "pandas",
    "presidio_analyzer",
    "presidio_anonymizer",
    "great_expectations",
    "openai",
    "pyarrow",
    "duckdb",
    "numpy",
}
EXPECTED = {
    "apply_proposals",
    "deidentify",
    "extract_advancedmd",
    "extract_carecloud",
    "extract_drchrono",
    "extract_tebra",
    "guard",
    "guard_nightly",
    "post_payments",
    "receive_remittances",
    "report_denials",
    "scrub_claims",
    "triage_denials",
}
#: Seconds a DAG file may take beyond importing airflow.sdk.
SLOWEST = 1.0

_READ = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags-folder")

def seconds(value):
    return value.total_seconds() if value is not None else None

def facts(dag):
    return {
        "doc": dag.doc_md, "description": dag.description, "tags": sorted(dag.tags), "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs, "timeout": seconds(dag.dagrun_timeout), "start": str(dag.start_date),
        "late": [d.callback.path for d in dag.deadline or []],
        "file": dag.fileloc,
        "access": {role: sorted(what["DAGs"]) for role, what in (dag.access_control or {}).items()},
        "tasks": {
            t.task_id: {
                "owner": t.owner, "retries": t.retries, "retry_delay": seconds(t.retry_delay),
                "backoff": bool(t.retry_exponential_backoff), "timeout": seconds(t.execution_timeout),
                "inlets": [getattr(a, "uri", "") for a in t.inlets], "outlets": [getattr(a, "uri", "") for a in t.outlets],
                "shows_result": getattr(t, "partial_kwargs", {}).get(
                    "show_return_value_in_logs", getattr(t, "show_return_value_in_logs", False)
                ),
            }
            for t in dag.tasks
        },
    }

print(json.dumps({"errors": list(bag.import_errors), "dags": {d.dag_id: facts(d) for d in bag.dags.values()}}))
"""

_TIME = """
import importlib.util, json, sys, time
import airflow.sdk
sys.path.insert(0, sys.argv[1])
seconds = {}
for path in sys.argv[2:]:
    begin = time.process_time()  # of this process alone: a busy machine does not count
    spec = importlib.util.spec_from_file_location("measured", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    seconds[path] = time.process_time() - begin
print(json.dumps({"seconds": seconds, "modules": sorted({m.partition(".")[0] for m in sys.modules})}))
"""


def _airflow(code: str, home: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(ROOT / "plugins"))),
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow itself reads from dags/, as plain facts."""
    return json.loads(_airflow(_READ, tmp_path_factory.mktemp("airflow"), str(DAGS)))


def _dag_files() -> list[Path]:
    return sorted(p for p in DAGS.glob("*.py") if p.name != "__init__.py")


def test_the_bag_holds_the_pipelines_and_imports_without_error(bag: dict[str, Any]) -> None:
    assert bag["errors"] == []
    assert set(bag["dags"]) >= EXPECTED


def test_every_file_makes_the_dag_of_its_name(bag: dict[str, Any]) -> None:
    assert {Path(d["file"]).stem for d in bag["dags"].values()} == {p.stem for p in _dag_files()}
    assert all(Path(d["file"]).stem == name for name, d in bag["dags"].items())


def test_every_dag_says_what_it_is_and_bounds_itself(bag: dict[str, Any]) -> None:
    for name, dag in bag["dags"].items():
        assert dag["doc"] and len(dag["doc"]) > 60, f"{name}: doc_md"
        assert dag["description"], f"{name}: description"
        assert dag["tags"], f"{name}: tags"
        assert dag["catchup"] is False, f"{name}: catchup"
        assert 1 <= dag["max_active_runs"] <= 4, f"{name}: max_active_runs on purpose"
        assert dag["timeout"], f"{name}: dagrun_timeout"
        assert dag["start"] != "None", f"{name}: start_date"
        assert dag["late"] == ["medbill_plugin.deadline.late"], f"{name}: deadline alert"


def test_who_sees_and_starts_a_dag_comes_from_the_roles(bag: dict[str, Any]) -> None:
    for dag_id, dag in bag["dags"].items():
        assert dag["access"]["Data Engineer"] == ["can_edit", "can_read"], dag_id
        assert dag["access"]["Compliance Officer"] == ["can_read"], dag_id
    assert "Coder" not in bag["dags"]["apply_proposals"]["access"]
    assert "Analyst" in bag["dags"]["report_denials"]["access"]


def test_every_task_has_an_owner_retries_with_backoff_and_a_timeout(bag: dict[str, Any]) -> None:
    for name, dag in bag["dags"].items():
        for task, facts in dag["tasks"].items():
            where = f"{name}.{task}"
            assert facts["owner"] not in ("", "airflow"), f"{where}: owner"
            assert facts["retries"] >= 1, f"{where}: retries"
            assert facts["retry_delay"] and facts["backoff"], f"{where}: backoff"
            assert facts["timeout"] and facts["timeout"] <= dag["timeout"], f"{where}: execution_timeout"


def test_every_dag_declares_what_it_reads_and_writes_as_medbill_assets(bag: dict[str, Any]) -> None:
    for name, dag in bag["dags"].items():
        reads = [uri for t in dag["tasks"].values() for uri in t["inlets"]]
        writes = [uri for t in dag["tasks"].values() for uri in t["outlets"]]
        assert reads and writes, f"{name}: inlets and outlets"
        assert all(uri.startswith("file://medbill/") for uri in reads + writes), name


def test_no_task_repeats_its_result_in_its_log(bag: dict[str, Any]) -> None:
    assert not [f"{n}.{t}" for n, d in bag["dags"].items() for t, f in d["tasks"].items() if f["shows_result"]]


@pytest.mark.parametrize("path", sorted(DAGS.rglob("*.py")), ids=lambda p: str(p.relative_to(DAGS)))
def test_nothing_heavy_is_imported_at_the_top(path: Path) -> None:
    assert not _top_level_imports(ast.parse(path.read_text())) & HEAVY


@pytest.mark.parametrize("path", sorted(DAGS.rglob("*.py")), ids=lambda p: str(p.relative_to(DAGS)))
def test_no_variable_or_connection_is_read_at_the_top(path: Path) -> None:
    for node in _module_level(ast.parse(path.read_text())):
        for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            assert not name.startswith(("Variable.", "Connection.", "BaseHook.", "requests.", "httpx.", "open")), name


def test_dag_files_parse_fast_and_pull_in_nothing_heavy(tmp_path: Path) -> None:
    measured = json.loads(_airflow(_TIME, tmp_path, str(DAGS), *map(str, _dag_files())))
    assert {path: s for path, s in measured["seconds"].items() if s >= SLOWEST} == {}
    assert not set(measured["modules"]) & (HEAVY - {"numpy"})  # airflow.sdk may look for numpy itself


def test_the_import_rule_sees_imports_in_blocks_but_not_in_functions() -> None:
    code = "try:\n    import pandas as pd\nexcept ImportError:\n    pd = None\ndef f():\n    import duckdb\n"
    assert _top_level_imports(ast.parse(code)) == {"pandas"}


def _module_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import: the module's own, and those inside its if, try and with blocks."""
    found: list[ast.stmt] = []
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        blocks = [b for name in ("body", "orelse", "finalbody") for b in getattr(node, name, [])]
        blocks += [s for handler in getattr(node, "handlers", []) for s in handler.body]
        waiting += blocks
        if not blocks:
            found.append(node)
    return found


def _top_level_imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in _module_level(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
