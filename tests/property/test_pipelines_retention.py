"""A landed partition that is young, pending, held, in doubt or on hold is never purged; one that is none of these is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from medbill.pipelines import retention
from medbill.pipelines.context import Partition
from medbill.pipelines.retention import Landed, why_kept
from medbill.pipelines.retention_policy import Hold

NOW = datetime(2026, 11, 24, tzinfo=UTC)
COUNTS = st.integers(0, 2)
STATES = st.builds(
    Landed,
    newest=st.timedeltas(timedelta(days=-400), timedelta(days=2)).map(lambda ago: NOW + ago),
    published=st.booleans(),
    whole=st.booleans(),
    held_files=COUNTS,
    quarantined=COUNTS,
    held_claims=COUNTS,
    proposals=COUNTS,
    on_hold=st.booleans(),
)


@given(STATES, st.integers(1, 365))
def test_purge_never_takes_what_is_young_pending_or_held(state: Landed, days: int) -> None:
    young = NOW - state.newest < timedelta(days=days)
    needed = state.held_files or state.quarantined or state.held_claims or state.proposals
    why = why_kept(state, NOW, days)
    if young or needed or state.on_hold or not state.published or not state.whole:
        assert why is not None
    else:
        assert why is None
    assert (why == "young") == young


@given(STATES, st.integers(1, 365), st.integers(0, 1000))
def test_what_may_go_now_may_go_later(state: Landed, days: int, later: int) -> None:
    if why_kept(state, NOW, days) is None:
        assert why_kept(state, NOW + timedelta(days=later), days) is None


DAYS = st.dates(date(2026, 1, 1), date(2026, 12, 31))


@given(DAYS, DAYS, DAYS, st.sampled_from(["claims", "remittances", None]), st.sampled_from(["claims", "notes", None]))
def test_a_hold_covers_its_days_and_what_has_none(
    a: date, b: date, day: date, of: str | None, what: str | None
) -> None:
    hold = Hold("lakeside", of, min(a, b), max(a, b))
    right = of is None or what is None or of == what
    assert hold.covers("lakeside", what, day) == (right and min(a, b) <= day <= max(a, b))
    assert hold.covers("lakeside", what, None) == right
    assert not hold.covers("hillside", what, day)


@given(st.sampled_from(["claims", "remittances", "notes"]), DAYS, st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
def test_the_context_of_a_key_is_the_one_it_was_sealed_for(name: str, day: date, version: str) -> None:
    partition = Partition("lakeside", name, day)
    key = partition.landed_key(version)
    assert retention.context_of(key) == ("landing", partition.context(version))
    assert retention.context_of(f"quarantine/lakeside/files/{version}.sealed") == ("quarantine", f"file:{version}")
    for uri in (key, f"file:///home/objects/{key}", f"s3://bucket/zones/{key}"):
        assert retention.key_of(uri) == key
