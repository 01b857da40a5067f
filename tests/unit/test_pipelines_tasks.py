"""What leaves a task by exception: our own words, or the class and place of a failure, never a value."""

from __future__ import annotations

import traceback

import pytest

from medbill.errors import (
    KeyUnavailable,
    LedgerUnavailable,
    MedbillError,
    StoreUnavailable,
    TamperedData,
    Unexpected,
)
from medbill.pipelines import tasks


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_library_error_that_quotes_a_record_comes_out_without_it() -> None:
    @tasks.without_values
    def task() -> int:
        return int("JANE QUILLSWORTH")

    with pytest.raises(Unexpected, match="UNEXPECTED: ValueError in ") as caught:
        task()
    assert "QUILLSWORTH" not in text_of(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_our_error_keeps_its_words_and_loses_its_cause() -> None:
    @tasks.without_values
    def task() -> None:
        try:
            int("JANE QUILLSWORTH")
        except ValueError as error:
            raise StoreUnavailable("the store is down; retry") from error

    with pytest.raises(StoreUnavailable, match="the store is down") as caught:
        task()
    assert "QUILLSWORTH" not in text_of(caught.value)


def test_the_place_is_named() -> None:
    with pytest.raises(Unexpected, match=r"in tasks\.\w+:\d+"):
        tasks.post({})


def test_a_result_passes() -> None:
    assert tasks.without_values(lambda n: n + 1)(1) == 2


def test_a_partition_that_fails_stops_itself_and_is_told_at_the_end() -> None:
    seen = []

    def step(_: object, partition: str) -> dict[str, str] | None:
        seen.append(partition)
        if partition == "bad":
            raise TamperedData("altered")
        return {"day": partition}

    with pytest.raises(TamperedData):
        tasks._each(step, None, ["a", "bad", "b"])
    assert seen == ["a", "bad", "b"]
    assert tasks._each(step, None, ["a", "b"]) == {"partitions": 2, "days": ["a", "b"]}


@pytest.mark.parametrize("error", [StoreUnavailable("down"), LedgerUnavailable("down"), KeyUnavailable("gone")])
def test_without_database_ledger_or_keys_nothing_further_is_tried(error: MedbillError) -> None:
    seen = []

    def step(_: object, partition: str) -> None:
        seen.append(partition)
        raise error

    with pytest.raises(type(error)):
        tasks._each(step, None, ["a", "b"])
    assert seen == ["a"]
