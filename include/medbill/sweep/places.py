"""The places where bytes rest, and how each is read. A place that cannot be read raises Unreachable: it is never passed over."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medbill.errors import MedbillError
from medbill.store.objects import ObjectStore

#: Bytes that are searched at once, and by which two such pieces of one file or column overlap.
PIECE, OVERLAP = 16 * 1024 * 1024, 64 * 1024
_GZIP = b"\x1f\x8b"
_WHOLE = (b"PK\x03\x04", b"PAR1", b"ARROW1", b"SQLite format 3\x00", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_MOST = 2 * 1024 * 1024 * 1024


class Unreachable(MedbillError):
    """A place cannot be searched: it is missing, or may not be read, or is too large or damaged. Names no value."""

    code = "SWEEP_UNREACHABLE"


@dataclass(frozen=True)
class Item:
    """Something in a place: a file, an object, a column. pieces: its bytes in order, each with its offset in the item."""

    name: str
    pieces: Iterator[tuple[int, bytes]]


@dataclass(frozen=True)
class Place:
    """One place of the report. items: everything in it; filled: whether finding no byte in it means that it is the wrong
    place."""

    name: str
    items: Callable[[], Iterator[Item]]
    filled: bool = False


@dataclass(frozen=True)
class Left:
    """What is not searched, and why: it stands in every report."""

    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything a sweep does: where it looks, and what it leaves out."""

    places: list[Place]
    left: list[Left] = field(default_factory=list)


def pieces(chunks: Iterator[bytes], size: int = PIECE, overlap: int = OVERLAP) -> Iterator[tuple[int, bytes]]:
    """A stream in pieces of about `size` bytes, each beginning with the last `overlap` bytes of the one before."""
    held: list[bytes] = []
    filled = offset = kept = 0
    for chunk in chunks:
        held.append(chunk)
        filled += len(chunk)
        if filled >= size:
            data = b"".join(held)
            yield offset, data
            held = [data[-overlap:]]
            kept = len(held[0])
            offset += len(data) - kept
            filled = kept
    if filled > kept:
        yield offset, b"".join(held)


def folder(name: str, root: Path, *, without: frozenset[Path] = frozenset(), filled: bool = False) -> Place:
    """All files under a folder, hidden ones too, and their names. without: files and folders of other places."""
    return Place(name, lambda: _files(root, without), filled)


def files(name: str, paths: Callable[[], list[Path]], *, filled: bool = False) -> Place:
    """These files."""
    return Place(name, lambda: (Item(path.name, _read(path)) for path in paths()), filled)


def objects(name: str, root: str, prefix: str = "", *, filled: bool = False) -> Place:
    """All objects of a store whose keys begin so; a folder is better walked with folder(), which sees hidden files."""
    return Place(name, lambda: _objects(root, prefix), filled)


def _files(root: Path, without: frozenset[Path]) -> Iterator[Item]:
    if not root.is_dir():
        raise Unreachable("there is no such folder")
    names: list[str] = []
    for top, folders, found in os.walk(root, onerror=_refused):
        here = Path(top)
        folders[:] = sorted(f for f in folders if here / f not in without)
        for file in sorted(found):
            path = here / file
            if path in without:
                continue
            name = path.relative_to(root).as_posix()
            names.append(name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue  # a temporary file that ended meanwhile
            if stat.S_ISREG(mode):  # what a link leads to is read where it is
                yield Item(name, _read(path))
        names += [(here / f).relative_to(root).as_posix() + "/" for f in folders]
    yield Item("names of files", iter([(0, "\n".join(names).encode("utf-8", "surrogateescape"))]))


def _refused(error: OSError) -> None:
    raise Unreachable(f"a folder in it may not be read ({type(error).__name__})")


def _read(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            if size <= PIECE or head.startswith(_WHOLE):
                if size > _MOST:
                    raise Unreachable("an archive or table in it is too large to be unpacked")
                yield 0, file.read()
                return
            if head.startswith(_GZIP):
                with gzip.open(file) as unpacked:
                    yield from pieces(iter(lambda: unpacked.read(1 << 20), b""))
                return
            yield from pieces(iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return  # ended meanwhile
    except (OSError, EOFError) as error:
        raise Unreachable(f"a file in it may not be read ({type(error).__name__})") from None


def _objects(root: str, prefix: str) -> Iterator[Item]:
    store = ObjectStore(root)
    keys = store.list(prefix)
    for key in keys:
        yield Item(key, iter([(0, store.get(key))]))
    yield Item("names of objects", iter([(0, "\n".join(keys).encode("utf-8", "surrogateescape"))]))
