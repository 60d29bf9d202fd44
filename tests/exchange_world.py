"""A small exchange for tests: three markets, four traders, and a database that gets every write.

Transactions count as signed by the account (or the session key) that they name; everything behind
the signature check is the real thing. `conftest.py` files load this module by its path.
"""

from __future__ import annotations

from typing import Any

from omninode.crypto import SIGNATURE_BYTES, SigningKey, checksum_address, keccak256
from omninode.dex.actions import Action, CancelAll, CancelOrder, PlaceOrder, ReplaceOrder, Transfer
from omninode.dex.events import Event
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
from omninode.dex.invariants import check_state
from omninode.dex.outcomes import BlockInput, BlockOutcome, TransactionResult
from omninode.dex.transaction import SCHEME_AGENT, SCHEME_WALLET, Transaction

ALICE, BOB, CAROL, DAVE = (keccak256(name)[-20:] for name in (b"alice", b"bob", b"carol", b"dave"))
TREASURY, DEVELOPMENT = (keccak256(name)[-20:] for name in (b"treasury", b"development"))
START_MS = 1_700_000_000_000
BLOCK_MS = 100
BTC, ETH, XOM = "BTC-USDC", "ETH-USDC", "XOM-USDC"


def make_genesis(**changes: Any) -> Genesis:
    """Build the genesis of the tests; `changes` replace whole sections."""
    key = SigningKey(keccak256(b"validator"))
    sections: dict[str, Any] = {
        "chain_id": "test",
        "settlement_chain_id": 31337,
        "genesis_time_ms": START_MS,
        "fees": FeeShares(
            treasury=checksum_address(TREASURY), development=checksum_address(DEVELOPMENT)
        ),
        "validators": (
            GenesisValidator(
                moniker="node0",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id="peer0",
                power=1,
            ),
        ),
        "assets": (
            GenesisAsset(name="USDC", decimals=6),
            GenesisAsset(name="BTC", decimals=8),
            GenesisAsset(name="ETH", decimals=18),
            GenesisAsset(name="XOM", decimals=18),
        ),
        "markets": (
            GenesisMarket(name=BTC, base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
            GenesisMarket(name=ETH, base="ETH", quote="USDC", tick="0.01", lot="0.0001"),
            GenesisMarket(name=XOM, base="XOM", quote="USDC", tick="0.0001", lot="1"),
        ),
        "balances": tuple(
            GenesisBalance(address=checksum_address(account), asset=asset, amount=amount)
            for account in (ALICE, BOB, CAROL)
            for asset, amount in (
                ("USDC", "1000000"),
                ("BTC", "10"),
                ("ETH", "100"),
                ("XOM", "100000"),
            )
        ),
        "limits": AccountLimits(max_open_orders_per_account=1_000),
    }
    genesis = Genesis(**(sections | changes))
    check_genesis(genesis)
    return genesis


def order(side: str, size: str, price: str = "", **fields: Any) -> PlaceOrder:
    """Build an order; without a price it is a market order with the default bound."""
    limit = bool(price)
    values: dict[str, Any] = {
        "subaccount": 0,
        "market": BTC,
        "side": side,
        "order_type": "limit" if limit else "market",
        "size": size,
        "price": price,
        "tif": "gtc" if limit else "ioc",
        "post_only": False,
        "slippage_ppm": 0 if limit else 50_000,
        "client_id": "",
    }
    return PlaceOrder(**(values | fields))


class World:
    """An exchange, its database and its clock."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.exchange = Exchange.genesis(genesis or make_genesis())
        self.database: dict[bytes, bytes] = {}
        self.events: tuple[Event, ...] = ()
        self.seed = bytes(32)
        self._nonce = 0

    @property
    def now_ms(self) -> int:
        return self.exchange.time_ms

    def transaction(
        self, account: bytes, action: Action, *, agent: bytes = b"", nonce: int | None = None
    ) -> Transaction:
        """Build a transaction with a fresh nonce near the next block's time."""
        if nonce is None:
            self._nonce = max(self._nonce + 1, self.now_ms)
            nonce = self._nonce
        scheme = SCHEME_AGENT if agent else SCHEME_WALLET
        made = Transaction(1, scheme, account, nonce, action, bytes(SIGNATURE_BYTES))
        made.set_signer(agent or account)
        return made

    def apply(self, *transactions: Transaction, after_ms: int = BLOCK_MS) -> BlockOutcome:
        """Apply one block, store its writes and check every invariant."""
        exchange = self.exchange
        outcome = exchange.apply(
            BlockInput(exchange.height + 1, exchange.time_ms + after_ms, self.seed, transactions)
        )
        for key, value in outcome.writes.items():
            if value is None:
                self.database.pop(key, None)
            else:
                self.database[key] = value
        self.events = outcome.events
        check_state(exchange.state, exchange._supply)
        return outcome

    def do(self, account: bytes, action: Action, **fields: Any) -> TransactionResult:
        """Apply a block with one transaction."""
        return self.apply(self.transaction(account, action, **fields)).results[0]

    def place(
        self, account: bytes, side: str, size: str, price: str = "", **fields: Any
    ) -> TransactionResult:
        return self.do(account, order(side, size, price, **fields))

    def cancel(
        self, account: bytes, order_id: bytes = b"", client_id: str = ""
    ) -> TransactionResult:
        return self.do(account, CancelOrder(0, order_id, client_id))

    def cancel_all(self, account: bytes, market: str = "") -> TransactionResult:
        return self.do(account, CancelAll(0, market))

    def replace(
        self, account: bytes, order_id: bytes, size: str, price: str, market: str = BTC
    ) -> TransactionResult:
        return self.do(account, ReplaceOrder(0, market, order_id, "", size, price))

    def transfer(self, account: bytes, to: bytes, amount: str, **fields: Any) -> TransactionResult:
        values = {"subaccount": 0, "to": to, "to_subaccount": 0, "asset": "USDC", "amount": amount}
        return self.do(account, Transfer(**(values | fields)))

    def balance(self, account: bytes, asset: str, subaccount: int = 0) -> tuple[int, int]:
        """Return (free, held) in base units."""
        found = self.exchange.state.accounts.find(account, subaccount)
        if found is None:
            return (0, 0)
        balance = found.balances.get(self.exchange.rules.asset_index[asset])
        return (0, 0) if balance is None else (balance.free, balance.held)

    def of_type(self, kind: type[Any]) -> list[Any]:
        """Return the last block's events of one type."""
        return [event for event in self.events if type(event) is kind]

    def reload(self) -> Exchange:
        """Load a second exchange from the database."""
        return Exchange.load(self.exchange.rules, self.database.items())

    def records(self) -> dict[bytes, bytes]:
        """Return the whole state as records, the head included."""
        return dict(self.exchange.records())
