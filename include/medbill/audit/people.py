"""Who may decide: a named person, never a service account."""

from __future__ import annotations

from medbill.errors import DecisionRefused

_NOT_PEOPLE = frozenset(
    {"", "-", "admin", "airflow", "anonymous", "medbill", "none", "nobody", "postgres", "root", "system", "unknown"}
)


def require_person(actor: str | None) -> str:
    """The name as the ledger records it. Raises DecisionRefused unless it names a person: a service account decides nothing.

    45 CFR 164.312(a)(2)(i) asks for a unique name of each user; a shared account's name is none.
    """
    name = " ".join((actor or "").split())
    if name.casefold() in _NOT_PEOPLE or name.casefold().startswith(("medbill-", "medbill_", "svc-", "svc_")):
        raise DecisionRefused("a decision needs a person's name: give --actor or set MEDBILL_ACTOR")
    return name
