"""Any canary, written in any way and packed in any encoding, is found in random bytes; random bytes alone are clean."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import zipfile
import zlib
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.sweep.canaries import Canary
from medbill.sweep.search import Searcher

CANARIES = [
    Canary(1, "last_name", "Quillimane"),
    Canary(2, "name", "Zorvath Quellering"),
    Canary(3, "ssn", "412-55-6789"),
    Canary(4, "phone", "(617) 555-0134"),
    Canary(5, "email", "zorv.q+med@canary.invalid"),
    Canary(6, "member_id", "LX903417726"),
    Canary(7, "birth_date", "1931-02-07"),
    Canary(8, "street", "1187 Hobbledown Terrace"),
    Canary(9, "vin", "1HGCM82633A004352"),
    Canary(10, "ip_address", "203.0.113.197"),
    Canary(11, "name", "Ødegård Muñozquist"),
    Canary(12, "account", "ACCT/77 & 0042 <Q9>"),
]
SEARCHER = Searcher(CANARIES)
_DIGITS = {c.ordinal for c in CANARIES if not any(x.isalpha() for x in c.value)}


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member.txt", data)
    return out.getvalue()


def _zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


CASES = [str, str.upper, str.lower, lambda t: t.swapcase() if t.isascii() else t.title()]
ESCAPES = [
    lambda t: quote(t, safe=""),
    html.escape,
    lambda t: "".join(f"&#{ord(c)};" for c in t),
    lambda t: "".join(f"&#x{ord(c):x};" for c in t),
    json.dumps,
    lambda t: "".join(f"\\u{ord(c):04x}" for c in t),
]
TO_BYTES = [str.encode, lambda t: t.encode("utf-16-le"), lambda t: t.encode("utf-16-be")]
ENCODINGS = [
    base64.b64encode,
    base64.urlsafe_b64encode,
    lambda d: b"'" + base64.encodebytes(d),
    lambda d: d.hex().encode(),
    lambda d: d.hex(":").upper().encode(),
]
PACKINGS = [gzip.compress, zlib.compress, bz2.compress, lzma.compress, _zip, _zstd]


def _spread(draw: st.DrawFn, text: str) -> str:
    """With something between its characters: a line break, an indent, a separator; a few times, or each time the same."""
    gap = draw(st.sampled_from(["\n", "\r\n    ", " ", "-", " . ", "\t", "\u200b", "\u00a0"]))
    if draw(st.booleans()) and gap in (" ", "-"):
        return gap.join(text) if " " not in text and "-" not in text else text
    at = sorted(draw(st.lists(st.integers(1, len(text) - 1), max_size=1)))
    for place in reversed(at):
        text = text[:place] + gap + text[place:]
    return text


@st.composite
def written(draw: st.DrawFn) -> tuple[int, bytes]:
    """A canary in some way of writing it, in some layers of encoding."""
    canary = draw(st.sampled_from(CANARIES))
    text = canary.value
    if canary.kind == "name" and draw(st.booleans()):
        first, last = text.split()
        text = f"{last}, {first}"
    text = draw(st.sampled_from(CASES))(text)
    if draw(st.booleans()):
        text = _spread(draw, text)
    for escape in draw(st.lists(st.sampled_from(ESCAPES), max_size=2)):
        text = escape(text)
    before, after = draw(st.tuples(st.text("abc {\"'", max_size=5), st.text("xyz }\"',", max_size=5)))
    to_bytes = draw(st.sampled_from(TO_BYTES if text.isascii() else TO_BYTES[:1]))
    data = to_bytes(f"{before} {text} {after}")
    packed = draw(st.lists(st.sampled_from(ENCODINGS + PACKINGS), max_size=2))
    for pack in packed:
        data = pack(data)
    return canary.ordinal, data


@settings(deadline=None, max_examples=300)
@given(written(), st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_the_way_it_is_found_among_random_bytes(case: tuple[int, bytes], before: bytes, after: bytes) -> None:
    ordinal, data = case
    found = SEARCHER.find(before + b"\n'" + data + b"'\n" + after)
    assert ordinal in {hit.canary for hit in found}, data


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=3000))
def test_random_bytes_are_clean(data: bytes) -> None:
    assert SEARCHER.find(data) == []


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("0123456789 \n,.-"), max_size=3000))
def test_random_figures_are_clean(text: str) -> None:
    assert SEARCHER.find(text.encode()) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3), st.sampled_from(CANARIES), st.binary(min_size=1, max_size=40), st.booleans())
def test_base64_at_every_alignment(shift: int, canary: Canary, noise: bytes, url: bool) -> None:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    data = b"x" * shift + b"   " + canary.value.encode() + b" " + noise
    for cut in range(4):  # the beginning of the text may be lost
        hits = SEARCHER.find(b"A" * shift + encode(data)[cut:])
        assert canary.ordinal in {h.canary for h in hits}


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(CANARIES), st.sampled_from(["none", "zstd", "snappy", "gzip"]), st.booleans())
def test_tables_of_parquet_are_read(canary: Canary, codec: str, nested: bool) -> None:
    column = [[canary.value]] * 50 if nested else [canary.value] * 50
    out = io.BytesIO()
    pq.write_table(pa.table({"text": column}), out, compression=codec)
    assert canary.ordinal in {h.canary for h in SEARCHER.find(out.getvalue())}
