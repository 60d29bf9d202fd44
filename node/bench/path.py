"""The full path of orders through the exchange, signatures apart: decode, nonces, matching, money.

Blocks of 1,000 operations over 20 markets and 1,000 accounts: each transaction is decoded from its
bytes and hashed, its nonce is judged, its orders are matched and settled with fees, events, records
and results are made, and the app hash is chained. What stays out is the check of signatures
(`admission`) and the disk.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from omninode.crypto import SIGNATURE_BYTES, SigningKey, checksum_address, keccak256
from omninode.dex.actions import Action, Batch, CancelOrder, PlaceOrder
from omninode.dex.decimals import format_units
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    AccountLimits,
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
    check_genesis,
)
from omninode.dex.outcomes import BlockInput
from omninode.dex.transaction import (
    SCHEME_WALLET,
    SIGNATURE_FIELD_BYTES,
    decode_transaction,
    encode_unsigned,
)
from omninode.node.bench.collector import collector_off
from omninode.node.bench.flows import Matcher, draw_cancel, draw_order, order_id, zipf_choice

MARKETS: Final = 20
ACCOUNTS: Final = 1_000
BLOCK_OPERATIONS: Final = 1_000
BLOCK_MS: Final = 20

_GENESIS_TIME_MS: Final = 1_700_000_000_000
_PLENTY: Final = "1000000000000"
_SIGNATURE_FIELD: Final = b"\xc4\x41" + bytes(SIGNATURE_BYTES)
assert len(_SIGNATURE_FIELD) == SIGNATURE_FIELD_BYTES


def path_genesis() -> Genesis:
    """Return a genesis of 20 markets and 1,000 accounts with more than they need."""
    key = SigningKey(keccak256(b"omninode bench validator"))
    fees = checksum_address(keccak256(b"omninode bench fees")[-20:])
    bases = [f"A{number:02}" for number in range(MARKETS)]
    genesis = Genesis(
        chain_id="omninode-bench",
        settlement_chain_id=0,
        genesis_time_ms=_GENESIS_TIME_MS,
        fees=FeeShares(treasury=fees, development=fees),
        validators=(
            GenesisValidator(
                moniker="bench",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id="none",
                power=1,
            ),
        ),
        assets=tuple(GenesisAsset(name=name, decimals=6) for name in ("USDC", *bases)),
        markets=tuple(
            GenesisMarket(name=f"{base}-USDC", base=base, quote="USDC", tick="0.01", lot="0.001")
            for base in bases
        ),
        balances=tuple(
            GenesisBalance(address=checksum_address(account), asset=asset, amount=_PLENTY)
            for account in _accounts()
            for asset in ("USDC", *bases)
        ),
        limits=AccountLimits(max_open_orders_per_account=2**53 - 1),
    )
    check_genesis(genesis)
    return genesis


def _accounts() -> list[bytes]:
    return [keccak256(b"bench %d" % number)[-20:] for number in range(ACCOUNTS)]


def path(count: int, per_transaction: int, seed: int) -> dict[str, Any]:
    """Time whole blocks.

    Args:
        count: Operations.
        per_transaction: 1 sends each on its own, more as batches of so many.
        seed: Of the flow.
    """
    exchange = Exchange.genesis(path_genesis())
    blocks = list(_blocks(count, per_transaction, seed))
    block_ms = []
    with collector_off():
        for raws, signers in blocks:
            began = time.process_time()
            _apply(exchange, raws, signers)
            block_ms.append((time.process_time() - began) * 1_000)
    return {
        "operations_per_second": count / (sum(block_ms) / 1_000),
        "block_ms_p50": statistics.median(block_ms),
        "block_ms_max": max(block_ms),
        "trades": sum(market.trades for market in exchange.state.market_list),
        "app_hash": exchange.app_hash.hex(),
    }


def _apply(exchange: Exchange, raws: Sequence[bytes], signers: Sequence[bytes]) -> None:
    """Decode and execute one block."""
    transactions = []
    for raw, signer in zip(raws, signers, strict=True):
        transaction = decode_transaction(raw)
        transaction.set_signer(signer)  # what a check of the signature would have found
        transactions.append(transaction)
    time_ms = exchange.time_ms + BLOCK_MS
    exchange.apply(BlockInput(exchange.height + 1, time_ms, exchange.app_hash, transactions))


def _blocks(
    count: int, per_transaction: int, seed: int
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield each block's transaction bytes and their signers."""
    drawer = _Drawer(count, seed)
    per_block = BLOCK_OPERATIONS // per_transaction
    nonce = _GENESIS_TIME_MS
    for _ in range(count // BLOCK_OPERATIONS):
        raws, signers = [], []
        nonce += BLOCK_MS
        for place in range(per_block):
            account, action = drawer.transaction(per_transaction)
            # Distinct in the block, as an account may come twice; within the window by far.
            raws.append(
                encode_unsigned(SCHEME_WALLET, account=account, nonce=nonce + place, action=action)
                + _SIGNATURE_FIELD
            )
            signers.append(account)
        yield raws, signers


class _Drawer:
    """Draws transactions; cancels are of orders that still rest in a reference run."""

    def __init__(self, count: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._accounts = _accounts()
        self._live: list[list[tuple[bytes, int]]] = [[] for _ in self._accounts]
        self._markets = iter(zipf_choice(self._rng, MARKETS, count))
        self._reference = Matcher(MARKETS)
        self._number = 0

    def transaction(self, operations: int) -> tuple[bytes, Action]:
        """Draw one transaction: its account and its action."""
        rng = self._rng
        who = rng.randrange(ACCOUNTS)
        cancels: list[CancelOrder] = []
        orders: list[PlaceOrder] = []
        kinds = rng.choices(("add", "cancel", "take"), weights=(60, 35, 5), k=operations)
        for kind in sorted(kinds, key=lambda kind: kind != "cancel"):  # a batch cancels first
            market = next(self._markets)
            cancelled = self._cancel(who) if kind == "cancel" else None
            if cancelled is not None:
                cancels.append(cancelled)
            else:
                orders.append(self._place(who, market, is_take=kind == "take"))
        single: Action = cancels[0] if cancels else orders[0]
        action = single if operations == 1 else Batch(tuple(cancels), (), tuple(orders))
        return self._accounts[who], action

    def _cancel(self, who: int) -> CancelOrder | None:
        step = draw_cancel(self._rng, self._live[who], self._reference)
        if step is None:
            return None
        self._reference.run((step,))
        return CancelOrder(0, b"", _client_id(step[2]))

    def _place(self, who: int, market: int, *, is_take: bool) -> PlaceOrder:
        self._number += 1
        step = draw_order(self._rng, order_id(self._number), market, is_take=is_take)
        _, _, identifier, is_buy, price, size = step
        if not is_take:
            self._live[who].append((identifier, market))
        self._reference.run((step,))
        return PlaceOrder(
            subaccount=0,
            market=f"A{market:02}-USDC",
            side="buy" if is_buy else "sell",
            order_type="limit",
            size=format_units(size, 3),
            price=format_units(price, 2),
            tif="ioc" if is_take else "gtc",
            post_only=False,
            slippage_ppm=0,
            client_id=_client_id(identifier),
        )


def _client_id(identifier: bytes) -> str:
    return str(int.from_bytes(identifier, "big"))
