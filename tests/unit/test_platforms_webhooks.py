"""Proof of a delivery: DrChrono's own scheme, secrets of a connection, and signatures that are forged in any way."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medbill.errors import PlatformError
from medbill.platforms import webhooks
from medbill.platforms.webhooks import DeliveryRefused, Secrets

TOKEN = "a secret of twenty-four bytes or more"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HERS = {"x-drchrono-signature": TOKEN, "x-drchrono-event": "APPOINTMENT_MODIFY", "x-drchrono-delivery": "d-1"}


def _secrets(scheme: str = "standard", *tokens: str) -> Secrets:
    return Secrets.of({"webhook_secrets": list(tokens or (TOKEN,)), "webhook_scheme": scheme})


def test_the_published_example_of_standard_webhooks() -> None:
    """The example of the Standard Webhooks reference libraries."""
    at = 1614265330
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(at),
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secrets = _secrets("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = webhooks.verify(headers, b'{"test": 2432232314}', secrets, datetime.fromtimestamp(at, UTC))
    assert found.id == headers["webhook-id"]
    with pytest.raises(DeliveryRefused, match="WEBHOOK_STALE"):
        webhooks.verify(headers, b'{"test": 2432232314}', secrets, datetime.fromtimestamp(at + 301, UTC))


def test_drchrono_proves_itself_by_the_secret_alone() -> None:
    found = webhooks.verify(HERS, b"{}", _secrets("drchrono", "another secret, a newer one", TOKEN), NOW)
    assert (found.id, found.type, found.sent_at) == ("d-1", "APPOINTMENT_MODIFY", None)


@pytest.mark.parametrize("signature", ["", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "ß" * 30])
def test_any_other_header_is_refused(signature: str) -> None:
    with pytest.raises(DeliveryRefused, match="WEBHOOK_SIGNATURE"):
        webhooks.verify({**HERS, "x-drchrono-signature": signature}, b"{}", _secrets("drchrono"), NOW)


def test_one_scheme_does_not_open_the_other() -> None:
    with pytest.raises(DeliveryRefused, match="WEBHOOK_SIGNATURE"):
        webhooks.verify(HERS, b"{}", _secrets("standard"), NOW)
    with pytest.raises(DeliveryRefused, match="WEBHOOK_CHALLENGE"):  # or anybody could have a delivery signed
        webhooks.answer_challenge(_secrets("standard"), "d-1.1.x")


def test_the_challenge_of_drchrono_is_answered() -> None:
    right = hmac.new(TOKEN.encode(), b"abc", hashlib.sha256).hexdigest()
    assert webhooks.answer_challenge(_secrets("drchrono"), "abc") == right
    for message in ("", "x" * 513, "a b"):
        with pytest.raises(DeliveryRefused):
            webhooks.answer_challenge(_secrets("drchrono"), message)


@pytest.mark.parametrize("id", ["", "a b", "x" * 129, "é", "a\nb"])
def test_an_id_that_could_be_anything_is_refused(id: str) -> None:
    with pytest.raises(DeliveryRefused, match="WEBHOOK_ID"):
        webhooks.verify({**HERS, "x-drchrono-delivery": id}, b"{}", _secrets("drchrono"), NOW)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"webhook_secrets": []},
        {"webhook_secrets": "short"},
        {"webhook_secrets": [TOKEN, ""]},
        {"webhook_secrets": ["whsec_not base64"]},
        {"webhook_secrets": [TOKEN], "webhook_scheme": "none"},
    ],
)
def test_a_connection_without_good_secrets_takes_no_delivery(extra: dict[str, Any]) -> None:
    with pytest.raises(PlatformError, match="WEBHOOK_NOT_CONFIGURED") as caught:
        Secrets.of(extra)
    assert "short" not in str(caught.value).replace("shorter", "")


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=200), st.binary(max_size=50))
def test_no_forged_headers_pass_or_crash(id: str, sent: str, signature: str, body: bytes) -> None:
    for given_signature in (signature, f"v1,{signature}", f"v1,{base64.b64encode(body).decode()} {signature}"):
        headers = {"webhook-id": id, "webhook-timestamp": sent, "webhook-signature": given_signature}
        with pytest.raises(DeliveryRefused):
            webhooks.verify(headers, body, _secrets(), NOW)
