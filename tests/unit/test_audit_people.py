"""Only a named person decides."""

from __future__ import annotations

import pytest

from medbill.audit.people import require_person
from medbill.errors import DecisionRefused


@pytest.mark.parametrize(
    "actor", [None, "", "  ", "medbill", " MedBill ", "Airflow", "root", "svc-billing", "medbill_worker", "postgres"]
)
def test_a_service_account_decides_nothing(actor: str | None) -> None:
    with pytest.raises(DecisionRefused):
        require_person(actor)


def test_a_person_is_named_as_given_but_for_white_space() -> None:
    assert require_person("  Ana  Ruiz ") == "Ana Ruiz"
