"""The cluster policy on real DAG files, read by Airflow itself: each breach is an import error with plain words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANARY = "Quillsworth, Jane 078-05-1120"

_HEAD = """
from datetime import timedelta
import pendulum
from airflow.sdk import Asset, Param, dag, task

SETTINGS = dict(
    schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), max_active_runs=1, tags=["t"],
    dagrun_timeout=timedelta(hours=1), default_args={"owner": "medbill", "execution_timeout": timedelta(minutes=5)},
)
"""
_GOOD = """
@dag(**SETTINGS, params={"day": Param("2026-11-24", type="string", format="date"), "object": Param("claims", enum=["claims", "notes"])})
def NAME():
    @task
    def days() -> list[str]:
        return ["2026-11-24"]
    @task(inlets=[Asset("in", uri="file://medbill/inbox/remittances")])
    def work(practice: str, day: str) -> int:
        return 1
    work.partial(practice="lakeside").expand(day=days())
    work(practice="demo", day="{{ ds }}")
NAME()
"""
_TASK = """
@dag(**SETTINGS)
def NAME():
    @task(TASK)
    def work(value="lakeside") -> int:
        return 1
    work(CALL)
NAME()
"""


def _task(task: str = "", call: str = "") -> str:
    return _TASK.replace("TASK", task).replace("CALL", call)


def _dag(change: str) -> str:
    return f"SETTINGS.update({change})\n" + _task()


#: file -> (source, words of its import error)
BAD = {
    "no_tags": (_dag("tags=[]"), "tags"),
    "no_timeout": (_dag("dagrun_timeout=None"), "dagrun_timeout"),
    "many_runs": (_dag("max_active_runs=16"), "max_active_runs"),
    "dag_callback": (_dag("on_failure_callback=print"), "no callbacks"),
    "macros": (_dag(f"user_defined_macros={{'who': {CANARY!r}}}"), "no macros"),
    "free_param": (_dag(f"params={{'practice': {CANARY!r}}}"), "may hold any text"),
    "free_string_param": (_dag("params={'practice': Param('lakeside', type='string')}"), "may hold any text"),
    "param_name": (_dag("params={'patient': Param(1, type='integer')}"), "parameter's name"),
    "param_enum": (_dag(f"params={{'practice': Param({CANARY!r}, enum=[{CANARY!r}])}}"), "not a reference"),
    "person": (_dag("default_args={'owner': 'jane.quillsworth', 'execution_timeout': timedelta(minutes=5)}"), "roles"),
    "no_task_timeout": (_dag("default_args={'owner': 'medbill'}"), "execution_timeout"),
    "task_callback": (_task("on_failure_callback=print"), "no callbacks"),
    "skip_callback": (_task("on_skipped_callback=print"), "no callbacks"),
    "mail": (_task("email='quillsworth@example.org', email_on_failure=True"), "no e-mail"),
    "map_index": (_task("map_index_template='{{ params }}'"), "map_index_template"),
    "argument": (_task(call=f"value={CANARY!r}"), "not a reference"),
    "nested": (_task(call=f"value={{'day': ['2026-11-24', {{'note': {CANARY!r}}}]}}"), "not a reference"),
    "number": (_task(call="value=78051120"), "not a reference"),
    "template": (_task(call="value='{{ dag_run.conf }}'"), "a template other than"),
    "mixed_template": (_task(call="value='{{ ds }} {{ ti.xcom_pull() }}'"), "a template other than"),
    "block": (_task(call="value='{% for x in y %}{% endfor %}'"), "a template other than"),
    "file_asset": (_task("outlets=[Asset('a', uri='file://elsewhere/x')]"), "inlets and outlets"),
    "named_asset": (_task("outlets=[Asset('b', uri='file://medbill/deid/quillsworth')]"), "inlets and outlets"),
    "mapped": (_TASK.replace("TASK", "").replace("work(CALL)", f"work.expand(value=[{CANARY!r}])"), "not a reference"),
    "mapped_partial": (
        _TASK.replace("TASK", "")
        .replace("(value=", "(one, value=")
        .replace("work(CALL)", f"work.partial(one={CANARY!r}).expand(value=['lakeside'])"),
        "not a reference",
    ),
    "mapped_mail": (
        _TASK.replace("TASK", "email='quillsworth@example.org'").replace("work(CALL)", "work.expand(value=['demo'])"),
        "no e-mail",
    ),
    "bash": (
        """
from airflow.providers.standard.operators.bash import BashOperator
@dag(**SETTINGS)
def NAME():
    BashOperator(task_id="work", bash_command="echo {{ dag_run.conf }}")
NAME()
""",
        "operator BashOperator is not among",
    ),
    "plain_python": (
        """
from airflow.providers.standard.operators.python import PythonOperator
@dag(**SETTINGS)
def NAME():
    PythonOperator(task_id="work", python_callable=print)
NAME()
""",
        "operator PythonOperator is not among",
    ),
    "trigger": (
        """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
@dag(**SETTINGS)
def NAME():
    TriggerDagRunOperator(task_id="work", trigger_dag_id="good", conf={"a": "b"})
NAME()
""",
        "operator TriggerDagRunOperator is not among",
    ),
}

_READ = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags-folder")
shown = {
    t.task_id: getattr(t, "partial_kwargs", {}).get("show_return_value_in_logs", getattr(t, "show_return_value_in_logs", None))
    for d in bag.dags.values() for t in d.tasks
}
print(json.dumps({"errors": {Path(k).stem: v for k, v in bag.import_errors.items()}, "dags": sorted(bag.dags), "shown": shown}))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("dags")
    for name, source in {"good": _GOOD, **{name: source for name, (source, _) in BAD.items()}}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(_HEAD + source.replace("NAME", name)))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env.update(
        AIRFLOW_HOME=str(tmp_path_factory.mktemp("airflow")),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(ROOT / "plugins"))),
    )
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(folder)], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_what_keeps_to_the_policy_is_read(read: dict[str, dict[str, str]]) -> None:
    assert read["dags"] == ["good"]
    assert read["shown"] and not any(read["shown"].values())


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_breach_is_an_import_error_in_plain_words(read: dict[str, dict[str, str]], name: str) -> None:
    error = read["errors"][name]
    assert error.startswith("AirflowClusterPolicyViolation: "), error
    assert BAD[name][1] in error, error
    assert "uillsworth" not in error and "078" not in error
