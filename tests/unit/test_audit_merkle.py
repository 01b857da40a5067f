"""The hash tree against the recursive definition of RFC 6962 section 2.1, and its vectors of nothing and one leaf."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from medbill.audit.merkle import Tree


def _mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1" + _mth(leaves[:half]) + _mth(leaves[half:])).digest()


def test_roots_are_those_of_the_recursive_definition() -> None:
    tree = Tree()
    leaves: list[bytes] = []
    for n in range(200):
        assert tree.root() == _mth(leaves)
        assert tree.size == n
        leaves.append(n.to_bytes(2, "big"))
        tree.add(leaves[-1])


@given(st.lists(st.integers(0, 70), max_size=8))
def test_leaves_may_come_in_any_portions(portions: list[int]) -> None:
    leaves = [n.to_bytes(2, "big") for n in range(sum(portions))]
    tree, rest = Tree(), iter(leaves)
    for portion in portions:
        tree.extend(list(islice(rest, portion)))
    assert (tree.size, tree.root()) == (len(leaves), _mth(leaves))


def test_a_leaf_is_no_node() -> None:
    pair, one = Tree(), Tree()
    pair.add(b"a")
    pair.add(b"b")
    one.add(sha256(b"\0a").digest() + sha256(b"\0b").digest())
    assert pair.root() != one.root()
