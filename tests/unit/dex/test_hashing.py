"""The chained app hash (PROTOCOL.md P5)."""

from __future__ import annotations

from omninode.crypto import tagged_hash
from omninode.dex.hashing import MODULES, chain_hash, differing_parts, hash_parts
from omninode.dex.outcomes import HashParts, TransactionResult
from omninode.encoding import encode


def test_a_delta_depends_on_what_changed_and_not_on_the_order_of_changes() -> None:
    one = hash_parts((), {"accounts": [(b"b", b"2"), (b"a", None)]})
    two = hash_parts((), {"accounts": [(b"a", None), (b"b", b"2")]})
    assert one == two
    assert dict(one.modules)["accounts"] == tagged_hash(
        "omni/delta/1", b"accounts", encode([[b"a", None], [b"b", b"2"]])
    )


def test_deleting_and_emptying_a_record_differ() -> None:
    gone = hash_parts((), {"orders": [(b"a", None)]})
    empty = hash_parts((), {"orders": [(b"a", b"")]})
    assert differing_parts(gone, empty) == ("orders",)


def test_every_module_has_its_part_also_unchanged() -> None:
    parts = hash_parts((), {})
    assert tuple(name for name, _ in parts.modules) == MODULES
    assert len({digest for _, digest in parts.modules}) == len(MODULES)


def test_results_are_covered() -> None:
    ok = hash_parts((TransactionResult(bytes(32), "ok"),), {})
    refused = hash_parts((TransactionResult(bytes(32), "rejected", "off_tick"),), {})
    assert differing_parts(ok, refused) == ("results",)


def test_the_chain_covers_its_past_its_height_and_every_part() -> None:
    parts = hash_parts((), {})
    first = chain_hash(bytes(32), 1, parts)
    other_results = HashParts(bytes(32), parts.modules)
    hashes = {
        first,
        chain_hash(bytes(32), 2, parts),
        chain_hash(first, 1, parts),
        chain_hash(bytes(32), 1, other_results),
    }
    for place, (name, _) in enumerate(parts.modules):
        modules = list(parts.modules)
        modules[place] = (name, bytes(32))
        hashes.add(chain_hash(bytes(32), 1, HashParts(parts.results_hash, tuple(modules))))
    assert len(hashes) == 4 + len(MODULES)
