"""The hash tree of RFC 6962 section 2.1, built leaf by leaf: leaves and nodes are hashed in different domains."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256


class Tree:
    """Keeps one hash per complete subtree, so a million leaves take twenty hashes of memory."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves in their order, one level of the tree after the other."""
        nodes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
        size, odd = self.size, []
        self.size += len(nodes)
        while nodes:
            if size & 1:
                nodes.insert(0, self._complete.pop())
            if len(nodes) & 1:
                odd.append(nodes.pop())
            nodes = [sha256(b"\1" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
            size >>= 1
        self._complete += reversed(odd)

    def root(self) -> bytes:
        """The hash over all leaves so far; of none, the hash of nothing."""
        if not self._complete:
            return sha256(b"").digest()
        node = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            node = sha256(b"\1" + left + node).digest()
        return node
