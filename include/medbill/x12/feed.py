"""The unread bytes of a source, grown block by block."""

from __future__ import annotations

from collections.abc import Iterator

from medbill.x12.delimiters import Delimiters

#: Control characters that stand in for delimiters beyond ASCII, so that text can be UTF-8 all through.
_STAND_INS = (0x1D, 0x1F, 0x1E)


class Feed:
    """data: bytes not read yet. ended: no more will come."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._table: bytes | None = None
        self.data = b""
        self.ended = False

    def more(self, wanted: int) -> None:
        """Append about this many bytes, or what is left."""
        parts, have = [self.data], 0
        while have < wanted and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                parts.append(block.translate(self._table) if self._table else block)
                have += len(block)
        self.data = b"".join(parts)

    def ascii(self, delimiters: Delimiters) -> Delimiters:
        """Delimiters with ASCII characters for those that are not, which data has from here on as well."""
        signs = (delimiters.element, delimiters.component, delimiters.terminator)
        if max(signs) < 0x80:
            self._table = None
            return delimiters
        table = bytearray(range(256))
        free = [s for s in _STAND_INS if s not in signs]
        replaced = []
        for sign in signs:
            replaced.append(free.pop() if sign >= 0x80 else sign)
            table[sign] = replaced[-1]
        self._table = bytes(table)
        self.data = self.data.translate(self._table)
        return Delimiters(replaced[0], replaced[1], replaced[2], delimiters.exact)
