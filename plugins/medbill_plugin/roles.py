"""Roles of include/policies/roles.yml in Airflow: `python -m medbill_plugin.roles` makes them in the FAB auth manager, the
cluster policy gives every DAG its access."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from medbill.audit.roles import Roles
from medbill.settings import Settings


@lru_cache(maxsize=1)
def _roles() -> Roles:
    return Roles.load(Settings.from_env().policies)


def access(dag_id: str) -> dict[str, dict[str, set[str]]]:
    """access_control of a DAG: role -> resource -> actions. Starting a run takes the right to edit its DAG as well."""
    found: dict[str, dict[str, set[str]]] = {}
    for role in _roles().roles:
        if role.may_run(dag_id):
            found[role.name] = {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_create"}}
        elif role.may_read(dag_id):
            found[role.name] = {"DAGs": {"can_read"}}
    return found


def sync(manager: Any, roles: Roles) -> tuple[int, int]:
    """Make the roles in FAB and give them exactly their pages; rights on single DAGs are left as DAGs set them.

    manager: FAB's security manager. Returns how many permissions were given and taken. Doing it again changes nothing.
    """
    given = taken = 0
    for role in roles.roles:
        known = manager.add_role(role.name)
        wanted = {(action, resource) for resource, actions in role.pages.items() for action in actions}
        held = {(p.action.name, p.resource.name): p for p in known.permissions}
        for action, resource in sorted(wanted - held.keys()):
            manager.add_permission_to_role(known, manager.create_permission(action, resource))
            given += 1
        for action, resource in sorted(held.keys() - wanted):
            if not resource.startswith(("DAG:", "DAG Run:")):
                manager.remove_permission_from_role(known, held[action, resource])
                taken += 1
    return given, taken


def main() -> None:
    """Needs Airflow's settings with FabAuthManager and a migrated database; deploy/migrate.sh runs it at each start."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    roles = _roles()
    with get_application_builder() as builder:
        given, taken = sync(builder.sm, roles)
    print(f"{len(roles.roles)} roles: {given} permissions given, {taken} taken")


if __name__ == "__main__":
    main()
