"""The object store on a folder and on S3 (moto on loopback): whole objects or none, no climbing keys."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from medbill.errors import BadInput, StoreUnavailable
from medbill.store.objects import ObjectStore


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "folder":
        return ObjectStore(str(tmp_path / "objects"))
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"b-{os.urandom(4).hex()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return ObjectStore(f"s3://{bucket}/zones")


def test_put_get_list_delete(store: ObjectStore) -> None:
    uri = store.put("landing/p/b.sealed", b"one")
    assert uri.endswith("landing/p/b.sealed")
    store.put("landing/p/b.sealed", b"two")
    store.put("landing/p/a.sealed", b"")
    store.put("landing/q/c", b"3")
    assert store.get("landing/p/b.sealed") == b"two"
    assert store.list("landing/p/") == ["landing/p/a.sealed", "landing/p/b.sealed"]
    assert store.list("landing/p/b") == ["landing/p/b.sealed"]
    assert store.list() == ["landing/p/a.sealed", "landing/p/b.sealed", "landing/q/c"]
    assert store.exists("landing/q/c")
    store.delete("landing/q/c")
    store.delete("landing/q/c")
    assert not store.exists("landing/q/c")
    assert store.list("nothing/here/") == []


def test_put_new_never_overwrites(store: ObjectStore) -> None:
    assert store.put_new("deid/x", b"first") is True
    assert store.put_new("deid/x", b"second") is False
    assert store.get("deid/x") == b"first"


def test_a_missing_object_is_a_typed_error(store: ObjectStore) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        store.get("deid/DOE_JOHN.835")
    assert caught.value.code == "OBJECT_MISSING"
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", ".hidden", "a/.tmp", "a\\..\\b", "a\0b", "a\nb", "a/"],
)
def test_climbing_and_hidden_keys_are_refused(store: ObjectStore, key: str) -> None:
    for act in (store.get, store.exists, store.delete, lambda k: store.put(k, b""), lambda k: store.put_new(k, b"")):
        with pytest.raises(BadInput) as caught:
            act(key)
        assert caught.value.code == "KEY_REFUSED"


def test_links_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"s")
    (tmp_path / "root" / "file").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "outside")
    store = ObjectStore(str(tmp_path / "root"))
    assert store.list() == []
    for key in ("file", "folder/secret"):
        with pytest.raises(BadInput):
            store.get(key)
    with pytest.raises(BadInput):
        store.put("folder/new", b"x")


@pytest.mark.parametrize("method", ["put", "put_new"])
def test_disk_full_leaves_no_part_of_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    store = ObjectStore(str(tmp_path))
    store.put("deid/kept", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="ENOSPC") as caught:
        getattr(store, method)("deid/new", b"new")
    assert str(tmp_path) not in str(caught.value)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "deid").iterdir()] == ["kept"]


def test_a_crash_before_the_rename_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(str(tmp_path))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        store.put("deid/x", b"data")
    assert store.list() == []


def test_only_the_owner_may_read_objects(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "objects"))
    store.put("landing/x", b"data")
    assert (tmp_path / "objects" / "landing" / "x").stat().st_mode & 0o077 == 0


def test_an_s3_store_that_does_not_answer_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        ObjectStore("s3://b/p").get("x")


def test_a_look_tells_every_write(store: ObjectStore) -> None:
    assert store.look("p/a.835") is None
    store.put("p/a.835", b"one")
    first = store.look("p/a.835")
    assert first is not None and first.size == 3 and store.look("p/a.835") == first
    store.put("p/a.835", b"two")
    second = store.look("p/a.835")
    assert second is not None and second != first
    with pytest.raises(BadInput):
        store.look("../a.835")


def test_a_file_shows_when_it_was_written(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    store.put("a.835", b"one")
    os.utime(tmp_path / "a.835", (1_700_000_000, 1_700_000_000))
    look = store.look("a.835")
    assert look is not None and look.written == 1_700_000_000
