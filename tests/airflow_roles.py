"""Run in a process of its own with FAB's settings: makes the roles, a user of each, and prints what each of them may."""

from __future__ import annotations

import json

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

from medbill.audit.roles import Roles
from medbill.settings import Settings
from medbill_plugin import roles

DAGS = (
    "extract_drchrono",
    "receive_remittances",
    "deidentify",
    "post_payments",
    "triage_denials",
    "apply_proposals",
    "report_denials",
    "guard",
)
QUESTIONS = {
    "see": ("GET", None),
    "see runs": ("GET", DagAccessEntity.RUN),
    "read logs": ("GET", DagAccessEntity.TASK_LOGS),
    "read code": ("GET", DagAccessEntity.CODE),
    "read audit log": ("GET", DagAccessEntity.AUDIT_LOG),
    "read xcom": ("GET", DagAccessEntity.XCOM),
    "trigger": ("POST", DagAccessEntity.RUN),
    "clear": ("PUT", DagAccessEntity.TASK_INSTANCE),
    "delete run": ("DELETE", DagAccessEntity.RUN),
    "pause": ("PUT", None),
    "delete": ("DELETE", None),
}

known = Roles.load(Settings.from_env().policies)
found: dict[str, object] = {"may": {}, "perms": {}}
with get_application_builder() as builder:
    manager = builder.sm
    found["first"] = roles.sync(manager, known)
    for dag in DAGS:
        manager.sync_perm_for_dag(dag, roles.access(dag))
    found["again"] = roles.sync(manager, known)
    extra = manager.create_permission("can_edit", "Connections")
    manager.add_permission_to_role(manager.find_role("Analyst"), extra)
    found["tampered"] = roles.sync(manager, known)
    auth = FabAuthManager()
    for number, role in enumerate(known.roles):
        user = manager.add_user(
            f"user{number}", "A", "B", f"user{number}@practice.invalid", manager.find_role(role.name), "a password"
        )
        found["may"][role.name] = {  # type: ignore[index]
            dag: [
                question
                for question, (method, entity) in QUESTIONS.items()
                if auth.is_authorized_dag(method=method, access_entity=entity, details=DagDetails(id=dag), user=user)
            ]
            for dag in DAGS
        }
        found["perms"][role.name] = sorted(f"{action} {resource}" for action, resource in user.perms)  # type: ignore[index]
print("FOUND" + json.dumps(found))
