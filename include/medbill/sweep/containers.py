"""What is packed inside bytes: compressed streams and archives wherever they begin, tables of Parquet, Arrow and SQLite.

Nothing here trusts what it reads: everything has a limit, beyond which TooComplex is raised.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

#: Bytes one packed member may have.
MOST = 512 * 1024 * 1024
_FIRST, _STEP = 1 << 9, 1 << 20
_GZIP = b"\x1f\x8b\x08"
_ZIP = b"PK\x03\x04"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZLIB = re.compile(rb"x[\x01\x5e\x9c\xda]")
_OTHERS: tuple[tuple[str, bytes, Callable[[], Any]], ...] = (
    ("bzip2", b"BZh", bz2.BZ2Decompressor),
    ("xz", b"\xfd7zXZ\x00", lzma.LZMADecompressor),
)
_SQLITE = b"SQLite format 3\x00"
_PARQUET = b"PAR1"
_ARROW = b"ARROW1"
#: Of a stream that is no stream a few bytes come out by chance.
_LEAST = 5


class TooComplex(Exception):
    """Cannot be searched: larger than its limit, or damaged. Holds nothing of it."""


class _Engine(Protocol):
    @property
    def eof(self) -> bool: ...


def members(data: bytes, *, strict: bool) -> Iterator[tuple[str, int, bytes]]:
    """(name of the packing, where it begins, what is in it) for everything packed in data.

    strict: whether a table that cannot be read raises TooComplex; else it is taken for bytes that only look like one.
    """
    for name, magic, read in (("parquet", _PARQUET, _parquet), ("arrow", _ARROW, _arrow)):
        if len(data) > 2 * len(magic) and data.startswith(magic) and data.endswith(magic):
            try:
                yield name, 0, read(data)
            except TooComplex:
                if strict:
                    raise
            return
    if data.startswith(_SQLITE):
        yield "sqlite", 0, _sqlite(data)
    for at in _places(data, _GZIP):
        yield from _one("gzip", at, _inflated(data, at, 31))
    for at in _places(data, _ZIP):
        yield from _zip_member(data, at)
    for at in _places(data, _ZSTD):
        yield from _one("zstd", at, _zstd(data, at))
    for name, magic, engine in _OTHERS:
        for at in _places(data, magic):
            yield from _one(name, at, _streamed(data, at, engine()))
    for match in _ZLIB.finditer(data):
        if int.from_bytes(match[0]) % 31 == 0 and not data.startswith(_GZIP):
            yield from _one("zlib", match.start(), _inflated(data, match.start(), 15))


def _one(name: str, at: int, content: bytes) -> Iterator[tuple[str, int, bytes]]:
    if len(content) >= _LEAST:
        yield name, at, content


def _places(data: bytes, magic: bytes) -> Iterator[int]:
    at = data.find(magic)
    while at >= 0:
        yield at
        at = data.find(magic, at + 1)


def _inflated(data: bytes, at: int, wbits: int) -> bytes:
    """Everything up to the end of the stream, or to where it is damaged."""
    engine = zlib.decompressobj(wbits)
    out: list[bytes] = []
    size, step = 0, _FIRST
    view = memoryview(data)
    while at < len(data) and not engine.eof:
        piece: bytes | memoryview = view[at : at + step]
        at, step = at + step, _STEP
        while len(piece) and not engine.eof:
            try:
                out.append(engine.decompress(piece, _STEP))
            except zlib.error:
                return b"".join(out)
            size += len(out[-1])
            if size > MOST:
                raise TooComplex
            piece = engine.unconsumed_tail
    return b"".join(out)


def _streamed(data: bytes, at: int, engine: Any) -> bytes:
    out: list[bytes] = []
    size = 0
    while at < len(data) and not engine.eof:
        piece = data[at : at + _STEP] if engine.needs_input else b""
        at += len(piece)
        try:
            out.append(engine.decompress(piece, _STEP))
        except (OSError, EOFError, ValueError, lzma.LZMAError):
            break
        size += len(out[-1])
        if size > MOST:
            raise TooComplex
    return b"".join(out)


def _zstd(data: bytes, at: int) -> bytes:
    import pyarrow as pa

    end = _zstd_end(data, at)
    if end is None:
        return b""
    out: list[bytes] = []
    size = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(memoryview(data)[at:end]), "zstd") as stream:
            while piece := stream.read(_STEP):
                out.append(piece)
                size += len(piece)
                if size > MOST:
                    raise TooComplex
    except OSError:  # damaged
        pass
    return b"".join(out)


def _zstd_end(data: bytes, at: int) -> int | None:
    """Where the frame ends that begins there, by the headers of its blocks (RFC 8878, 3.1.1); None where it is none."""
    if at + 5 > len(data):
        return None
    descriptor = data[at + 4]
    single, content = bool(descriptor & 0x20), descriptor >> 6
    at += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + (1 if single and content == 0 else (0, 2, 4, 8)[content])
    while at + 3 <= len(data):
        block = int.from_bytes(data[at : at + 3], "little")
        kind, size = block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == 1 else size)
        if kind == 3:
            return None
        if block & 1:
            return at + (4 if descriptor & 4 else 0)
    return len(data)  # cut off: what there is of it


def _zip_member(data: bytes, at: int) -> Iterator[tuple[str, int, bytes]]:
    """A member of a zip archive by its local header (APPNOTE 4.3.7); what is stored plain is seen without."""
    head = data[at : at + 30]
    if len(head) < 30:
        return
    method = int.from_bytes(head[8:10], "little")
    start = at + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if method == 8 and start < len(data):
        yield from _one("zip", at, _inflated(data, start, -15))


def _parquet(data: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return b"\n".join(_columns(batch) for batch in file.iter_batches(20_000))
    except (pa.ArrowException, OSError, ValueError):
        raise TooComplex from None


def _arrow(data: bytes) -> bytes:
    import pyarrow as pa

    try:
        with pa.ipc.open_file(pa.BufferReader(data)) as reader:
            return b"\n".join(_columns(reader.get_batch(n)) for n in range(reader.num_record_batches))
    except (pa.ArrowException, OSError, ValueError):
        raise TooComplex from None


def _columns(batch: Any) -> bytes:
    """Every value of every column, as text, a line each; binary ones as they are."""
    return b"\n".join(_text(value) for column in batch.columns for value in column.to_pylist())


def _text(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogateescape")


def _sqlite(data: bytes) -> bytes:
    """Every value of every table, a line each, as far as it can be read: what lies in its pages is plain anyway."""
    out: list[bytes] = []
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(_without_wal(data))
        connection.text_factory = bytes
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            table = name.decode().replace('"', '""')
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - a name of the file itself, quoted
                out += [_text(value) for value in row if value is not None]
    except (sqlite3.Error, UnicodeDecodeError):
        pass  # no such file, or a damaged one
    finally:
        connection.close()
    return b"\n".join(out)


def _without_wal(data: bytes) -> bytes:
    """A copy in memory has no write-ahead log beside it: it is opened as one with a rollback journal (bytes 18 and 19)."""
    return data[:18] + b"\x01\x01" + data[20:]
