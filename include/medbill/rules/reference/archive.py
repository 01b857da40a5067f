"""The files given to a loader, opened whole: plain, in a zip, or in a zip in a zip; nothing is unpacked to disk.

What a member may hold is bounded by what its directory declares, which Python's zipfile enforces, so a zip bomb is
refused before a byte of it is inflated.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medbill.errors import BadInput

#: The largest official release (MCD, all articles) inflates to less than 1 GB, 15 times its size.
MAX_BYTES = 4 << 30
MAX_MEMBER = 1536 << 20
MAX_MEMBERS = 2_000
MAX_RATIO = 200
_RATIO_MATTERS = 32 << 20
_DEPTH = 2


@dataclass(frozen=True)
class Member:
    """A file inside what was given. part: ordinal of the file given, from 1. name: last part of its path."""

    name: str
    part: int
    size: int
    _open: zipfile.ZipFile | bytes
    _path: str

    def read(self) -> bytes:
        """Its bytes. Raises BadInput (ARCHIVE_BROKEN) where they are damaged, encrypted or cut off."""
        if isinstance(self._open, bytes):
            return self._open
        with _broken(self.part):
            return self._open.read(self._path)


@dataclass
class _Budget:
    bytes: int = 0
    members: int = 0


@dataclass(frozen=True)
class GivenFile:
    """name: as given, without its folder."""

    name: str
    sha256: str
    size: int
    members: list[Member] = field(repr=False)


def open_files(paths: list[Path]) -> list[GivenFile]:
    """The files with their members. Raises BadInput: FILE_UNREADABLE, ARCHIVE_BROKEN or ARCHIVE_TOO_LARGE."""
    return [_given(path, part) for part, path in enumerate(paths, 1)]


def _given(path: Path, part: int) -> GivenFile:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(part)
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"file {part} cannot be read ({type(error).__name__}); check path and rights", code="FILE_UNREADABLE"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    return GivenFile(path.name, digest, len(data), list(_members(path.name, data, part, _Budget(), 0)))


def _members(name: str, data: bytes, part: int, budget: _Budget, depth: int) -> Iterator[Member]:
    if not _is_archive(name, data):
        budget.bytes += len(data)
        yield Member(name, part, len(data), data, name)
        return
    if depth > _DEPTH:
        raise _too_large(part)
    with _broken(part):
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = [e for e in archive.infolist() if not e.is_dir()]
    budget.members += len(entries)
    budget.bytes += sum(e.file_size for e in entries)
    if (
        budget.members > MAX_MEMBERS
        or budget.bytes > MAX_BYTES
        or any(e.file_size > MAX_MEMBER for e in entries)
        or any(e.file_size > _RATIO_MATTERS and e.file_size > MAX_RATIO * max(e.compress_size, 1) for e in entries)
    ):
        raise _too_large(part)
    for entry in entries:
        short = re.split(r"[/\\]", entry.filename)[-1]
        if short.lower().endswith(".zip"):
            with _broken(part):
                inner = archive.read(entry)
            yield from _members(short, inner, part, budget, depth + 1)
        else:
            yield Member(short, part, entry.file_size, archive, entry.filename)


def _is_archive(name: str, data: bytes) -> bool:
    """A zip by its name or its first bytes; a spreadsheet is a zip too, but stays one file."""
    lower = name.lower()
    return not lower.endswith((".xlsx", ".xlsm")) and (lower.endswith(".zip") or data[:4] == b"PK\x03\x04")


def _too_large(part: int) -> BadInput:
    return BadInput(
        f"file {part} would inflate to more than any official release; it is no release, or a zip bomb",
        code="ARCHIVE_TOO_LARGE",
    )


@contextmanager
def _broken(part: int) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError, OSError) as error:
        raise BadInput(
            f"file {part} is a damaged, truncated or encrypted zip ({type(error).__name__}); download it again",
            code="ARCHIVE_BROKEN",
        ) from None
