"""The real exchange with real signed transactions, as the state machine of simulated nodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from omninode.consensus.types import Block
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.actions import Action, ApproveAgent, CancelOrder, PlaceOrder, Transfer
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
)
from omninode.dex.invariants import check_state
from omninode.dex.outcomes import TransactionResult, block_input
from omninode.dex.transaction import (
    Transaction,
    decode_transaction,
    recover_signer,
    sign_agent,
    sign_wallet,
)

GENESIS_MS = 1_700_000_000_000
TRADERS = [SigningKey(keccak256(b"simulated trader %d" % i)) for i in range(4)]
AGENTS = [SigningKey(keccak256(b"simulated agent %d" % i)) for i in range(4)]
VALIDATOR = SigningKey(keccak256(b"simulated validator"))


if TYPE_CHECKING:
    from omninode.node.simulation.epochs import Sets


def _genesis() -> Genesis:
    addresses = [checksum_address(key.address) for key in TRADERS]
    balances = [
        GenesisBalance(address, asset, "1000000")
        for address in addresses
        for asset in ("BTC", "USDC")
    ]
    return Genesis(
        chain_id="simulated-1",
        settlement_chain_id=1337,
        genesis_time_ms=GENESIS_MS,
        fees=FeeShares(treasury=addresses[0], development=addresses[1]),
        validators=(
            GenesisValidator(
                moniker="v0",
                address=checksum_address(VALIDATOR.address),
                public_key=VALIDATOR.public_key.hex(),
                peer_id="peer0",
                power=1,
            ),
        ),
        assets=(GenesisAsset("BTC", 8), GenesisAsset("USDC", 6)),
        markets=(GenesisMarket("BTC-USDC", "BTC", "USDC", tick="0.01", lot="0.0001"),),
        balances=tuple(balances),
    )


GENESIS = _genesis()
TRANSACTIONS_KEPT = 4_096
"""Transactions that are not signed and checked again; the oldest are."""
USDC = GENESIS.asset_index["USDC"]
DOMAIN = Domain(GENESIS.settlement_chain_id, GENESIS.hash)


@lru_cache(TRANSACTIONS_KEPT)
def _verified(raw: bytes) -> Transaction:
    """Check a transaction once for all nodes: they share the process, not the state."""
    transaction = decode_transaction(raw)
    recover_signer(transaction, DOMAIN)
    return transaction


class ExchangeMachine:
    """One node's exchange."""

    epoch = 0
    following = None

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._results: Sequence[TransactionResult] = ()

    @property
    def height(self) -> int:
        """The last executed height."""
        return self.exchange.height

    @property
    def app_hash(self) -> bytes:
        """The hash of the state."""
        return self.exchange.app_hash

    def apply(self, block: Block, transactions: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Execute a block; return the records to store."""
        outcome = self.exchange.apply(block_input(block, [_verified(raw) for raw in transactions]))
        self._results = outcome.results
        return outcome.writes

    def effective(self) -> Sequence[bytes]:
        """Return the ids of the newest block that were judged, not ignored."""
        return [result.hash for result in self._results if result.code != "ignored"]

    def check(self) -> None:
        """Scan the whole state: conservation, books, holds."""
        check_state(self.exchange.state, self.exchange._supply)

    def flip(self) -> None:
        """Turn one bit of a trader's balance over."""
        owner = self.exchange.state.accounts.owners[TRADERS[0].address]
        owner.subaccounts[0].balances[USDC].free ^= 1


class ExchangeWorkload:
    """Traders that place crossing orders, cancel, transfer, and approve session keys."""

    def begin(self, sets: Sets | None) -> None:
        """Cut no epochs: nobody has staked here."""

    def machine(self, records: dict[bytes, bytes]) -> ExchangeMachine:
        """Return an exchange at the state of these records."""
        return ExchangeMachine(Exchange.load(GENESIS, records.items()))

    def transaction(self, number: int, time_ms: int) -> tuple[bytes, bytes]:
        """Return the id and the bytes of some trader's next transaction."""
        transaction = _signed(number, time_ms)
        return transaction.hash, transaction.raw


@lru_cache(TRANSACTIONS_KEPT)
def _signed(number: int, time_ms: int) -> Transaction:
    trader = number % len(TRADERS)
    key, round_number = TRADERS[trader], number // len(TRADERS)
    nonce = time_ms + number % 7
    if round_number == 0 and trader < 2:
        approval = ApproveAgent(
            AGENTS[trader].address, "bot", ("trade", "cancel"), GENESIS_MS + 10**9
        )
        return sign_wallet(key, approval, nonce=nonce, domain=DOMAIN)
    action = _action(number, trader)
    if trader < 2 and number % 3 == 0:
        return sign_agent(AGENTS[trader], action, account=key.address, nonce=nonce, domain=DOMAIN)
    return sign_wallet(key, action, nonce=nonce, domain=DOMAIN)


def _action(number: int, trader: int) -> Action:
    if number % 11 == 10:
        return Transfer(0, TRADERS[(trader + 1) % len(TRADERS)].address, 0, "USDC", "12.5")
    if number % 7 == 6:
        return CancelOrder(0, b"", f"order-{number - 4}")
    return PlaceOrder(
        subaccount=0,
        market="BTC-USDC",
        side="buy" if (number // 2) % 2 else "sell",
        order_type="limit",
        size="0.5",
        price=f"{50_000 + (number * 37) % 5}",
        tif="gtc",
        post_only=False,
        slippage_ppm=0,
        client_id=f"order-{number}",
    )
