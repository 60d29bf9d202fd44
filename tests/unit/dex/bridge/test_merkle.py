"""The dense tree, its frontier and its proofs: against vectors and a tree built by the book."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from omninode.crypto import keccak256
from omninode.dex.bridge.merkle import (
    EMPTY_ROOT,
    DenseTree,
    Peaks,
    hash_pair,
    proof,
    root_of,
    verify,
)
from omninode.errors import BrokenInvariant

VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "settlement" / "trees.json"
LEAVES = [keccak256(index.to_bytes(32, "big")) for index in range(128)]


def by_the_book(leaves: list[bytes]) -> bytes:
    """Pair up level by level; the odd last one goes up as it is."""
    level = list(leaves)
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [hash_pair(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0] if level else EMPTY_ROOT


class Grown:
    """A frontier and the nodes that it gave out on its way."""

    def __init__(self, count: int) -> None:
        self.peaks = Peaks()
        self.nodes: dict[tuple[int, int], bytes] = {}
        for leaf in LEAVES[:count]:
            for level, index, node in self.peaks.append(leaf):
                assert (level, index) not in self.nodes, "each node is given out once"
                self.nodes[level, index] = node

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def test_the_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors["leaf"] == "keccak256(uint256(index))"
    assert len(vectors["trees"]) > 10
    for tree in vectors["trees"]:
        grown = Grown(tree["count"])
        root = bytes.fromhex(tree["root"][2:])
        assert grown.peaks.root() == root
        assert root_of(LEAVES[: tree["count"]]) == root
        for case in tree["proofs"]:
            siblings = [bytes.fromhex(sibling[2:]) for sibling in case["proof"]]
            assert proof(case["index"], tree["count"], grown.node) == siblings
            assert verify(LEAVES[case["index"]], siblings, root)


@pytest.mark.parametrize("count", range(34))
def test_frontier_tree_and_book_agree_and_every_leaf_has_its_proof(count: int) -> None:
    grown = Grown(33)
    root = by_the_book(LEAVES[:count])
    assert root_of(LEAVES[:count]) == root
    restored = Peaks.restore(count, grown.node)
    assert restored.root() == root
    assert (restored.count, restored.peaks) == (count, Grown(count).peaks.peaks)
    for index in range(count):
        siblings = proof(index, count, grown.node)
        assert verify(LEAVES[index], siblings, root)
        assert not verify(LEAVES[index + 1], siblings, root)
        for other in range(34):
            if other != count:
                assert not verify(LEAVES[index], siblings, by_the_book(LEAVES[:other]))


def test_a_tree_that_changes_and_grows_is_that_of_its_leaves(rng: random.Random) -> None:
    tree, leaves = DenseTree(), list[bytes]()
    for _ in range(300):
        for _ in range(rng.choice((0, 1, 1, 7))):
            leaf = rng.randbytes(32)
            if leaves and rng.random() < 0.6:
                index = rng.randrange(len(leaves))
                leaves[index] = leaf
                tree.update(index, leaf)
            else:
                assert tree.append(leaf) == len(leaves)
                leaves.append(leaf)
        if rng.random() < 0.7:
            assert tree.root() == by_the_book(leaves)
            assert len(tree) == len(leaves)


def test_the_empty_tree_and_one_leaf() -> None:
    assert Peaks().root() == DenseTree().root() == EMPTY_ROOT == bytes(32)
    assert root_of(LEAVES[:1]) == LEAVES[0]
    assert verify(LEAVES[0], [], LEAVES[0])


@pytest.mark.parametrize(("index", "count"), [(0, 0), (3, 3), (-1, 3)])
def test_what_is_not_in_the_tree_has_no_proof(index: int, count: int) -> None:
    with pytest.raises(BrokenInvariant):
        proof(index, count, Grown(3).node)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(BrokenInvariant):
        Peaks(3, LEAVES[:1])
    with pytest.raises(BrokenInvariant):
        DenseTree(LEAVES[:3]).update(3, LEAVES[0])
