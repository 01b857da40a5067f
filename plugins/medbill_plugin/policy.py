"""Cluster policy: which DAGs and tasks Airflow may read at all. A breach is an import error that says what to change.

A DAG's source is ours and harmless; what its tasks are given while it runs is not. So only operators and arguments pass
through which nothing but references (medbill_plugin.references) can come: no other operator, no template but a few ids, no
free parameter, no callback or mail that would carry an exception's text away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk.definitions.param import Param
from airflow.sdk.definitions.xcom_arg import XComArg

from medbill_plugin import references
from medbill_plugin.references import ReferenceRefused

#: Classes of operators that run here: all of them call functions of ours and hand over what those return.
OPERATORS = frozenset({
    "airflow.providers.standard.decorators.python._PythonDecoratedOperator",
    "airflow.providers.standard.operators.empty.EmptyOperator",
})  # fmt: skip
#: Who may own a task: roles. A person's name is nobody's business here.
OWNERS = frozenset({"medbill", "billing", "coding", "compliance", "data-engineering"})
MOST_ACTIVE_RUNS = 4
_CALLBACKS = (
    "on_execute_callback",
    "on_failure_callback",
    "on_success_callback",
    "on_retry_callback",
    "on_skipped_callback",
)
_TEMPLATE = re.compile(r"\{[{%#]")
_ID_TEMPLATE = re.compile(r"\{\{ *(?:ds|ti\.try_number|params\.(?:practice|day|object)) *\}\}")
_WRITES_NOTHING_FREE = ("enum", "const")


def check_dag(dag: Any) -> None:
    """Raises AirflowClusterPolicyViolation where a DAG breaks the policy."""
    where = f"DAG {dag.dag_id}"
    _demand(bool(dag.tags), where, "give it tags")
    _demand(dag.dagrun_timeout is not None, where, "give it a dagrun_timeout")
    _demand(
        dag.max_active_runs is not None and 1 <= dag.max_active_runs <= MOST_ACTIVE_RUNS,
        where,
        f"set max_active_runs on purpose, from 1 to {MOST_ACTIVE_RUNS}",
    )
    _demand(
        not dag.on_success_callback and not dag.on_failure_callback,
        where,
        "no callbacks: they are handed exceptions and conf; the listener and the deadline alert tell of failures",
    )
    _demand(
        not dag.user_defined_macros and not dag.user_defined_filters and not dag.template_searchpath,
        where,
        "no macros, filters or template files: a task calls a function of ours instead",
    )
    _params(where, dag.params)


def check_task(task: Any) -> None:
    """Raises AirflowClusterPolicyViolation where a task breaks the policy; keeps what it returns out of its log."""
    where = f"task {task.dag.dag_id}.{task.task_id}" if getattr(task, "dag", None) else f"task {task.task_id}"
    mapped: Mapping[str, Any] | None = getattr(task, "partial_kwargs", None)  # a mapped task, not made yet
    operator = type(task) if mapped is None else task.operator_class
    _demand(
        f"{operator.__module__}.{operator.__qualname__}" in OPERATORS,
        where,
        f"operator {operator.__name__} is not among medbill_plugin.policy.OPERATORS; use @task",
    )

    def of(name: str) -> Any:
        return getattr(task, name, None) if mapped is None else mapped.get(name)

    _demand(
        task.owner in OWNERS, where, "its owner is none of the roles in medbill_plugin.policy.OWNERS (never a person)"
    )
    _demand(of("execution_timeout") is not None, where, "give it an execution_timeout")
    _demand(
        not any(of(name) for name in _CALLBACKS),
        where,
        "no callbacks: they are handed exceptions and conf; the listener tells of failures",
    )
    _demand(not of("email"), where, "no e-mail: its text would carry the exception away")
    _demand(not of("map_index_template"), where, "no map_index_template: its text is stored and shown")
    _demand(
        not of("templates_dict") and not of("templates_exts"), where, "no templates_dict: pass arguments that are ids"
    )
    _params(where, of("params") or {})
    arguments = [of("op_args"), of("op_kwargs"), *_expanded(task)]
    for value in _literals(arguments):
        _argument(where, value)
    for asset in (*(of("inlets") or ()), *(of("outlets") or ())):
        uri = getattr(asset, "uri", None)
        _demand(
            isinstance(uri, str) and uri.startswith("file://medbill/") and references.is_reference(uri),
            where,
            "inlets and outlets are assets of dags/common/assets.py",
        )
    if mapped is None:
        if getattr(task, "show_return_value_in_logs", None):
            task.show_return_value_in_logs = False
    elif hasattr(operator, "execute_callable"):
        task.partial_kwargs["show_return_value_in_logs"] = False


def _demand(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise AirflowClusterPolicyViolation(f"{where}: {what}")


def _params(where: str, params: Mapping[str, Any]) -> None:
    """Parameters are what a person may type in when starting a run: each must be unable to hold free text."""
    for name in params:
        _demand(name in references.KEYS, where, "a parameter's name is one of medbill_plugin.references.KEYS")
        param = params.get_param(name) if hasattr(params, "get_param") else params[name]
        schema = param.schema if isinstance(param, Param) else {}
        bound = (
            any(key in schema for key in _WRITES_NOTHING_FREE)
            or schema.get("format") == "date"
            or schema.get("type") in ("integer", "boolean")
        )
        _demand(
            bound,
            where,
            f"parameter {name} may hold any text; make it a Param of type integer or boolean, format date, or an enum",
        )
        given = [*schema.get("enum", ()), schema.get("const"), getattr(param, "value", None)]
        for value in given:
            if value is not None and not isinstance(value, bool) and type(value).__name__ != "ArgNotSet":
                _argument(where, value)


def _expanded(task: Any) -> Iterator[Any]:
    for name in ("op_kwargs_expand_input", "expand_input"):
        if (given := getattr(task, name, None)) is not None:
            yield getattr(given, "value", None)


def _literals(value: Any) -> Iterator[Any]:
    """The values written into a task's arguments; what comes from another task passed the XCom backend."""
    if value is None or isinstance(value, XComArg):
        return
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _literals(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _literals(item)
    else:
        yield value


def _argument(where: str, value: Any) -> None:
    if isinstance(value, str) and _TEMPLATE.search(value):
        _demand(
            bool(_ID_TEMPLATE.fullmatch(value.strip())),
            where,
            "a template other than {{ ds }} and {{ params.<practice, day or object> }}",
        )
        return
    try:
        references.check(value)
    except ReferenceRefused as error:
        raise AirflowClusterPolicyViolation(f"{where}: an argument is not a reference ({error.args[0]})") from None
