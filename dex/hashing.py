"""The app hash: a chain over what each block changed and answered (PROTOCOL.md P5).

Rules
    H1. `app_hash_h = H(app_hash_(h-1) | h | results_hash | delta hash of each module)`. Modules
        stand in the fixed order of `MODULES`, also those that nothing changed in.
    H2. A module's delta is the canonical array of its changed records `[key, value or nil]`,
        ordered by key, so it depends on what changed and not on how the code went about it.
    H3. Height 0 chains from the genesis hash and has every first record in its deltas.

About a microsecond a change. Full Merkle roots are made at checkpoints and stand in the delta of
module `bridge` then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omninode.crypto import tagged_hash
from omninode.dex.outcomes import HashParts, TransactionResult
from omninode.encoding import encode

MODULES: Final = (
    "accounts",
    "orders",
    "markets",
    "nonces",
    "client_ids",
    "agents",
    "bridge",
    "staking",
    "sealed",
)

Changes = list[tuple[bytes, bytes | None]]


def _delta_hash(module: str, changes: Changes) -> bytes:
    return tagged_hash("omni/delta/1", module.encode(), encode(changes))


_UNCHANGED: Final = {module: _delta_hash(module, []) for module in MODULES}
_NO_RESULTS: Final = tagged_hash("omni/results/1", encode(()))


def hash_parts(results: Sequence[TransactionResult], changes: dict[str, Changes]) -> HashParts:
    """Hash a block's results and each module's changes, which are sorted by key (H2)."""
    results_hash = tagged_hash("omni/results/1", encode(results)) if results else _NO_RESULTS
    modules: list[tuple[str, bytes]] = []
    for module in MODULES:
        changed = changes.get(module)
        if changed:
            changed.sort()
            modules.append((module, _delta_hash(module, changed)))
        else:
            modules.append((module, _UNCHANGED[module]))
    return HashParts(results_hash, tuple(modules))


def chain_hash(previous: bytes, height: int, parts: HashParts) -> bytes:
    """Return the app hash of a height (H1)."""
    deltas = b"".join(delta for _, delta in parts.modules)
    return tagged_hash(
        "omni/app/1", previous, height.to_bytes(8, "big"), parts.results_hash, deltas
    )


def differing_parts(mine: HashParts, theirs: HashParts) -> tuple[str, ...]:
    """Name the modules (or `results`) in which two nodes differ, for the operator."""
    names = ["results"] if mine.results_hash != theirs.results_hash else []
    other = dict(theirs.modules)
    names += [module for module, delta in mine.modules if other.get(module) != delta]
    return tuple(names)
