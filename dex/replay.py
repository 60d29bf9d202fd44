"""Recorded order events through the exchange, one a block, compared with the printed trades.

The market is BTC-USDC with a tick of 0.01 and a lot of 0.00000001, without minimum notional, price
band or order limit. Buyers and sellers are two different accounts with more funds than they need,
so nothing but price-time priority decides who trades with whom. The file's format is described in
`configs/replay/README.md`.

Nothing is read and no time is measured here: callers hand in the document and hold the watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from omninode.crypto import SIGNATURE_BYTES, SigningKey, checksum_address, keccak256
from omninode.dex.actions import PPM, Action, CancelOrder, PlaceOrder
from omninode.dex.decimals import format_units
from omninode.dex.events import Trade
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
from omninode.dex.transaction import SCHEME_WALLET, TRANSACTION_VERSION, Transaction, order_id
from omninode.errors import ConfigError

MARKET: Final = "BTC-USDC"
PRICE_DECIMALS: Final = 2
SIZE_DECIMALS: Final = 8
BUYER: Final = keccak256(b"omninode replay buyer")[-20:]
SELLER: Final = keccak256(b"omninode replay seller")[-20:]
REPLAY_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest uncompressed replay document; more is refused."""

_GENESIS_TIME_MS: Final = 1_777_689_360_000
_PLENTY: Final = "1000000000000000"
_NO_SIGNATURE: Final = bytes(SIGNATURE_BYTES)


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded event: kind `L`, `P`, `M` or `C`; price in cents, amount in 1e-8 BTC."""

    time_ms: int
    kind: str
    number: int
    is_buy: bool = False
    price: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded flow and the trades `(taker, maker, price, amount)` that really came of it."""

    operations: tuple[Operation, ...]
    trades: tuple[tuple[int, int, int, int], ...]


def parse_replay(data: bytes, *, source: str = "replay file") -> Replay:
    """Read an uncompressed replay document.

    Raises:
        ConfigError: Not such a document.
    """
    if len(data) > REPLAY_BYTES_MAX:
        raise ConfigError(f"{source}: {len(data)} bytes, at most {REPLAY_BYTES_MAX} allowed")
    try:
        raw = msgspec.json.decode(data)
        operations = tuple(_operation(entry) for entry in raw["ops"])
        trades = msgspec.convert(raw["trades"], tuple[tuple[int, int, int, int], ...])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not a replay document: {error}") from None
    return Replay(operations, trades)


def replay_genesis() -> Genesis:
    """Return the genesis of the replay: one market without bounds, two rich accounts."""
    key = SigningKey(keccak256(b"omninode replay validator"))
    fees = checksum_address(keccak256(b"omninode replay fees")[-20:])
    genesis = Genesis(
        chain_id="omninode-replay",
        settlement_chain_id=0,
        genesis_time_ms=_GENESIS_TIME_MS,
        fees=FeeShares(treasury=fees, development=fees),
        validators=(
            GenesisValidator(
                moniker="replay",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id="none",
                power=1,
            ),
        ),
        assets=(GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="BTC", decimals=8)),
        markets=(
            GenesisMarket(name=MARKET, base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
        ),
        balances=(
            GenesisBalance(address=checksum_address(BUYER), asset="USDC", amount=_PLENTY),
            GenesisBalance(address=checksum_address(SELLER), asset="BTC", amount=_PLENTY),
        ),
        limits=AccountLimits(max_open_orders_per_account=2**53 - 1),
    )
    check_genesis(genesis)
    return genesis


class ReplayRun:
    """One pass of a recorded flow through an exchange of its own, an operation a block."""

    def __init__(self) -> None:
        self.exchange: Final = Exchange.genesis(replay_genesis())
        self.trades: Final[list[tuple[int, int, int, int]]] = []
        self._orders: dict[int, tuple[bytes, bytes]] = {}
        self._numbers: dict[bytes, int] = {}

    def step(self, operation: Operation) -> None:
        """Apply one operation as a block and note the trades it makes."""
        exchange = self.exchange
        height = exchange.height + 1
        time_ms = exchange.time_ms + 1
        transaction = self._transaction(operation, time_ms)
        transactions = () if transaction is None else (transaction,)
        outcome = exchange.apply(BlockInput(height, time_ms, exchange.app_hash, transactions))
        for event in outcome.events:
            if type(event) is Trade:
                taker = self._numbers[event.taker_order_id]
                maker = self._numbers[event.maker_order_id]
                self.trades.append((taker, maker, event.price, event.size))

    def _transaction(self, operation: Operation, nonce: int) -> Transaction | None:
        """Build what a trader would have signed; None for the cancel of an unknown order."""
        action: Action
        if operation.kind == "C":
            known = self._orders.get(operation.number)
            if known is None:
                return None
            account, identity = known
            return _transaction(account, nonce, CancelOrder(0, identity, ""))
        account = BUYER if operation.is_buy else SELLER
        is_market = operation.kind == "M"
        action = PlaceOrder(
            subaccount=0,
            market=MARKET,
            side="buy" if operation.is_buy else "sell",
            order_type="market" if is_market else "limit",
            size=format_units(operation.amount, SIZE_DECIMALS),
            price="" if is_market else format_units(operation.price, PRICE_DECIMALS),
            tif="ioc" if is_market else "gtc",
            post_only=operation.kind == "P",
            slippage_ppm=PPM if is_market else 0,
            client_id="",
        )
        transaction = _transaction(account, nonce, action)
        identity = order_id(transaction.hash, 0)
        self._orders[operation.number] = (account, identity)
        self._numbers[identity] = operation.number
        return transaction


def trades_in_sequence(
    made: list[tuple[int, int, int, int]], expected: tuple[tuple[int, int, int, int], ...]
) -> int:
    """Count the expected trades that were made, from the first to the first that differs."""
    count = 0
    for mine, theirs in zip(made, expected, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _operation(entry: list[object]) -> Operation:
    """Read one entry of `ops`."""
    if len(entry) == 3:
        cancel = msgspec.convert(entry, tuple[int, Literal["C"], int])
        return Operation(cancel[0], cancel[1], cancel[2])
    read = msgspec.convert(
        entry, tuple[int, Literal["L", "P", "M"], int, Literal["B", "S"], int, int]
    )
    time_ms, kind, number, side, price, amount = read
    return Operation(time_ms, kind, number, side == "B", price, amount)


def _transaction(account: bytes, nonce: int, action: Action) -> Transaction:
    """Build a transaction that counts as signed by its account."""
    transaction = Transaction(
        TRANSACTION_VERSION, SCHEME_WALLET, account, nonce, action, _NO_SIGNATURE
    )
    transaction.set_signer(account)
    return transaction
