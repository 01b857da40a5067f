"""Write-once storage for checkpoints: a folder of read-only files, or S3 with Object Lock in COMPLIANCE mode.

A folder only holds out against those who have no rights to it: give it to another account, or mount it from elsewhere.
Object Lock holds out against everybody, the bucket's owner included, until the retention ends (45 CFR 164.316(b)(2)(i):
six years). It protects versions; a further version of the same name is possible, and told (Copy.rewritten).
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from medbill.errors import StoreUnavailable

#: How long a checkpoint must be kept: six years, two of them with a leap day.
RETENTION = timedelta(days=6 * 365 + 2)
_NAME = re.compile(r"\d{10}\.checkpoint")


@dataclass(frozen=True)
class Copy:
    """A stored checkpoint as it was first written. rewritten: somebody wrote or deleted it again since. locked: nobody
    can take it away before its retention ends (a folder cannot know: True)."""

    name: str
    content: bytes
    rewritten: bool = False
    locked: bool = True


class Worm(Protocol):
    """Raises StoreUnavailable for what the storage refuses."""

    def put_new(self, name: str, content: bytes) -> bool:
        """Store under a new name; False where the name is taken (what is there stays)."""
        ...

    def last(self) -> Copy | None:
        """The copy with the highest name."""
        ...

    def copies(self, after: str = "") -> list[Copy]:
        """All copies whose name is above `after`, in order of name."""
        ...


def worm(place: str) -> Worm:
    """place: a folder, or s3://bucket/prefix (the bucket made with Object Lock; credentials are boto3's own)."""
    return _S3(place) if place.startswith("s3://") else _Folder(Path(place))


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def put_new(self, name: str, content: bytes) -> bool:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o755)
            part = self._root / f".{uuid.uuid4().hex}.part"
            try:
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(part, self._root / name)  # refuses a name that is taken, and shows whole files only
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
            folder = os.open(self._root, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _refused(error) from None
        return True

    def last(self) -> Copy | None:
        names = self._names()
        return self._read(names[-1]) if names else None

    def copies(self, after: str = "") -> list[Copy]:
        return [self._read(name) for name in self._names() if name > after]

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._root.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused(error) from None

    def _read(self, name: str) -> Copy:
        try:
            return Copy(name, (self._root / name).read_bytes())
        except OSError as error:
            raise _refused(error) from None


def _refused(error: OSError) -> StoreUnavailable:
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return StoreUnavailable(f"checkpoint storage refused ({name}); check disk space and rights, then retry")


class _S3:
    def __init__(self, place: str) -> None:
        import boto3
        from botocore.config import Config

        self._bucket, _, prefix = place.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client: Any = boto3.client(
            "s3",
            config=Config(
                connect_timeout=10,
                read_timeout=30,
                max_pool_connections=16,
                retries={"max_attempts": 5, "mode": "standard"},
            ),
        )

    def put_new(self, name: str, content: bytes) -> bool:
        try:
            self._call(
                "put_object",
                Key=self._prefix + name,
                Body=content,
                IfNoneMatch="*",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=datetime.now(UTC) + RETENTION,
                ChecksumAlgorithm="SHA256",
            )
        except FileExistsError:
            return False
        return True

    def last(self) -> Copy | None:
        versions = self._versions("")
        return self._read(*max(versions.items())) if versions else None

    def copies(self, after: str = "") -> list[Copy]:
        versions = sorted(self._versions(after).items())
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda item: self._read(*item), versions))

    def _versions(self, after: str) -> dict[str, list[tuple[datetime, str]]]:
        """All versions and delete markers per name; a marker has no version id here: there is nothing to read."""
        found: dict[str, list[tuple[datetime, str]]] = {}
        marker: dict[str, str] = {}
        while True:
            page = self._call("list_object_versions", Prefix=self._prefix, **marker)
            for kind in ("Versions", "DeleteMarkers"):
                for entry in page.get(kind, []):
                    name = entry["Key"][len(self._prefix) :]
                    if _NAME.fullmatch(name) and name > after:
                        version = entry["VersionId"] if kind == "Versions" else ""
                        found.setdefault(name, []).append((entry["LastModified"], version))
            if not page.get("IsTruncated"):
                return found
            marker = {"KeyMarker": page["NextKeyMarker"]}
            with suppress(KeyError):
                marker["VersionIdMarker"] = page["NextVersionIdMarker"]

    def _read(self, name: str, versions: list[tuple[datetime, str]]) -> Copy:
        real = [v for v in versions if v[1]]
        if not real:
            return Copy(name, b"", rewritten=True, locked=False)
        # the newest are listed first, and times are whole seconds
        written, version = min(reversed(real), key=lambda v: v[0])
        got = self._call("get_object", Key=self._prefix + name, VersionId=version)
        until = got.get("ObjectLockRetainUntilDate")
        locked = (
            got.get("ObjectLockMode") == "COMPLIANCE"
            and until is not None
            and until >= written + RETENTION - timedelta(hours=1)
        )
        return Copy(name, got["Body"].read(), rewritten=len(versions) > 1, locked=locked)

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                raise FileExistsError from None
            raise StoreUnavailable(
                f"checkpoint storage refused ({code}); check bucket and rights, then retry"
            ) from None
        except BotoCoreError as error:
            raise StoreUnavailable(
                f"checkpoint storage cannot be reached ({type(error).__name__}); check the endpoint, then retry"
            ) from None
