"""Bytes of a file in blocks of bounded size, whatever Unicode encoding the sender wrapped them in."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

_UTF16 = {
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_UTF16_BARE = {"ISA".encode("utf-16-le"): "utf-16-le", "ISA".encode("utf-16-be"): "utf-16-be"}


def blocks(source: bytes | Path, size: int) -> Iterator[bytes]:
    """The source in blocks, UTF-16 turned into UTF-8; everything else as it is."""
    raw = _slices(source, size) if isinstance(source, bytes) else _read(source, size)
    start = b""
    for block in raw:
        start += block
        if len(start) >= 4096:
            break
    encoding = next((name for mark, name in _UTF16.items() if start.startswith(mark)), None)
    if encoding is not None:
        start = start[2:]
    else:
        found = {start[:4096].find(mark): name for mark, name in _UTF16_BARE.items()}
        found.pop(-1, None)
        encoding = found[min(found)] if found else None
    if encoding is None:
        yield start
        yield from raw
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    yield decoder.decode(start).encode("utf-8", "replace")
    for block in raw:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _read(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(size):
            yield block
