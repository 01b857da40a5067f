"""AWS KMS as the key service, on moto behind a proxy that refuses what AWS refuses (tests/kms_strict.py)."""

from __future__ import annotations

import base64
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medbill.errors import KeyUnavailable, PolicyError, TamperedData
from medbill.settings import Settings
from medbill.store.keys import KeyService, LocalKeyring, open_keys
from medbill.store.kms import KmsKeys

CONTEXT = {"practice": "lakeside", "purpose": "landing", "version": "1"}


def opened(url: str) -> KeyService:
    return open_keys(Settings.from_env({"MEDBILL_KEYRING": url}))


def test_round_trip_by_arn_id_and_alias(kms: Any) -> None:
    arn = kms.key()
    alias = f"alias/{os.urandom(4).hex()}"
    kms.admin.create_alias(AliasName=alias, TargetKeyId=arn)
    made = opened(f"kms://{arn}").data_key(CONTEXT, first=True)
    assert len(made.plaintext) == 32 and made.plaintext not in made.wrapped and made.master_key == arn
    assert made.plaintext.hex() not in repr(made)
    for key in (arn, arn.rpartition("/")[2], alias):
        assert opened(f"kms://{key}?region=us-east-1").unwrap(made.wrapped, CONTEXT) == made.plaintext


def test_another_context_does_not_unwrap(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    wrapped = keys.data_key(CONTEXT).wrapped
    for context in ({**CONTEXT, "practice": "hillside"}, {**CONTEXT, "more": "1"}, {}):
        with pytest.raises(TamperedData):
            keys.unwrap(wrapped, context)
        with pytest.raises(TamperedData):
            keys.rewrap(wrapped, context)


def test_altered_and_cut_keys_are_noticed(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    wrapped = keys.data_key(CONTEXT).wrapped
    for at in range(0, len(wrapped), 7):
        with pytest.raises((TamperedData, KeyUnavailable)):
            keys.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], CONTEXT)
        with pytest.raises(TamperedData):
            keys.unwrap(wrapped[:at], CONTEXT)
    with pytest.raises(TamperedData):
        keys.unwrap(wrapped + b"\0" * 7000, CONTEXT)


