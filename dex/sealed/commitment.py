"""What a commitment hides, and where the beacon ranks it."""

from __future__ import annotations

from omninode.crypto import tagged_hash
from omninode.dex.actions import PlaceOrder
from omninode.encoding import encode


def make_commitment(account: bytes, order: PlaceOrder, salt: bytes) -> bytes:
    """Return the hash that binds an account to an order and tells nothing of it.

    Args:
        account: Who will place the order. It is part of the hash, so that a copied commitment is
            of no use to anybody else.
        order: The order in its canonical bytes.
        salt: 32 random bytes that stay secret until the order is revealed.
    """
    return tagged_hash("omni/sealed/1", account, encode(order), salt)


def rank_of(seed: bytes, beacon: bytes, commitment: bytes) -> bytes:
    """Return an order's rank in its batch, smaller is first.

    Each rank depends on its own commitment only: leaving an order out moves no other. `seed` and
    `beacon` are those of the first block after the window; the seed is the parent's hash on a
    network whose validators have no beacon keys.
    """
    return tagged_hash("omni/sealed-rank/1", seed, beacon, commitment)
