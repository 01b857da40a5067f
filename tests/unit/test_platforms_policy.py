"""Minimal extraction, rate budget, tokens and the address allow-list, without a network."""

import logging
import stat
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from medbill.errors import PlatformError, PolicyError
from medbill.platforms import drchrono
from medbill.platforms.base import reference
from medbill.platforms.budget import Limit, MemoryCalls, RateBudget, always
from medbill.platforms.drchrono import DrChrono
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import Credentials, FileTokenStore, Tokens
from medbill.platforms.values import Unreadable

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"
CREDENTIALS = Credentials("id", "s3cret-value", "r3fresh-value")


class Clock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def policy(tmp_path, text):
    (tmp_path / "extraction.yml").write_text(text)
    return ExtractionPolicy.load(
        tmp_path, "drchrono", {"doctors": frozenset({"id", "npi"})}, {"doctors": frozenset({"id"})}
    )


def test_the_shipped_policy_fits_the_adapter():
    found = ExtractionPolicy.load(POLICIES, "drchrono", drchrono._USED, drchrono._NEEDED)
    assert found.keep("patients_summary", {"id": 1, "last_name": "X", "gender": "Y"}) == {"id": 1, "last_name": "X"}
    assert found.keep("patients", {"id": 1}) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("platforms: {drchrono: {doctors: [id, home_phone]}}", "nobody uses"),
        ("platforms: {drchrono: {doctors: [npi]}}", "leaves out"),
        ("platforms: {}", "missing, malformed"),
        ("platforms: [", "missing, malformed"),
        ("", "missing, malformed"),
    ],
)
def test_a_wrong_policy_stops_the_adapter(tmp_path, text, says):
    with pytest.raises(PolicyError, match=says):
        policy(tmp_path, text)


def test_a_missing_policy_stops_the_adapter(tmp_path):
    with pytest.raises(PolicyError):
        ExtractionPolicy.load(tmp_path, "drchrono", {}, {})


def test_budget_spreads_bursts():
    clock = Clock()
    budget = RateBudget(always(Limit(2, 1)), MemoryCalls(clock), sleep=clock.sleep)
    for _ in range(5):
        budget.take()
    assert clock.now == pytest.approx(2.0)


def test_budget_refuses_to_sleep_for_an_hour():
    clock = Clock()
    budget = RateBudget(always(Limit(10, 1), Limit(3, 3600)), MemoryCalls(clock), sleep=clock.sleep)
    for _ in range(3):
        budget.take()
    with pytest.raises(PlatformError) as error:
        budget.take()
    assert error.value.code == "PLATFORM_RATE_LIMITED"
    clock.now = 3600.5
    budget.take()


def test_budget_refuses_a_long_retry_after():
    clock = Clock()
    with pytest.raises(PlatformError):
        RateBudget(always(), MemoryCalls(clock), max_wait=5, sleep=clock.sleep).pause(6)
    assert clock.slept == []


@pytest.mark.parametrize(
    "url",
    [
        "http://app.drchrono.com",
        "https://app.drchrono.com.evil.example",
        "https://evil.example",
        "https://user:pw@app.drchrono.com",
        "https://app.drchrono.com/else",
        "https://app.drchrono.com?x=1",
        "ftp://127.0.0.1",
        "http://[::1",
        "",
    ],
)
def test_addresses_off_the_allow_list_are_refused(url):
    with pytest.raises(PlatformError) as error:
        DrChrono(url, CREDENTIALS, policies=POLICIES)
    assert error.value.code == "PLATFORM_HOST_REFUSED"
    assert "evil" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["https://app.drchrono.com", "http://127.0.0.1:9", "http://localhost:9/", "http://[::1]:9"]
)
def test_allowed_addresses(url):
    DrChrono(url, CREDENTIALS, policies=POLICIES).close()


def test_secrets_stay_out_of_repr():
    shown = repr(CREDENTIALS) + repr(Tokens("acc3ss", "r3fresh-value", 1.0))
    assert "s3cret" not in shown and "r3fresh" not in shown and "acc3ss" not in shown


def test_token_file_is_private_and_survives(tmp_path):
    store = FileTokenStore(tmp_path / "deep" / "tokens.json")
    assert store.read() is None
    store.write(Tokens("a", "b", 12.5))
    assert FileTokenStore(tmp_path / "deep" / "tokens.json").read() == Tokens("a", "b", 12.5)
    assert stat.S_IMODE((tmp_path / "deep" / "tokens.json").stat().st_mode) == 0o600


def test_token_lock_keeps_others_out(tmp_path):
    one, other = FileTokenStore(tmp_path / "t"), FileTokenStore(tmp_path / "t")
    entered = threading.Event()

    def enter():
        with other.locked():
            entered.set()

    with one.locked():
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(5)
    thread.join()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"access_token": "a"}'])
def test_a_broken_token_file_says_so(tmp_path, text):
    (tmp_path / "t").write_text(text)
    with pytest.raises(PlatformError) as error:
        FileTokenStore(tmp_path / "t").read()
    assert error.value.code == "PLATFORM_CREDENTIALS"


def test_a_missing_credentials_file_says_so(tmp_path):
    with pytest.raises(PlatformError) as error:
        Credentials.from_file(tmp_path / "none.json")
    assert error.value.code == "PLATFORM_CREDENTIALS"


def test_http_loggers_stay_quiet():
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpcore.http11").isEnabledFor(logging.DEBUG)


def test_diagnosis_pointers_are_positions_or_codes():
    assert drchrono._diagnoses(["1", "3", "", "0", "9"], ["I10", "E11.9", "R07.9"]) == ["I10", "R07.9"]
    assert drchrono._diagnoses(["I10", ""], []) == ["I10"]


def line(**record):
    return drchrono._line("9", 1, {"id": 1, **record}, {})


def test_line_charge_is_exact_or_refused():
    assert line(billed=Decimal("12.50"))["charge"] == Decimal("12.50")
    assert line(billed="12.5")["charge"] == Decimal("12.50")
    assert line(price=Decimal("4.5"), quantity=Decimal("3.0"))["charge"] == Decimal("13.50")
    assert line(billed=Decimal("-3"))["charge"] == Decimal("-3.00")
    for bad in ("abc", Decimal("1.005"), "NaN", "1e40", None):
        with pytest.raises(Unreadable):
            line(billed=bad)


@pytest.mark.parametrize("key", ["short", "has space in it", "new\nline-12345", "x" * 101, "medbill:abcdefgh"])
def test_idempotency_keys_are_plain(key):
    with pytest.raises(ValueError):
        reference(key)