def test_rotation_on_demand_keeps_old_keys_readable(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    old = keys.data_key(CONTEXT)
    kms.admin.rotate_key_on_demand(KeyId=keys.current)
    new = keys.data_key(CONTEXT)
    assert keys.unwrap(old.wrapped, CONTEXT) == old.plaintext and keys.unwrap(new.wrapped, CONTEXT) == new.plaintext


def test_rewrap_to_a_new_key_and_retirement_of_the_old(kms: Any) -> None:
    one, two = kms.key(), kms.key()
    made = KmsKeys(one).data_key(CONTEXT)
    with pytest.raises(KeyUnavailable) as caught:  # nobody said that the first may still unwrap
        KmsKeys(two).rewrap(made.wrapped, CONTEXT)
    assert caught.value.code == "KEY_OTHER"
    both = opened(f"kms://{two}?former={one}")
    assert both.unwrap(made.wrapped, CONTEXT) == made.plaintext
    moved = both.rewrap(made.wrapped, CONTEXT)
    assert (moved.plaintext, moved.master_key) == (made.plaintext, two) and moved.wrapped != made.wrapped
    kms.condemn(one)
    assert opened(f"kms://{two}").unwrap(moved.wrapped, CONTEXT) == made.plaintext
    with pytest.raises(KeyUnavailable) as caught:
        both.unwrap(made.wrapped, CONTEXT)
    assert caught.value.code == "KEY_PENDING_DELETION"


def test_an_alias_that_moved_on_still_opens_what_the_former_key_wrapped(kms: Any) -> None:
    one, two, alias = kms.key(), kms.key(), f"alias/{os.urandom(4).hex()}"
    kms.admin.create_alias(AliasName=alias, TargetKeyId=one)
    made = KmsKeys(alias, region="us-east-1").data_key(CONTEXT)
    kms.admin.update_alias(AliasName=alias, TargetKeyId=two)
    keys = KmsKeys(alias, region="us-east-1", former=[one])
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext
    assert keys.rewrap(made.wrapped, CONTEXT).master_key == two


def uses(keys: KmsKeys, wrapped: bytes) -> list[Callable[[], object]]:
    return [
        lambda: keys.data_key(CONTEXT, first=True),
        lambda: keys.unwrap(wrapped, CONTEXT),
        lambda: keys.rewrap(wrapped, CONTEXT),
    ]


def refused(keys: KmsKeys, wrapped: bytes, code: str) -> None:
    for use in uses(keys, wrapped):
        with pytest.raises(KeyUnavailable) as caught:
            use()
        assert caught.value.code == code
        assert not any(secret in str(caught.value) for secret in ("arn:", "lakeside", keys.current, "refused:"))


def test_a_disabled_key_opens_nothing_until_it_is_enabled(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    made = keys.data_key(CONTEXT)
    kms.disable(keys.current)
    refused(keys, made.wrapped, "KEY_DISABLED")
    kms.enable(keys.current)
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext


def test_a_key_pending_deletion_opens_nothing_until_it_is_saved(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    made = keys.data_key(CONTEXT)
    kms.condemn(keys.current)
    refused(keys, made.wrapped, "KEY_PENDING_DELETION")
    kms.spare(keys.current)
    refused(keys, made.wrapped, "KEY_DISABLED")
    kms.enable(keys.current)
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext


def test_moto_alone_would_have_opened_both(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a proxy; when this fails moto has become strict and the proxy may go."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", kms.admin.meta.endpoint_url)
    keys = KmsKeys(kms.key())
    made = keys.data_key(CONTEXT)
    kms.disable(keys.current)
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext
    kms.condemn(keys.current)
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext


@pytest.mark.parametrize(
    ("aws", "ours"),
    [
        ("AccessDeniedException", "KEY_DENIED"),
        ("UnrecognizedClientException", "KEY_DENIED"),
        ("ExpiredTokenException", "KEY_DENIED"),
        ("InvalidKeyUsageException", "KEY_UNAVAILABLE"),
        ("ValidationException", "KEY_UNAVAILABLE"),
        ("ThrottlingException", "KEY_SERVICE_UNREACHABLE"),
        ("KMSInternalException", "KEY_SERVICE_UNREACHABLE"),
    ],
)
def test_refusals_are_typed(kms: Any, aws: str, ours: str) -> None:
    keys = KmsKeys(kms.key())
    wrapped = keys.data_key(CONTEXT).wrapped
    kms.calls.clear()
    kms.refuse = aws
    refused(keys, wrapped, ours)
    assert len(kms.calls) == (9 if ours == "KEY_SERVICE_UNREACHABLE" else 3)  # three attempts each, or one


def test_an_unknown_key_is_typed(kms: Any) -> None:
    for key in ("00000000-0000-0000-0000-000000000000", "alias/none"):
        with pytest.raises(KeyUnavailable) as caught:
            KmsKeys(key, region="us-east-1").data_key(CONTEXT, first=True)
        assert caught.value.code == "KEY_NOT_FOUND"
    assert not any(call.startswith("Create") for call in kms.calls)


def test_throttling_that_passes_is_waited_out(kms: Any) -> None:
    keys = KmsKeys(kms.key())
    kms.stubborn = 2
    assert len(keys.data_key(CONTEXT).plaintext) == 32


def test_a_service_that_hangs_up_or_is_away_is_typed(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KmsKeys(kms.key())
    made = keys.data_key(CONTEXT)
    kms.down = True
    with pytest.raises(KeyUnavailable) as caught:
        keys.unwrap(made.wrapped, CONTEXT)
    assert caught.value.code == "KEY_SERVICE_UNREACHABLE"
    kms.down = False
    assert keys.unwrap(made.wrapped, CONTEXT) == made.plaintext
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(KeyUnavailable) as caught:
            KmsKeys(keys.current).unwrap(made.wrapped, CONTEXT)
    assert caught.value.code == "KEY_SERVICE_UNREACHABLE"


def test_without_credentials_or_region_it_is_typed(kms: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = kms.key()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(KeyUnavailable, match="NoRegion"):
        KmsKeys("alias/x").data_key(CONTEXT)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(KeyUnavailable, match="Credentials"):
        KmsKeys(key).data_key(CONTEXT)


def test_no_plain_connection_to_another_host(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://objects:9000")
    with pytest.raises(KeyUnavailable, match="TLS"):
        KmsKeys(kms.key()).data_key(CONTEXT)


def test_no_key_in_the_logs_at_any_level(kms: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = KmsKeys(kms.key())
    made = keys.data_key(CONTEXT)
    keys.unwrap(made.wrapped, CONTEXT)
    assert caplog.text
    for form in (base64.b64encode(made.plaintext).decode(), made.plaintext.hex(), repr(made.plaintext)):
        assert form not in caplog.text


def test_sixteen_threads_share_one_service(kms: Any) -> None:
    keys = KmsKeys(kms.key())

    def once(_: int) -> bool:
        made = keys.data_key(CONTEXT)
        return keys.unwrap(made.wrapped, CONTEXT) == made.plaintext

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(once, range(48)))


def test_the_other_service_is_named_when_keys_come_from_it(kms: Any, tmp_path: Path) -> None:
    local, remote = LocalKeyring(tmp_path / "keyring.json"), KmsKeys(kms.key())
    by_local, by_kms = local.data_key(CONTEXT, first=True).wrapped, remote.data_key(CONTEXT).wrapped
    for keys, wrapped in ((local, by_kms), (remote, by_local)):
        for use in (keys.unwrap, keys.rewrap):
            with pytest.raises(KeyUnavailable) as caught:
                use(wrapped, CONTEXT)
            assert caught.value.code == "KEY_OTHER"


@pytest.mark.parametrize(
    "text",
    [
        "kms://",
        "kms:///alias",
        "kms://alias/x?region=",
        "kms://alias/x?region=nowhere",
        "kms://alias/x?region=us-east-1&region=us-east-2",
        "kms://alias/x?regoin=us-east-1",
        "kms://alias/x?former=",
        "kms://user:secret@host",
        "kms://alias/a b",
        "kms:/alias/x",
        "KMS://alias/x",
        "s3://bucket/keyring",
        "arn:aws:kms:us-east-1:111122223333:key/1",
        "alias/medbill",
    ],
)
def test_a_mistyped_address_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="MEDBILL_KEYRING"):
        opened(text)


def test_a_file_stays_a_file(tmp_path: Path) -> None:
    assert isinstance(opened(str(tmp_path / "k.json")), LocalKeyring)
    assert Settings.from_env({"MEDBILL_HOME": str(tmp_path)}).keyring == tmp_path / "keyring.json"
