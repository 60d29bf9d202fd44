"""Who lives in a devnet, and with which keys: all derived from its seed, so of no worth elsewhere.

`alice bob carol dave` are for people and scripts; buyers and sellers send the recorded order flow;
`house` quotes the other markets; movers deposit from the settlement chain and withdraw to it.
Stakers own the validators' stakes: `omninode stake exit --from staker-03` takes one back.
"""

from __future__ import annotations

from typing import Final

from omninode.crypto import SigningKey, tagged_hash

PEOPLE: Final = ("alice", "bob", "carol", "dave")
HOUSE: Final = "house"
TRADERS_PER_SIDE: Final = 16
BUYERS: Final = tuple(f"buyer-{index:02}" for index in range(TRADERS_PER_SIDE))
SELLERS: Final = tuple(f"seller-{index:02}" for index in range(TRADERS_PER_SIDE))
MOVERS: Final = tuple(f"mover-{index:02}" for index in range(4))
NAMES: Final = (*PEOPLE, HOUSE, *BUYERS, *SELLERS, *MOVERS)
TREASURY: Final = "treasury"
DEVELOPMENT: Final = "development"
DEPLOYER: Final = "deployer"
RESERVE: Final = "reserve"
"""Pays the validators' inflation."""

_SEED_BYTES: Final = 16


def derive_key(seed: int, name: str) -> SigningKey:
    """Return the key of a name in the devnet of a seed (0 … 2**128 - 1)."""
    return SigningKey(
        tagged_hash("omni/devnet/1", seed.to_bytes(_SEED_BYTES, "big"), name.encode())
    )


def staker(index: int) -> str:
    """Return the name of whoever owns the stake of a validator of genesis."""
    return f"staker-{index:02}"


def derive_keys(seed: int) -> dict[str, SigningKey]:
    """Return the keys of everybody, by name."""
    return {name: derive_key(seed, name) for name in NAMES}
