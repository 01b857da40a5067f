"""What Airflow loads before all else, in every one of its processes: the cluster policy and the doors of its database."""

from __future__ import annotations

import sys
from typing import Any

from medbill_plugin import doors

__all__ = ["dag_policy", "task_policy"]


def dag_policy(dag: Any) -> None:
    """See medbill_plugin.policy.check_dag; who may see and start it comes from roles.yml, not from the DAG."""
    from medbill_plugin import policy, roles

    policy.check_dag(dag)
    dag.access_control = roles.access(dag.dag_id)


def task_policy(task: Any) -> None:
    """See medbill_plugin.policy.check_task."""
    from medbill_plugin import policy

    policy.check_task(task)


doors.refuse_command_line(sys.argv)
doors.guard_database()
