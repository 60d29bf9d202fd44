"""Dense Merkle trees as OpenZeppelin's `MerkleProof` verifies them.

Rules
    T1. A node is keccak256 of its two children, the smaller first, so a proof needs no directions.
    T2. The last node of a level with an odd number of nodes goes up unchanged. The root of no
        leaves is 32 zero bytes; the root of one leaf is that leaf.
    T3. Node `(level, index)` stands over leaves `index << level` up to the next one's. Once all of
        them are there it never changes in a tree that only grows; such nodes are enough for every
        proof against every size of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from omninode.crypto import HASH_BYTES, ZERO_HASH, keccak256
from omninode.errors import BrokenInvariant

EMPTY_ROOT: Final = ZERO_HASH
Node = tuple[int, int, bytes]
"""Level, index, hash."""


def hash_pair(one: bytes, other: bytes) -> bytes:
    """Return the parent of two nodes (T1)."""
    return keccak256(one + other if one < other else other + one)


def _parent(pair: bytes) -> bytes:
    """Return the parent of two nodes that lie side by side, or of a lone one (T1, T2)."""
    left, right = pair[:HASH_BYTES], pair[HASH_BYTES:]
    if left < right:
        return keccak256(pair)
    return keccak256(right + left) if right else left


class DenseTree:
    """A tree whose leaves change and grow: the path of each changed leaf is hashed once per `root`.

    Levels lie in one bytearray each; two hashes of memory a leaf.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray().join(leaves)]
        self._dirty: set[int] = set(range(len(self)))

    def __len__(self) -> int:
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Add a leaf; returns its index."""
        index = len(self)
        self._levels[0] += leaf
        self._dirty.add(index)
        return index

    def update(self, index: int, leaf: bytes) -> None:
        """Replace a leaf.

        Raises:
            BrokenInvariant: There is no such leaf.
        """
        if not 0 <= index < len(self):
            raise BrokenInvariant(f"leaf {index} of {len(self)}")
        self._levels[0][index * HASH_BYTES : (index + 1) * HASH_BYTES] = leaf
        self._dirty.add(index)

    def root(self) -> bytes:
        """Bring the tree up to date and return its root (T2)."""
        changed = self._dirty
        self._dirty = set()
        level = 0
        while len(self._levels[level]) > HASH_BYTES:
            changed = self._raise_level(level, changed)
            level += 1
        return bytes(self._levels[level]) or EMPTY_ROOT

    def proof(self, index: int) -> tuple[bytes, ...]:
        """Return the siblings on the way from a leaf to the root that was computed last.

        Raises:
            BrokenInvariant: There is no such leaf.
        """
        if not 0 <= index < len(self):
            raise BrokenInvariant(f"leaf {index} of {len(self)}")
        siblings = []
        for nodes in self._levels:
            start = (index ^ 1) * HASH_BYTES
            if start < len(nodes):
                siblings.append(bytes(nodes[start : start + HASH_BYTES]))
            index >>= 1
        return tuple(siblings)

    def _raise_level(self, level: int, changed: set[int]) -> set[int]:
        """Recompute the parents of a level's changed nodes; returns which those are."""
        nodes = self._levels[level]
        if level + 1 == len(self._levels):
            self._levels.append(bytearray())
        parents = self._levels[level + 1]
        width = len(nodes) // HASH_BYTES
        missing = (width + 1) // 2 * HASH_BYTES - len(parents)
        parents += bytes(missing)
        raised = {index >> 1 for index in changed}
        with memoryview(nodes) as view:
            for index in raised:
                start = 2 * index * HASH_BYTES
                pair = bytes(view[start : start + 2 * HASH_BYTES])
                parents[index * HASH_BYTES : (index + 1) * HASH_BYTES] = _parent(pair)
        return raised


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaves that are at hand (T2)."""
    return DenseTree(leaves).root()


class Peaks:
    """The frontier of a tree that only grows: its root in a few hashes, without its leaves.

    Args:
        count: How many leaves there are.
        peaks: The roots of the full subtrees that they make, the largest first.
    """

    def __init__(self, count: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != count.bit_count():
            raise BrokenInvariant(f"{len(peaks)} peaks over {count} leaves")
        self.count = count
        self._peaks: list[bytes] = list(peaks)

    @classmethod
    def restore(cls, count: int, node: Callable[[int, int], bytes]) -> Self:
        """Take the frontier back from stored nodes.

        Args:
            count: How many leaves there are.
            node: Returns the node at `(level, index)`; asked for full subtrees only (T3).
        """
        levels = reversed(range(count.bit_length()))
        peaks = [node(level, (count >> level) - 1) for level in levels if count >> level & 1]
        return cls(count, peaks)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the full subtrees, the largest first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf; returns the nodes that are full now, the leaf first (T3)."""
        index, level, node = self.count, 0, leaf
        completed: list[Node] = [(0, index, leaf)]
        while index & 1:
            node = hash_pair(self._peaks.pop(), node)
            index >>= 1
            level += 1
            completed.append((level, index, node))
        self._peaks.append(node)
        self.count += 1
        return completed

    def root(self) -> bytes:
        """Return the root over all leaves (T2)."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = hash_pair(peak, root)
        return root


def proof(index: int, count: int, node: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the siblings on the way from a leaf to the root of the first `count` leaves.

    Args:
        index: The leaf.
        count: The size of the tree that is proven against.
        node: Returns the node at `(level, index)`; asked for full subtrees only (T3).

    Raises:
        BrokenInvariant: The leaf is not in the tree.
    """
    if not 0 <= index < count:
        raise BrokenInvariant(f"leaf {index} of {count}")
    siblings = []
    level, width = 0, count
    last = node(0, count - 1)
    while width > 1:
        sibling = index ^ 1
        if sibling < width:
            siblings.append(last if sibling == width - 1 else node(level, sibling))
        if not width & 1:
            last = hash_pair(node(level, width - 2), last)
        index, width, level = index >> 1, (width + 1) >> 1, level + 1
    return siblings


def verify(leaf: bytes, siblings: Sequence[bytes], root: bytes) -> bool:
    """Whether a leaf with its siblings leads to a root, as `MerkleProof.verify` has it."""
    node = leaf
    for sibling in siblings:
        node = hash_pair(node, sibling)
    return node == root
