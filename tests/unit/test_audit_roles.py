"""include/policies/roles.yml: who may decide on what, and that the file cannot name what there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from medbill.audit.roles import Roles
from medbill.errors import DecisionRefused, PolicyError
from medbill.proposals.lifecycle import KINDS

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"


@pytest.fixture
def roles() -> Roles:
    return Roles.load(POLICIES)


def _refusal(roles: Roles, actor: str | None, kind: str) -> str:
    with pytest.raises(DecisionRefused) as caught:
        roles.require_decision(actor, kind)
    return caught.value.code


def test_it_has_the_seven_roles_and_each_kind_has_somebody_to_decide(roles: Roles) -> None:
    assert [role.name for role in roles.roles] == [
        "Billing Manager",
        "AR Specialist",
        "Coder",
        "Compliance Officer",
        "Supervisor",
        "Data Engineer",
        "Analyst",
    ]
    for kind in KINDS:
        assert [role for role in roles.roles if role.may_decide(kind)], kind
    for role in roles.roles:
        assert role.decides <= {*KINDS, "*"}, role.name


def test_a_person_decides_by_role_under_name_or_login(roles: Roles) -> None:
    assert roles.require_decision("Ana Ruiz", "posting").login == "ana.ruiz"
    assert roles.require_decision(" ana.ruiz ", "posting").name == "Ana Ruiz"
    assert roles.require_decision("Cai Lin", "denial_follow_up").name == "Cai Lin"
    assert roles.require_decision("Ben Ode", "a kind that comes later").name == "Ben Ode"


@pytest.mark.parametrize("actor", ["Cai Lin", "Dev Rao", "Eva Holm", "finn.aro", "Gia Moss", "Nobody Known"])
def test_whoever_lacks_the_role_is_refused(roles: Roles, actor: str) -> None:
    assert _refusal(roles, actor, "posting") == "ROLE_REFUSED"


@pytest.mark.parametrize("actor", ["", None, "medbill", "admin", "airflow"])
def test_no_service_account_has_a_role(roles: Roles, actor: str | None) -> None:
    assert _refusal(roles, actor, "posting") == DecisionRefused.code


def test_commands_take_a_role_too(roles: Roles) -> None:
    assert roles.require_command("Eva Holm", "reveal").login == "eva.holm"
    for actor, command in (("Gia Moss", "reveal"), ("Ana Ruiz", "shred"), ("Ben Ode", "keys"), ("Eva Holm", "keys")):
        with pytest.raises(DecisionRefused) as caught:
            roles.require_command(actor, command)
        assert caught.value.code == "ROLE_REFUSED"


def test_nobody_is_more_than_an_operator_in_the_embedded_stack(roles: Roles) -> None:
    assert {person.embedded for person in roles.people} == {"viewer", "user", "op"}


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"commands: \[release\]", "commands: [everything]"),
        (r"embedded: op", "embedded: root"),
        (r"roles: \[Analyst\]\}", "roles: [Analist]}"),
        (r"roles: \[Analyst\]\}", "roles: []}"),
        (r"login: gia\.moss", "login: ana.ruiz"),
        (r"pages: \[own, runs\]", "pages: [own, everything]"),
        (r"(?s)people:.*", ""),
        (r"roles:", "- roles"),
    ],
)
def test_a_mistake_in_the_file_is_told(tmp_path: Path, pattern: str, replacement: str) -> None:
    text = (POLICIES / "roles.yml").read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    (tmp_path / "roles.yml").write_text(changed)
    with pytest.raises(PolicyError, match=r"roles\.yml"):
        Roles.load(tmp_path)


def test_the_pages_it_names_are_words_of_fab() -> None:
    from airflow.providers.fab.www.security import permissions

    known = {
        value for name, value in vars(permissions).items() if name.startswith("RESOURCE_") and isinstance(value, str)
    }
    actions = {value for name, value in vars(permissions).items() if name.startswith("ACTION_")}
    for resources in yaml.safe_load((POLICIES / "roles.yml").read_text())["pages"].values():
        assert set(resources) <= known
        assert {action for granted in resources.values() for action in granted} <= actions
