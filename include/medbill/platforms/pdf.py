"""A text as a small PDF (ISO 32000-1), for platforms whose only write-back is a document."""

from __future__ import annotations

import textwrap

_COLUMNS, _ROWS = 92, 60


def document(title: str, text: str) -> bytes:
    """Letter pages in 9 point Courier. The same text gives the same bytes; what Latin-1 lacks becomes a question mark."""
    lines = [part for line in (title, "", *text.splitlines()) for part in textwrap.wrap(line, _COLUMNS) or [""]]
    pages = [lines[at : at + _ROWS] for at in range(0, len(lines), _ROWS)]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    for n, page in enumerate(pages):
        shown = b"BT /F1 9 Tf 50 740 Td 11 TL\n" + b"".join(b"(" + _escaped(line) + b") '\n" for line in page) + b"ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def _escaped(line: str) -> bytes:
    plain = "".join(c if c.isprintable() else " " for c in line)
    return plain.encode("latin-1", "replace").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
