"""Cluster policy, applied to every task as its DAG is read: what a task returns stays out of its log."""

from __future__ import annotations

from typing import Any


def task_policy(task: Any) -> None:
    if getattr(task, "show_return_value_in_logs", None):
        task.show_return_value_in_logs = False
    partial = getattr(task, "partial_kwargs", None)  # a mapped task, not made yet
    if partial is not None and hasattr(task.operator_class, "execute_callable"):
        partial["show_return_value_in_logs"] = False
