"""What one core admits: decode, checks without state, signature, pool.

One thread, no disk, no peers: the part of admission that costs a processor. A node spreads the
signatures over threads (`node/signature_checks.py`).
"""

from __future__ import annotations

import time
from typing import Any, Final

from omninode.crypto import SigningKey, keccak256
from omninode.dex.actions import Action, Batch, PlaceOrder
from omninode.dex.decimals import format_units
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import (
    check_stateless,
    decode_transaction,
    recover_signer,
    sign_wallet,
)
from omninode.node.bench.collector import collector_off
from omninode.node.bench.path import path_genesis
from omninode.node.mempool import Mempool, PoolLimits

KEYS: Final = 100
WINDOW_MS: Final = 30_000


def admission(count: int, per_transaction: int) -> dict[str, Any]:
    """Time the admission of signed transactions.

    Args:
        count: Orders.
        per_transaction: Orders under one signature.
    """
    rules = path_genesis()
    domain = Domain(rules.settlement_chain_id, rules.hash)
    keys = [SigningKey(keccak256(b"bench %d" % number)) for number in range(KEYS)]
    raws = [
        sign_wallet(
            keys[number % KEYS],
            _action(number * per_transaction, per_transaction),
            nonce=number,
            domain=domain,
        ).raw
        for number in range(count // per_transaction)
    ]
    pool = Mempool(PoolLimits(2**31, 2**31, 2**31), nonce_window_ms=WINDOW_MS)
    with collector_off():
        began = time.process_time()
        for raw in raws:
            transaction = decode_transaction(raw)
            check_stateless(transaction, rules)
            recover_signer(transaction, domain)
            pool.add(transaction, received_ms=0)
        seconds = time.process_time() - began
    return {
        "orders_per_second": count / seconds,
        "signatures_per_second": len(raws) / seconds,
    }


def _action(first: int, orders: int) -> Action:
    placed = tuple(_order(number) for number in range(first, first + orders))
    return placed[0] if orders == 1 else Batch(cancels=(), replaces=(), orders=placed)


def _order(number: int) -> PlaceOrder:
    return PlaceOrder(
        subaccount=0,
        market=f"A{number % 20:02}-USDC",
        side="buy" if number % 2 else "sell",
        order_type="limit",
        size=format_units(1 + number % 10, 3),
        price=format_units(10_000 + number % 480, 2),
        tif="gtc",
        post_only=False,
        slippage_ppm=0,
        client_id=str(number),
    )
