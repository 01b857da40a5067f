"""What a person may decide and run, by include/policies/roles.yml (45 CFR 164.308(a)(4), access authorization).

The names are those people give; that a name is theirs is for the login of the machine, of Airflow or of the database to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from medbill.audit.ledger import Event, Ledger, RunContext
from medbill.audit.people import require_person
from medbill.errors import DecisionRefused, PolicyError
from medbill.settings import Settings
from medbill.store import db

#: Commands a role may be given.
COMMANDS = frozenset({"reveal", "shred", "keys", "release", "abandon", "purge"})
#: Roles of the embedded stack's auth manager, the one with the least rights first.
EMBEDDED = ("viewer", "user", "op", "admin")


@dataclass(frozen=True)
class Role:
    """One role. reads, runs: patterns of DAG ids. pages: Airflow resource -> actions. decides: kinds, or "*"."""

    name: str
    reads: tuple[str, ...]
    runs: tuple[str, ...]
    pages: dict[str, frozenset[str]]
    decides: frozenset[str]
    commands: frozenset[str]
    embedded: str

    def may_read(self, dag_id: str) -> bool:
        return any(fnmatchcase(dag_id, pattern) for pattern in self.reads)

    def may_run(self, dag_id: str) -> bool:
        return any(fnmatchcase(dag_id, pattern) for pattern in self.runs)

    def may_decide(self, kind: str) -> bool:
        return kind in self.decides or "*" in self.decides


@dataclass(frozen=True)
class Person:
    name: str
    login: str
    roles: tuple[Role, ...]

    @property
    def embedded(self) -> str:
        """Role in the embedded stack: the most that one of the person's roles gives."""
        return max((role.embedded for role in self.roles), key=EMBEDDED.index)


@dataclass(frozen=True)
class Roles:
    roles: tuple[Role, ...]
    people: tuple[Person, ...]

    @staticmethod
    def load(policies: Path) -> Roles:
        """Raises PolicyError where roles.yml is missing or malformed, or names what there is not."""
        try:
            content = yaml.safe_load((policies / "roles.yml").read_text())
            roles = tuple(_role(str(name), row, content["pages"]) for name, row in content["roles"].items())
            known = {role.name: role for role in roles}
            people = tuple(
                Person(str(p["name"]), str(p["login"]), tuple(known[r] for r in p["roles"])) for p in content["people"]
            )
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError("roles.yml is missing or malformed; see include/policies/roles.yml") from error
        names = [name.casefold() for p in people for name in {p.name, p.login}]
        if len(set(names)) != len(names) or not all(p.roles for p in people):
            raise PolicyError("roles.yml: every person has a name and a login of their own, and a role")
        return Roles(roles, people)

    def person(self, actor: str | None) -> Person | None:
        """Whoever goes by this name or login."""
        name = require_person(actor).casefold()
        return next((p for p in self.people if name in (p.name.casefold(), p.login.casefold())), None)

    def require_decision(self, actor: str | None, kind: str) -> Person:
        """Raises DecisionRefused (code ROLE_REFUSED) unless a role of the person decides on proposals of this kind."""
        person = self.person(actor)
        if person is None or not any(role.may_decide(kind) for role in person.roles):
            raise DecisionRefused(
                f"deciding on a proposal of kind {kind} takes one of: {_names(r for r in self.roles if r.may_decide(kind))}"
                " (roles.yml)",
                code="ROLE_REFUSED",
            )
        return person

    def require_command(self, actor: str | None, command: str) -> Person:
        """Raises DecisionRefused (code ROLE_REFUSED) unless a role of the person may run the command."""
        person = self.person(actor)
        if person is None or not any(command in role.commands for role in person.roles):
            raise DecisionRefused(
                f"{command} takes one of: {_names(r for r in self.roles if command in r.commands)} (roles.yml)",
                code="ROLE_REFUSED",
            )
        return person


def permit(settings: Settings, actor: str | None, command: str) -> str:
    """The name of a person who may run a command of COMMANDS. Raises DecisionRefused; a refusal by role is in the ledger."""
    event = Event("execute", f"command.{command}", "operations", "-", f"command:{command}")
    return _or_told(settings, actor, event, lambda roles: roles.require_command(actor, command))


def decide(settings: Settings, actor: str | None, kind: str, proposal: Event) -> str:
    """As permit(), for a decision on a proposal of a kind; proposal: the ledger's event of that decision."""
    return _or_told(settings, actor, proposal, lambda roles: roles.require_decision(actor, kind))


def _or_told(settings: Settings, actor: str | None, event: Event, check: Callable[[Roles], Person]) -> str:
    name = require_person(actor)
    try:
        check(Roles.load(settings.policies))
    except DecisionRefused as refused:
        told = replace(event, details={"error": refused.code})
        Ledger(db.engine(settings.database_url), RunContext(on_behalf_of=name)).record(told, outcome="failure")
        raise
    return name


def _names(roles: Any) -> str:
    return ", ".join(role.name for role in roles) or "no role"


def _role(name: str, row: dict[str, Any], pages: dict[str, dict[str, list[str]]]) -> Role:
    granted: dict[str, frozenset[str]] = {}
    for chosen in row["pages"]:
        for resource, actions in pages[chosen].items():
            granted[resource] = granted.get(resource, frozenset()) | frozenset(actions)
    role = Role(
        name=name,
        reads=tuple(row["reads"]),
        runs=tuple(row["runs"]),
        pages=granted,
        decides=frozenset(row["decides"]),
        commands=frozenset(row["commands"]),
        embedded=row["embedded"],
    )
    if not role.commands <= COMMANDS or role.embedded not in EMBEDDED:
        raise PolicyError(f"roles.yml: {name} has a command or an embedded role that there is not")
    return role
