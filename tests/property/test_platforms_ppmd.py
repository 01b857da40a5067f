"""AdvancedMD's messages on anything: one child or several are the same, hostile bytes one typed error; peak hours in Denver."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from medbill.errors import PlatformError
from medbill.platforms import ppmd
from medbill.platforms.advancedmd_session import OFF_PEAK, PEAK, is_peak, limits
from medbill.platforms.budget import Limit, MemoryCalls, RateBudget
from medbill.sandbox.advancedmd import _as_sent

ATTRIBUTES = st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), st.text(max_size=12), max_size=4)
VISITS = st.lists(st.tuples(ATTRIBUTES, st.lists(ATTRIBUTES, max_size=3)), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Results", "Error", "Fault", "detail", "code", "@success", "@x", "visit"]), inner
        )
    ),
    max_leaves=12,
)


def at(named: dict[str, str]) -> dict[str, Any]:
    return {f"@{name}": value for name, value in named.items()}


def charges_of(visit: Any) -> list[dict[str, str]]:
    return [ppmd.attributes(c) for c in ppmd.nodes(visit, "chargelist", "charge")]


@given(VISITS)
def test_what_was_listed_is_read_whether_it_came_as_one_or_as_a_list(visits: list[Any]) -> None:
    """Attributes alone tell empty elements apart from none: those come as null and are no element."""
    visits = [({"id": "1", **named}, [{"id": "2", **c} for c in charges]) for named, charges in visits]
    rows = [{**at(named), "chargelist": {"charge": [at(c) for c in charges]}} for named, charges in visits]
    for shown in (
        _as_sent({"visitlist": {"visit": rows}}),
        {"visitlist": {"visit": rows}},
        {"visitlist": [{"visit": rows}]},
    ):
        sent = json.dumps({"PPMDResults": {"Results": shown}}).encode()
        found = ppmd.nodes(ppmd.results("x", sent), "Results", "visitlist", "visit")
        read = [(ppmd.attributes(v), charges_of(v)) for v in found]
        assert read == [
            ({k: v.strip() for k, v in named.items()}, [{k: v.strip() for k, v in c.items()} for c in charges])
            for named, charges in visits
        ]


@given(JSON)
def test_any_json_is_read_or_refused_with_one_typed_error(value: Any) -> None:
    for sent in (value, {"PPMDResults": value}):
        try:
            found = ppmd.results("POST x", json.dumps(sent).encode())
        except PlatformError as error:
            assert error.code == "PLATFORM_BAD_ANSWER" and error.__cause__ is None
            continue
        ppmd.fault(found)
        for node in ppmd.nodes(found, "Results", "visit"):
            assert all(isinstance(text, str) for text in ppmd.attributes(node).values())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_typed_error(content: bytes) -> None:
    for read in (ppmd.results, ppmd.login_answer):
        with pytest.raises(PlatformError) as error:
            read("POST x", content)
        assert error.value.code == "PLATFORM_BAD_ANSWER"


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"PPMDResults":' * 50_000])
def test_nesting_without_end_is_refused(content: bytes) -> None:
    with pytest.raises(PlatformError):
        ppmd.results("x", content)


def test_entities_in_a_login_answer_are_refused() -> None:
    text = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><PPMDResults><Results success="1">&a;</Results></PPMDResults>'
    with pytest.raises(PlatformError):
        ppmd.login_answer("x", text.encode())


@given(st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=30))
def test_any_password_comes_through_as_it_is(password: str) -> None:
    try:
        sent = ppmd.login(datetime(2026, 6, 1, tzinfo=UTC), "u", password, "1", "A")
    except PlatformError as error:
        assert error.code == "PLATFORM_CREDENTIALS" and password not in repr(error.args[1:])
        assert any(0x7F <= ord(c) < 0xA0 for c in password)
    else:
        assert etree.fromstring(sent).get("psw") == password


def test_a_message_says_its_time_in_denver() -> None:
    sent = json.loads(
        ppmd.message("a", "api", datetime(2026, 7, 1, 20, 5, 9, tzinfo=UTC), {"x": "1"}, {"file": {"@y": ""}})
    )
    assert sent["ppmdmsg"] == {
        "@action": "a",
        "@class": "api",
        "@msgtime": "07/01/2026 02:05:09 PM",
        "@nocookie": "0",
        "@x": "1",
        "file": {"@y": ""},
    }


@pytest.mark.parametrize(
    ("identifier", "number"),
    [("pat45", "45"), ("45", "45"), ("prof3", "3"), ("", ""), ("A-12", "A-12"), ("12B", "12B"), ("pat", "pat")],
)
def test_ids_are_read_without_the_letters_of_their_kind(identifier: str, number: str) -> None:
    assert ppmd.number(identifier) == number


@pytest.mark.parametrize("code", ["1025", "-1", " 7 ", {"#text": "7"}, 7])
def test_a_fault_is_found_however_its_code_is_written(code: Any) -> None:
    found = {"Results": {"@success": "0"}, "Error": {"Fault": {"detail": {"code": code, "description": "d"}}}}
    text = str(code["#text"] if isinstance(code, dict) else code).strip()
    assert ppmd.fault(found) == (text, "d")


def test_no_success_without_a_fault_is_a_fault_all_the_same() -> None:
    assert ppmd.fault({"Results": {"@success": "0"}}) == ("", "")
    assert ppmd.fault({"Results": {}, "Error": "something"}) == ("", "")
    assert ppmd.fault({"Results": {"@success": "1"}, "Error": None}) is None


# --- peak hours ---


@pytest.mark.parametrize(
    ("utc", "peak"),
    [
        # Friday before the clocks go forward, Sunday of the change, Monday after
        ("2026-03-06T12:59", False),
        ("2026-03-06T13:00", True),
        ("2026-03-08T13:00", False),
        ("2026-03-09T11:59", False),
        ("2026-03-09T12:00", True),
        ("2026-03-09T23:59", True),
        ("2026-03-10T00:00", False),
        # and back
        ("2026-10-30T12:00", True),
        ("2026-10-30T23:59", True),
        ("2026-10-31T00:00", False),
        ("2026-11-01T15:00", False),
        ("2026-11-02T12:00", False),
        ("2026-11-02T13:00", True),
        ("2026-11-03T00:59", True),
        ("2026-11-03T01:00", False),
    ],
)
def test_peak_hours_follow_denver_through_the_changes_of_its_clocks(utc: str, peak: bool) -> None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert is_peak(moment) is peak
    (limit,) = limits(now=lambda: moment)("tier2")
    assert limit == Limit((PEAK if peak else OFF_PEAK)["tier2"], 60.0)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)))  # noqa: DTZ001
def test_a_moment_is_peak_whatever_zone_it_is_said_in(moment: datetime) -> None:
    utc = moment.replace(tzinfo=UTC)
    local = utc.astimezone(ZoneInfo("America/Denver"))
    assert is_peak(utc) is is_peak(local) is is_peak(utc.astimezone(ZoneInfo("Asia/Kathmandu")))
    assert is_peak(utc) is (local.isoweekday() <= 5 and 6 <= local.hour <= 17)


@pytest.mark.parametrize(("day", "opens"), [((2026, 3, 9), 12), ((2026, 11, 2), 13)])
def test_no_minute_around_the_start_of_peak_has_more_calls_than_it_may(day: tuple[int, int, int], opens: int) -> None:
    """Calls as fast as they are let, from five minutes before 06:00 in Denver, on the Monday after each change."""
    start = datetime(*day, opens, tzinfo=UTC) - timedelta(minutes=5)
    clock = [0.0]

    def now() -> datetime:
        return start + timedelta(seconds=clock[0])

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    budget = RateBudget(limits(now=now), MemoryCalls(lambda: clock[0]), max_wait=120, sleep=sleep)
    taken = []
    while clock[0] < 600:
        budget.take("tier2")
        taken.append(clock[0])
        clock[0] += 0.05
    peak = [t for t in taken if t >= 300]
    assert len(taken) > 5 * 115 and 5 * 12 - 12 <= len(peak) <= 5 * 12 + 12
    # a minute that lies wholly in peak hours
    assert all(sum(1 for t in taken if s <= t < s + 60) <= 12 for s in peak if s >= 300)


def test_a_contract_takes_the_place_of_the_published_limits() -> None:
    noon = datetime(2026, 6, 24, 18, tzinfo=UTC)
    of = limits({"tier1": 30}, now=lambda: noon)
    assert of("tier1") == (Limit(30, 60.0),) and of("tier3") == (Limit(PEAK["tier3"], 60.0),)
