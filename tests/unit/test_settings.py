"""Settings that are numbers."""

from __future__ import annotations

import pytest

from medbill.errors import PolicyError
from medbill.settings import Settings


def test_times_of_the_inbox() -> None:
    plain = Settings.from_env({})
    assert (plain.inbox_settle, plain.inbox_patience) == (2.0, 300.0)
    assert Settings.from_env({"MEDBILL_INBOX_SETTLE": "0.5"}).inbox_settle == 0.5


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "86401"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="MEDBILL_INBOX_PATIENCE"):
        Settings.from_env({"MEDBILL_INBOX_PATIENCE": text})
