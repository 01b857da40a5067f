"""Object storage: a folder, or s3://bucket/prefix. An object is there whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medbill.errors import BadInput, StoreUnavailable

#: Code of a StoreUnavailable where the right is missing, or Object Lock holds.
_DENIED = "ACCESS_DENIED"


@dataclass(frozen=True)
class Look:
    """An object at one moment. state: another after every write. written: Unix time of the last write, None where objects
    appear whole (S3), so that none can be looked at half-written."""

    size: int
    state: str
    written: float | None


@dataclass(frozen=True)
class Entry:
    """An object in a listing. written: Unix time of its last write, by the store's clock."""

    key: str
    size: int
    written: float


class _Backend(Protocol):
    def entries(self, prefix: str) -> Iterator[Entry]: ...
    def erase(self, key: str) -> bool: ...
    def uri(self, key: str) -> str: ...
    def put(self, key: str, data: bytes) -> None: ...
    def put_new(self, key: str, data: bytes) -> bool: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def look(self, key: str) -> Look | None: ...
    def list(self, prefix: str) -> list[str]: ...
    def delete(self, key: str) -> None: ...


class ObjectStore:
    """Objects under a root, named by keys such as "landing/lakeside/files/1f3a.sealed".

    A key is a relative path with "/" between its parts; parts that climb ("..") or hide (leading ".") are refused with
    BadInput, since keys may come from file names. Everything else that goes wrong is StoreUnavailable. No error quotes
    a key: an inbox file's name may hold a patient's name.
    """

    def __init__(self, root: str) -> None:
        """root: a folder (made where absent) or s3://bucket/prefix; S3 credentials and endpoint are boto3's own settings."""
        self._backend: _Backend = _S3(root) if root.startswith("s3://") else _Folder(Path(root))

    def put(self, key: str, data: bytes) -> str:
        """Write or replace an object; returns its URI. Readers see the old bytes or the new ones, never a part."""
        self._backend.put(_checked(key), data)
        return self._backend.uri(key)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless the key is taken; False where it is (the object stays as it was)."""
        return self._backend.put_new(_checked(key), data)

    def get(self, key: str) -> bytes:
        """The bytes of an object; StoreUnavailable with code OBJECT_MISSING where there is none."""
        return self._backend.get(_checked(key))

    def exists(self, key: str) -> bool:
        return self._backend.exists(_checked(key))

    def look(self, key: str) -> Look | None:
        """Size and state of an object now, None where there is none: whether somebody still writes a file put there by hand."""
        return self._backend.look(_checked(key))

    def list(self, prefix: str = "") -> list[str]:
        """Keys that start with prefix, sorted. Hidden files and links in a folder are not objects."""
        if prefix:
            _checked(prefix.removesuffix("/"))
        return sorted(self._backend.list(prefix))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """As list(), one after the other and folder by folder, in constant memory; what is written meanwhile may be missed."""
        if prefix:
            _checked(prefix.removesuffix("/"))
        return self._backend.entries(prefix)

    def uri(self, key: str) -> str:
        """The URI put() gives for a key."""
        return self._backend.uri(_checked(key))

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        self._backend.delete(_checked(key))

    def erase(self, key: str) -> bool:
        """Remove an object in all its versions; False where the bucket keeps some of them (Object Lock, or no right to)."""
        return self._backend.erase(_checked(key))


def _checked(key: str) -> str:
    parts = key.split("/")
    if (
        any(not part or part.startswith(".") for part in parts)
        or "\\" in key
        or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in key)
    ):
        raise BadInput(
            "an object key must be a relative path without hidden or climbing parts; rename the file",
            code="KEY_REFUSED",
        )
    return key


def _missing() -> StoreUnavailable:
    return StoreUnavailable("no such object; it was purged or never written", code="OBJECT_MISSING")


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _os_errors() -> Iterator[None]:
    """OSError without its path."""
    try:
        yield
    except FileNotFoundError:
        raise _missing() from None
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise StoreUnavailable(f"object store refused ({name}); check disk space and rights, then retry") from None


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def uri(self, key: str) -> str:
        return (self._root / key).as_uri()

    def put(self, key: str, data: bytes) -> None:
        self._write(key, data, os.replace)

    def put_new(self, key: str, data: bytes) -> bool:
        try:
            self._write(key, data, os.link)  # link refuses to overwrite, replace does not
        except FileExistsError:
            return False
        return True

    def _write(self, key: str, data: bytes, place: Callable[[Path, Path], None]) -> None:
        target = self._path(key)
        with _os_errors():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = target.parent / f".{uuid.uuid4().hex}.part"
            taken = False
            try:
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    place(part, target)
                except FileExistsError:
                    taken = True
            finally:
                part.unlink(missing_ok=True)
            self._sync(target.parent)
        if taken:
            raise FileExistsError

    @staticmethod
    def _sync(folder: Path) -> None:
        """The rename itself must survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, key: str) -> bytes:
        with _os_errors():
            return self._path(key).read_bytes()

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def look(self, key: str) -> Look | None:
        with _os_errors():
            try:
                found = self._path(key).stat()
            except FileNotFoundError:
                return None
        state = f"{found.st_ino}:{found.st_mtime_ns}:{found.st_ctime_ns}"
        return Look(found.st_size, state, found.st_mtime)

    def list(self, prefix: str) -> list[str]:
        top = self._root / prefix.rpartition("/")[0]
        if not top.exists():
            return []
        found = []
        with _os_errors():
            for folder, folders, files in os.walk(top, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    path = Path(folder, name)
                    if not name.startswith(".") and not path.is_symlink():
                        found.append(path.relative_to(self._root).as_posix())
        return [key for key in found if key.startswith(prefix)]

    def entries(self, prefix: str) -> Iterator[Entry]:
        folder, _, begin = prefix.rpartition("/")
        yield from self._below(self._root / folder, begin)

    def _below(self, folder: Path, begin: str = "") -> Iterator[Entry]:
        with _os_errors():
            try:
                found = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except FileNotFoundError:
                return
            folders = []
            for entry in found:
                if entry.name.startswith(".") or not entry.name.startswith(begin) or entry.is_symlink():
                    continue
                if entry.is_dir():
                    folders.append(Path(entry.path))
                    continue
                try:
                    state = entry.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                yield Entry(Path(entry.path).relative_to(self._root).as_posix(), state.st_size, state.st_mtime)
        for below in folders:
            yield from self._below(below)

    def delete(self, key: str) -> None:
        with _os_errors():
            self._path(key).unlink(missing_ok=True)

    def erase(self, key: str) -> bool:
        self.delete(key)
        return True

    def _path(self, key: str) -> Path:
        path = self._root / key
        if path.is_symlink() or not path.parent.resolve().is_relative_to(self._root):
            raise BadInput("links are not followed in an object store", code="KEY_REFUSED")
        return path


class _S3:
    def __init__(self, root: str) -> None:
        import boto3
        from botocore.config import Config

        self._bucket, _, prefix = root.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        self._client: Any = boto3.client(
            "s3",
            config=Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"}),
        )

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def put(self, key: str, data: bytes) -> None:
        with _s3_errors():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def put_new(self, key: str, data: bytes) -> bool:
        try:
            with _s3_errors():
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
        except FileExistsError:
            return False
        return True

    def get(self, key: str) -> bytes:
        with _s3_errors():
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        return body

    def exists(self, key: str) -> bool:
        try:
            with _s3_errors():
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except StoreUnavailable as error:
            if error.code == "OBJECT_MISSING":
                return False
            raise
        return True

    def look(self, key: str) -> Look | None:
        try:
            with _s3_errors():
                found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except StoreUnavailable as error:
            if error.code == "OBJECT_MISSING":
                return None
            raise
        return Look(found["ContentLength"], found["ETag"], None)

    def list(self, prefix: str) -> list[str]:
        with _s3_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [entry["Key"][len(self._prefix) :] for page in pages for entry in page.get("Contents", [])]
        return [key for key in keys if not any(part.startswith(".") or not part for part in key.split("/"))]

    def entries(self, prefix: str) -> Iterator[Entry]:
        with _s3_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for found in page.get("Contents", []):
                    key = found["Key"][len(self._prefix) :]
                    if not any(part.startswith(".") or not part for part in key.split("/")):
                        yield Entry(key, found["Size"], found["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with _s3_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def erase(self, key: str) -> bool:
        self.delete(key)  # in a bucket with versions: hidden behind a marker, and here until its versions go
        gone = True
        try:
            with _s3_errors():
                # markers last, and only where no version is left for them to hide
                for kind in ("Versions", "DeleteMarkers"):
                    for version in self._versions(self._prefix + key, kind) if gone else ():
                        gone = self._without(key, version) and gone
        except StoreUnavailable as error:
            if error.code != _DENIED:
                raise
            return False  # no right to see versions
        return gone

    def _versions(self, name: str, kind: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
        for page in pages:
            yield from (found["VersionId"] for found in page.get(kind, []) if found["Key"] == name)

    def _without(self, key: str, version: str) -> bool:
        try:
            with _s3_errors():
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, VersionId=version)
        except StoreUnavailable as error:
            if error.code == _DENIED:
                return False
            raise
        return True


@contextmanager
def _s3_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code in ("NoSuchKey", "404"):
            raise _missing() from None
        if code in ("PreconditionFailed", "412"):
            raise FileExistsError from None
        refused = f"object store refused ({code}); check bucket and rights, then retry"
        raise StoreUnavailable(refused, code=_DENIED if code in ("AccessDenied", "403") else None) from None
    except BotoCoreError as error:
        raise StoreUnavailable(
            f"object store cannot be reached ({type(error).__name__}); check the endpoint, then retry"
        ) from None
