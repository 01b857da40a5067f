"""The hash tree of RFC 6962 section 2.1, built leaf by leaf: leaves and nodes are hashed in different domains."""

from __future__ import annotations

from hashlib import sha256


class Tree:
    """Keeps one hash per complete subtree, so a million leaves take twenty hashes of memory."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        node = sha256(b"\0" + leaf).digest()
        complete, size = self._complete, self.size
        while size & 1:
            node = sha256(b"\1" + complete.pop() + node).digest()
            size >>= 1
        complete.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The hash over all leaves so far; of none, the hash of nothing."""
        if not self._complete:
            return sha256(b"").digest()
        node = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            node = sha256(b"\1" + left + node).digest()
        return node
